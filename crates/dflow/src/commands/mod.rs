//! What each subcommand does.

mod doctor;
mod flows;
mod inspect;
mod keys;
mod manage;
mod run;

use std::{
    fs,
    io::{self, BufRead as _},
};

use dynamic_flow::{Error, ErrorKind, Result, value::MAX_VALUE_DEPTH};
use serde_json::Value;

use crate::{
    args::Command,
    context::Context,
    failure::{Exit, Failure, usage},
    json::{self, Wrong},
    words,
};

/// Does what was asked for.
pub(crate) async fn perform(context: &Context, command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Run(args) => run::run(context, args).await,
        Command::Resume(args) => run::resume(context, args.given).await,
        Command::Answer(args) => run::answer(context, args.given).await,
        Command::Retry(args) => run::retry(context, args.run).await,
        Command::List(args) => inspect::list(context, args).await,
        Command::Show(args) => inspect::show(context, args).await,
        Command::Reissue(args) => manage::reissue(context, args).await,
        Command::Cancel(args) => manage::cancel(context, args).await,
        Command::Cleanup(args) => manage::cleanup(context, args).await,
        Command::Work(args) => manage::work(context, &args).await,
        Command::Keygen(_) => keys::keygen(context),
        Command::RotateKeys(args) => keys::rotate(context, &args).await,
        Command::Check(args) => flows::check(context, &args).await,
        Command::Upgrade(args) => flows::upgrade(context, args).await,
        Command::Diagram(args) => flows::diagram(context, &args),
        Command::Tools(args) => flows::tools(context, &args),
        Command::Schema(args) => flows::schema(context, &args),
        Command::Completions(args) => flows::completions(context, &args),
        Command::Doctor(_) => doctor::doctor(context).await,
    }
}

/// Reads JSON as it was given: itself, `@FILE`, or `-` for standard input.
fn read_json(given: &str) -> Result<Value> {
    let (text, from) = match given {
        "-" => {
            let text = words::read_text(io::stdin());
            let text = text.map_err(|error| unreadable("standard input", &error))?;
            (text, "standard input".to_owned())
        }
        given => match given.strip_prefix('@') {
            Some(path) => {
                let text = fs::File::open(path).and_then(words::read_text);
                let text =
                    text.map_err(|error| unreadable("the input", &error).with("path", path))?;
                (text, path.to_owned())
            }
            None => (given.to_owned(), "--input".to_owned()),
        },
    };
    // As in documents, some editors begin a file with one.
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let invalid = |message| Error::new(ErrorKind::InputValidationError, message);
    if text.trim().is_empty() {
        return Err(invalid("the input is empty, and no JSON").with("in", from));
    }
    json::read(text).map_err(|wrong| {
        let (error, line, column) = match wrong {
            Wrong::NoJson { line, column } => (invalid("the input is no JSON"), line, column),
            Wrong::Twice { key, line, column } => {
                let message = "the input has a key twice; say which of the two counts";
                (invalid(message).with("key", key), line, column)
            }
            Wrong::Deep { line, column } => {
                let message = format!("the input nests deeper than {MAX_VALUE_DEPTH} levels");
                let error = Error::new(ErrorKind::LimitExceeded, message);
                (error.with("levels", MAX_VALUE_DEPTH), line, column)
            }
            Wrong::Rounded { line, column } => (invalid(json::ROUNDED), line, column),
        };
        error.with("in", from).with("at", format!("{line}:{column}"))
    })
}

/// Reads one line: a key, and nothing that comes after it.
fn read_line() -> Result<String> {
    let mut line = String::new();
    io::stdin()
        .lock()
        .read_line(&mut line)
        .map_err(|error| usage(format!("standard input can't be read: {error}")))?;
    Ok(line)
}

/// Why an input was not read; what is wrong with the input itself is told as of any other input.
fn unreadable(what: &str, error: &io::Error) -> Error {
    let message = format!("{what} can't be read: {error}");
    match error.kind() {
        io::ErrorKind::InvalidData => Error::new(ErrorKind::InputValidationError, message),
        io::ErrorKind::FileTooLarge => Error::new(ErrorKind::LimitExceeded, message)
            .with("size", format!("more than {}", words::MOST_READ)),
        _ => usage(message),
    }
}
