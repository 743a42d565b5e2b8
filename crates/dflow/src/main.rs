//! `dflow`: runs flows that stop for outside input, and resumes them.

mod args;
mod ask;
mod commands;
mod config;
mod context;
mod failure;
mod json;
mod output;
mod progress;
mod render;
mod terminal;
mod tools;
mod tree;
mod words;

use std::{ffi::OsString, io, process::ExitCode};

use clap::{Parser as _, error::ErrorKind as ClapKind};
use tracing_subscriber::EnvFilter;

use crate::{
    args::Args,
    context::Context,
    failure::{Exit, Failure},
    output::Failed,
    terminal::{Terminal, say},
};

/// With the one of the C library, a fifth of the time of a run goes by in allocating.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let typed: Vec<OsString> = std::env::args_os().collect();
    // Errors in the command line are JSON, too, though it could not be read.
    let json = typed.iter().take_while(|word| *word != "--").any(|word| word == "--json");
    match Args::try_parse_from(typed) {
        Ok(args) => run(args).into(),
        Err(error) => refuse(&error, json).into(),
    }
}

fn run(args: Args) -> Exit {
    let verbose = args.global.verbose;
    let terminal = Terminal::new(args.global.json, verbose);
    trace(verbose, terminal);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            say(&format!("the program can't start: {error}"));
            return Exit::State;
        }
    };
    let result = runtime.block_on(async {
        let context = Context::resolve(args.global, args.command.needs_settings())?;
        commands::perform(&context, args.command).await
    });
    // A tool that blocks its thread must not keep a program from ending that was asked to.
    runtime.shutdown_background();
    match result {
        Ok(exit) => exit,
        Err(Failure::Told(exit)) => exit,
        Err(Failure::Output(error)) => tell_unwritten(&error, terminal.json),
        Err(Failure::Error(error, document)) => {
            if terminal.json {
                say(&terminal::to_json(&failure::problem(&error)));
            } else {
                terminal.tell(&failure::explain(&error, document.as_ref(), terminal.err));
            }
            failure::exit_of(&error)
        }
    }
}

/// Says that a result could not be written.
fn tell_unwritten(error: &io::Error, json: bool) -> Exit {
    match json {
        true => say(&terminal::to_json(&Failed::unwritten(error))),
        false => say(&format!("error: the result could not be written: {error}")),
    }
    Exit::State
}

/// What clap says, be it help that was asked for or a refusal.
fn refuse(error: &clap::Error, json: bool) -> Exit {
    match error.kind() {
        ClapKind::DisplayHelp | ClapKind::DisplayVersion => match error.print() {
            // Whoever reads has seen enough.
            Err(unwritten) if unwritten.kind() != io::ErrorKind::BrokenPipe => {
                tell_unwritten(&unwritten, json)
            }
            _ => Exit::Done,
        },
        _ if json => {
            let text = redacted(&error.to_string());
            // What follows is for people.
            let text = text.split("\n\nUsage:").next().unwrap_or_default();
            let text = text.split("\n\nFor more information").next().unwrap_or_default();
            let words: Vec<&str> = text.trim_start_matches("error: ").split_whitespace().collect();
            say(&terminal::to_json(&failure::problem(&failure::usage(words.join(" ")))));
            Exit::Usage
        }
        _ => {
            let terminal = Terminal::new(false, false);
            let text = error.to_string();
            // It quotes what was typed, and that may have been a key or a password.
            terminal.tell(&match redacted(&text) {
                redacted if redacted != text => redacted,
                _ if terminal.err == render::Style::plain() => text,
                _ => error.render().ansi().to_string(),
            });
            Exit::Usage
        }
    }
}

/// A text in which no suspension key and no password of a URL is left.
fn redacted(text: &str) -> String {
    without_passwords(&without_keys(text))
}

/// A text in which nothing is left of a URL that may hold a password but its scheme.
fn without_passwords(text: &str) -> String {
    let mut parts = text.split("://");
    let mut redacted = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        redacted.push_str("://");
        let (rest, after) = part.split_at(part.find(char::is_whitespace).unwrap_or(part.len()));
        redacted.push_str(if rest.contains(['@', '?']) { "…" } else { rest });
        redacted.push_str(after);
    }
    redacted
}

/// A text in which no suspension key is left, nor most of one.
pub(crate) fn without_keys(text: &str) -> String {
    /// Fewer characters hold nothing of the secret: a key begins with the id of its run.
    const PART: usize = 16;
    /// What follows the prefix of a key of which most is there: 64 characters of a whole one.
    const WHOLE: usize = 40;
    let is_secret = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let (mut redacted, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once("df_") {
        redacted.push_str(before);
        let behind = after.trim_start_matches(is_secret);
        // `pdf_invoice.yaml` is no key; what was typed in front of one does not make it another.
        let in_word = redacted.chars().next_back().is_some_and(char::is_alphanumeric);
        let is_key = after.len() - behind.len() >= if in_word { WHOLE } else { PART };
        redacted.push_str(if is_key { "df_…" } else { "df_" });
        rest = if is_key { behind } else { after };
    }
    redacted.push_str(rest);
    redacted
}

/// Lets the library and this program tell what they do, on standard error. Nobody else: other
/// libraries may log what passes through them.
fn trace(verbose: bool, terminal: Terminal) {
    let level = if verbose { "debug" } else { "error" };
    let filter = EnvFilter::new(format!("off,dynamic_flow={level},dflow={level}"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(terminal.err != render::Style::plain())
        .init();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_left_out_and_names_are_not() {
        let key = format!("df_{}", "aB3-_xYz".repeat(8));
        for (text, redacted) in [
            (key.clone(), "df_…"),
            (format!("path '{key}' is none"), "path 'df_…' is none"),
            (format!("--{key}, ./{key}.yaml"), "--df_…, ./df_….yaml"),
            (format!("{key}{key} {key}"), "df_… df_…"),
            (key[..19].to_owned(), "df_…"),
            (format!("p{key}"), "pdf_…"),
            (format!("pdf_{key}"), "pdf_…"),
        ] {
            assert_eq!(without_keys(&text), redacted, "{text}");
        }
        for name in ["pdf_invoice.yaml", "pdf_a-name-of-some-length.yaml", "df_1", "df_…", "df_"]
        {
            assert_eq!(without_keys(name), name);
        }
    }
}
