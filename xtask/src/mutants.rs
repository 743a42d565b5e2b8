//! Plants bugs where the promises are kept, and sees whether a test notices.

use anyhow::{Result, bail};

use crate::command::Cargo;

/// Where a bug would break a promise.
const FILES: [&str; 3] = [
    "crates/dynamic-flow/src/hub/**/*.rs",
    "crates/dynamic-flow/src/codec/**/*.rs",
    "crates/dynamic-flow/src/store/**/*.rs",
];

/// Runs cargo-mutants on those files, or on the ones that are named.
pub(crate) fn run(cargo: &Cargo, files: Vec<String>, args: Vec<String>) -> Result<()> {
    if !cargo.has("mutants") {
        bail!(
            "cargo-mutants is not installed; `cargo install --locked cargo-mutants` installs it \
             (a few minutes)"
        );
    }
    cargo.run(arguments(files, args))
}

fn arguments(files: Vec<String>, args: Vec<String>) -> Vec<String> {
    let files = if files.is_empty() { FILES.map(str::to_owned).to_vec() } else { files };
    let base = ["mutants", "--package", "dynamic-flow", "--all-features"].map(str::to_owned);
    let files = files.into_iter().flat_map(|file| ["--file".to_owned(), file]);
    base.into_iter().chain(files).chain(args).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn files_that_are_named_take_the_place_of_all() {
        let one = arguments(vec!["a.rs".to_owned()], vec!["--list".to_owned()]);
        assert_eq!(one[4..], ["--file", "a.rs", "--list"]);
        assert_eq!(arguments(Vec::new(), Vec::new()).len(), 4 + 2 * FILES.len());
    }

    #[test]
    fn the_folders_are_there() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        for glob in FILES {
            let folder = glob.split("/**").next().expect("a split has a first part");
            assert!(root.join(folder).is_dir(), "{folder}");
        }
    }
}
