//! What the library's features bring with them, read from its manifest.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::command::Cargo;

const LIBRARY: &str = "dynamic-flow";

/// Crates that come with a driver's feature, and with crates of other features as well: that they
/// are there tells nothing of the driver.
const SHARED: [&str; 4] = ["rustls", "rustls-native-certs", "tokio-rustls", "url"];

/// The features of the library: their names, and what each turns on.
#[derive(Debug)]
pub(crate) struct Features(BTreeMap<String, Vec<String>>);

impl Features {
    pub(crate) fn read(cargo: &Cargo) -> Result<Self> {
        let args = ["metadata", "--format-version", "1", "--no-deps"];
        let metadata = cargo.output(args.map(str::to_owned))?;
        Self::parse(&metadata)
    }

    fn parse(metadata: &str) -> Result<Self> {
        let metadata: Value = serde_json::from_str(metadata).context("metadata are JSON")?;
        let packages = metadata["packages"].as_array().context("metadata list packages")?;
        let library = packages.iter().find(|package| package["name"] == LIBRARY);
        let features = library.context("the library is in the workspace")?["features"].clone();
        Ok(Self(serde_json::from_value(features).context("features are lists of names")?))
    }

    /// Each feature but `default`, and those that others turn on and nobody else, which begin with
    /// an underscore.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        let names = self.0.keys().map(String::as_str);
        names.filter(|name| *name != "default" && !name.starts_with('_'))
    }

    /// The crates that come with features only.
    fn drivers(&self) -> BTreeSet<&str> {
        let crates = self.0.values().flatten().filter_map(|what| what.strip_prefix("dep:"));
        crates.filter(|name| !SHARED.contains(name)).collect()
    }

    /// All features that can be on together without that crate.
    fn without(&self, driver: &str) -> Vec<&str> {
        self.names().filter(|name| !self.brings(name, driver, &mut BTreeSet::new())).collect()
    }

    fn brings<'a>(&'a self, name: &'a str, driver: &str, seen: &mut BTreeSet<&'a str>) -> bool {
        seen.insert(name)
            && self.0.get(name).into_iter().flatten().any(|what| {
                what.strip_prefix("dep:") == Some(driver) || self.brings(what, driver, seen)
            })
    }
}

/// Checks the library with no feature, and with each alone. With all of them, clippy does.
pub(crate) fn check_each(cargo: &Cargo) -> Result<()> {
    let features = Features::read(cargo)?;
    let each = features.names().map(|name| vec!["--no-default-features", "--features", name]);
    let none = vec!["--no-default-features"];
    for set in std::iter::once(none).chain(each) {
        eprintln!("-- {}", set.join(" "));
        // As `cargo check` does it, but a warning fails; through RUSTFLAGS, that would build every
        // dependency anew.
        let check = ["rustc", "-q", "-p", LIBRARY, "--lib", "--profile", "check"];
        let args = check.into_iter().chain(set).chain(["--", "-D", "warnings"]);
        cargo.run(args.map(str::to_owned))?;
    }
    Ok(())
}

/// Proves that a build without the features that need a driver has none of it.
pub(crate) fn check_trees(cargo: &Cargo) -> Result<()> {
    let features = Features::read(cargo)?;
    let all: Vec<&str> = features.names().collect();
    let everything = tree(cargo, &all)?;
    for driver in features.drivers() {
        // Were it never there, its absence would prove nothing.
        if !everything.contains(driver) {
            bail!("{driver} is not even in a build with all features");
        }
        let others = features.without(driver);
        if tree(cargo, &others)?.contains(driver) {
            bail!(
                "{driver} is built although no feature that needs it is on; \
                 `cargo tree -p {LIBRARY} --no-default-features --features {} -i {driver}` says why",
                others.join(",")
            );
        }
        eprintln!("-- without its features: no {driver}");
    }
    Ok(())
}

/// The names of the crates in a build of the library with these features.
fn tree(cargo: &Cargo, features: &[&str]) -> Result<BTreeSet<String>> {
    let features = features.join(",");
    let args = [
        "tree",
        "-q",
        "-p",
        LIBRARY,
        "-e",
        "normal,build",
        "--target",
        "all",
        "--prefix",
        "none",
        "--no-default-features",
        "--features",
        features.as_str(),
    ];
    let text = cargo.output(args.map(str::to_owned))?;
    Ok(text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn features() -> Features {
        let metadata = serde_json::json!({ "packages": [
            { "name": "other", "features": { "odd": ["dep:odd"] } },
            { "name": "dynamic-flow", "features": {
                "default": ["file"],
                "file": [],
                "_shared": ["dep:odd"],
                "sqlite": ["dep:rusqlite"],
                "server": ["sqlite", "dep:tls"],
                "tls": ["dep:tls", "server"],
            } },
        ] });
        Features::parse(&metadata.to_string()).expect("these are metadata")
    }

    #[test]
    fn each_feature_that_one_turns_on_is_named() {
        let features = features();
        assert_eq!(features.names().collect::<Vec<_>>(), ["file", "server", "sqlite", "tls"]);
        assert_eq!(features.drivers().into_iter().collect::<Vec<_>>(), ["odd", "rusqlite", "tls"]);
    }

    #[test]
    fn a_driver_is_left_out_with_all_features_that_bring_it() {
        let features = features();
        assert_eq!(features.without("rusqlite"), ["file"]);
        assert_eq!(features.without("tls"), ["file", "sqlite"]);
    }

    #[test]
    fn metadata_without_the_library_are_refused() {
        assert!(Features::parse(r#"{"packages": []}"#).is_err());
        assert!(Features::parse("no JSON").is_err());
    }
}
