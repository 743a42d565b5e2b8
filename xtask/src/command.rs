//! Runs cargo in the workspace, and says which command failed.

use std::{
    env,
    ffi::OsString,
    io::{self, BufRead as _, BufReader, IsTerminal as _, Read, Write},
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    thread,
};

use anyhow::{Context as _, Result, bail};

/// The cargo that runs this program, in the workspace's root.
#[derive(Clone)]
pub(crate) struct Cargo {
    program: OsString,
    root: PathBuf,
    variables: Vec<(&'static str, String)>,
}

impl Cargo {
    /// Finds the workspace that this program belongs to.
    pub(crate) fn here() -> Result<Self> {
        let manifest = env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = manifest.parent().context("xtask stands in the root of its workspace")?.into();
        let program = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        Ok(Self { program, root, variables: Vec::new() })
    }

    /// The workspace's root.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The same with these variables in its environment.
    pub(crate) fn with(&self, variables: Vec<(&'static str, String)>) -> Self {
        Self { variables, ..self.clone() }
    }

    fn command(&self, args: &[String]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(args).current_dir(&self.root);
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs cargo with this program's own input and outputs.
    pub(crate) fn run(&self, args: impl IntoIterator<Item = String>) -> Result<()> {
        let args: Vec<String> = args.into_iter().collect();
        let status = self.command(&args).status().with_context(|| cannot_start(&args))?;
        succeeded(status, &args)
    }

    /// Runs cargo and gives what it prints on its standard output.
    pub(crate) fn output(&self, args: impl IntoIterator<Item = String>) -> Result<String> {
        let args: Vec<String> = args.into_iter().collect();
        let mut command = self.command(&args);
        let output =
            command.stderr(Stdio::inherit()).output().with_context(|| cannot_start(&args))?;
        succeeded(output.status, &args)?;
        String::from_utf8(output.stdout)
            .with_context(|| format!("{} printed no text", shown(&args)))
    }

    /// Whether `cargo` knows a subcommand that is installed by itself.
    pub(crate) fn has(&self, subcommand: &str) -> bool {
        let args = [subcommand.to_owned(), "--version".to_owned()];
        let mut command = self.command(&args);
        let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    }

    /// Runs cargo, passes on all that it prints as it comes, and gives the lines that `pick` picks.
    pub(crate) fn run_picking(
        &self,
        args: impl IntoIterator<Item = String>,
        pick: fn(&str) -> Option<String>,
    ) -> Result<Vec<String>> {
        let args: Vec<String> = args.into_iter().collect();
        let mut command = self.command(&args);
        if io::stderr().is_terminal() && env::var_os("CARGO_TERM_COLOR").is_none() {
            command.env("CARGO_TERM_COLOR", "always");
        }
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| cannot_start(&args))?;
        let outputs = child.stdout.take().zip(child.stderr.take());
        let (out, err) = outputs.context("both outputs were asked for")?;
        let out = thread::spawn(move || pass_on(out, &mut io::stdout(), pick));
        let mut picked = pass_on(err, &mut io::stderr(), pick)?;
        match out.join() {
            Ok(more) => picked.extend(more?),
            Err(panic) => std::panic::resume_unwind(panic),
        }
        let status = child.wait().with_context(|| cannot_start(&args))?;
        succeeded(status, &args)?;
        Ok(picked)
    }
}

/// Copies line by line; gives the lines that are picked.
fn pass_on(
    from: impl Read,
    to: &mut impl Write,
    pick: fn(&str) -> Option<String>,
) -> io::Result<Vec<String>> {
    let mut from = BufReader::new(from);
    let mut picked = Vec::new();
    let mut line = Vec::new();
    while from.read_until(b'\n', &mut line)? > 0 {
        to.write_all(&line)?;
        to.flush()?;
        picked.extend(pick(&String::from_utf8_lossy(&line)));
        line.clear();
    }
    Ok(picked)
}

fn succeeded(status: ExitStatus, args: &[String]) -> Result<()> {
    if !status.success() {
        bail!("`{}` failed ({status})", shown(args));
    }
    Ok(())
}

fn cannot_start(args: &[String]) -> String {
    format!("`{}` could not be run", shown(args))
}

/// A command as one would type it.
pub(crate) fn shown(args: &[String]) -> String {
    let args = args.iter().map(|arg| match arg.contains([' ', '*']) {
        true => format!("'{arg}'"),
        false => arg.clone(),
    });
    std::iter::once("cargo".to_owned()).chain(args).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_passed_on_and_some_lines_are_picked() {
        let text = b"one\nSKIPPED: two\nno end \xff".as_slice();
        let mut printed = Vec::new();
        let pick = |line: &str| line.starts_with("SKIP").then(|| line.trim().to_owned());
        let picked = pass_on(text, &mut printed, pick).expect("a slice can be read");
        assert_eq!(printed, text);
        assert_eq!(picked, ["SKIPPED: two"]);
    }

    #[test]
    fn a_failure_names_the_command() {
        let cargo = Cargo::here().expect("tests run in the workspace");
        let error = cargo.output(["no-such-subcommand".to_owned()]).expect_err("there is none");
        assert!(error.to_string().starts_with("`cargo no-such-subcommand` failed"), "{error}");
        assert!(!cargo.has("no-such-subcommand"));
    }

    #[test]
    fn globs_are_shown_quoted() {
        let args = ["mutants".to_owned(), "a b".to_owned(), "src/**".to_owned()];
        assert_eq!(shown(&args), "cargo mutants 'a b' 'src/**'");
    }
}
