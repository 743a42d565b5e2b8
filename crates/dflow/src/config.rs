//! `dflow.toml`: the settings of the process that runs flows. Powers (hosts, secrets, keys) come
//! from here, never from a document or a store.

mod http;
mod keys;

use std::{
    env,
    fs::{self, File, Metadata},
    io,
    path::{Component, Path},
};

use dynamic_flow::{
    Error, ErrorKind, Result,
    hub::HubOptions,
    store::{self, Secret},
};
use serde::Deserialize;

pub(crate) use self::http::{HttpSection, SecretSource};
use self::keys::KeysSection;
use crate::words;

/// The file that is read where it is there and no other is named.
pub(crate) const DEFAULT_PATH: &str = "dflow.toml";

/// All settings, as they stand in the file.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) store: StoreSection,
    pub(crate) hub: HubOptions,
    pub(crate) http: HttpSection,
    pub(crate) keys: KeysSection,
}

/// `[store]`
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct StoreSection {
    /// Where runs are kept, unless `--store` or `DFLOW_STORE` says another place.
    url: Option<Secret>,
    /// The environment variable that holds the URL, so that no password stands in the file.
    url_env: Option<String>,
}

impl Config {
    /// Reads the file that is named, or the default one if it is there.
    ///
    /// # Errors
    /// `InvalidConfig`, with line and column where the file is wrong; and where nobody named it and
    /// somebody else may have written it.
    pub(crate) fn read(named: Option<&Path>) -> Result<Self> {
        let path = named.unwrap_or(Path::new(DEFAULT_PATH));
        let wrong = |message: String| {
            Error::new(ErrorKind::InvalidConfig, message).with("path", path.display())
        };
        if named.is_none() && fs::symlink_metadata(path).is_ok_and(|it| !it.is_file()) {
            // Whom a link leads to is not asked, and a pipe would be waited for.
            let message = "dflow.toml in this folder is used only if it is named: it is no regular \
                           file; check it, then name it with --config or DFLOW_CONFIG";
            return Err(wrong(message.into()));
        }
        let text = File::open(path).and_then(|file| {
            let others = if named.is_none() { others_write(&file.metadata()?) } else { None };
            words::read_text(file).map(|text| (text, others))
        });
        let text = match text {
            Ok((text, None)) => text,
            Ok((_, Some(others))) => {
                return Err(wrong(format!(
                    "dflow.toml in this folder is used only if it is named: {others}; check it, \
                     then name it with --config or DFLOW_CONFIG"
                )));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound && named.is_none() => {
                return Ok(Self::default());
            }
            Err(error) => return Err(wrong(format!("the settings can't be read: {error}"))),
        };
        Self::parse(&text).map_err(|error| error.with("path", path.display()))
    }

    /// What the settings let flows do, and where they have runs kept and with which key they are
    /// sealed, as far as that is worth telling: nobody named the file, and it may have come with a
    /// folder that somebody else made. `store` and `keys` are those that it chose.
    pub(crate) fn unasked_powers(
        &self,
        store: Option<&str>,
        keys: Option<&Path>,
    ) -> Option<String> {
        let powers = self.http.powers().map(|powers| format!("flows may {powers}"));
        let store = store.and_then(elsewhere).map(|place| format!("runs are kept at {place}"));
        let keys = keys.map(|path| format!("runs are sealed with the key in {}", path.display()));
        let told: Vec<String> = [powers, store, keys].into_iter().flatten().collect();
        (!told.is_empty()).then(|| {
            format!(
                "by ./{DEFAULT_PATH}, {}; --config {DEFAULT_PATH} says that it is meant",
                told.join(", ")
            )
        })
    }

    fn parse(text: &str) -> Result<Self> {
        toml::from_str(text).map_err(|error| {
            let place = error.span().map(|span| {
                let before = text.get(..span.start).unwrap_or(text);
                let line = before.matches('\n').count() + 1;
                let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
                format!("{line}:{column}")
            });
            let message = format!("the settings are wrong: {}", error.message().replace('\n', " "));
            let error = Error::new(ErrorKind::InvalidConfig, message);
            match place {
                Some(place) => error.with("at", place),
                None => error,
            }
        })
    }
}

impl StoreSection {
    /// The URL that is said here, or in the environment variable that is named here.
    ///
    /// # Errors
    /// `InvalidConfig` if both are said, or the variable is not set.
    pub(crate) fn url(&self) -> Result<Option<String>> {
        self.url_from(|name| env::var(name).ok())
    }

    fn url_from(&self, variable: impl Fn(&str) -> Option<String>) -> Result<Option<String>> {
        let wrong = |message: String| Err(Error::new(ErrorKind::InvalidConfig, message));
        match (&self.url, &self.url_env) {
            (Some(_), Some(_)) => wrong("[store] has url and url_env; leave one of them".into()),
            (Some(url), None) => Ok(Some(url.expose().to_owned())),
            (None, Some(name)) => match variable(name).filter(|url| !url.is_empty()) {
                Some(url) => Ok(Some(url)),
                None => wrong(format!("[store] url_env names {name}, which is not set")),
            },
            (None, None) => Ok(None),
        }
    }
}

/// Where a store is, without user, password and parameters, unless it is in this folder, or nowhere.
fn elsewhere(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once(':')?;
    let path = rest.strip_prefix("//").unwrap_or(rest);
    match scheme {
        "memory" => None,
        "file" | "sqlite" => (!is_inside(Path::new(path))).then(|| path.to_owned()),
        _ => Some(store::location(url)),
    }
}

/// Whether a path is that of this folder or leads into it, also through links.
fn is_inside(path: &Path) -> bool {
    let Ok(here) = fs::canonicalize(".") else { return false };
    // Of what is not there yet, nothing is known but what it would be in.
    let mut there =
        path.ancestors().map(|it| if it == Path::new("") { Path::new(".") } else { it });
    let is_there = there.find_map(|it| fs::canonicalize(it).ok());
    let leaves = path.components().any(|part| part == Component::ParentDir);
    !leaves && is_there.is_some_and(|it| it.starts_with(here))
}

/// Whether somebody else may have written a file, or put something into a folder, in words.
#[cfg(unix)]
pub(crate) fn others_write(file: &Metadata) -> Option<&'static str> {
    use std::os::unix::fs::MetadataExt as _;
    let user = rustix::process::geteuid().as_raw();
    writes_of_others(file.mode(), (file.uid(), file.gid()), user)
}

/// As [`others_write`], by the mode of a file and by whose and of which group it is.
#[cfg(unix)]
fn writes_of_others(mode: u32, (owner, group): (u32, u32), user: u32) -> Option<&'static str> {
    match mode {
        mode if mode & 0o002 != 0 => Some("everybody may write to it"),
        _ if owner != user && owner != 0 => Some("it is somebody else's"),
        // The group that a user alone is in has the user's number, where there are such groups; the
        // one that the user is in first may be that of all users.
        mode if mode & 0o020 != 0 && group != user => Some("a group may write to it"),
        _ => None,
    }
}

#[cfg(not(unix))]
pub(crate) fn others_write(_: &Metadata) -> Option<&'static str> {
    None
}

#[cfg(test)]
mod tests {
    use dynamic_flow::{codec::Compression, days, hours, hub::Durability, minutes};

    use super::*;

    #[test]
    fn settings_are_read_as_people_write_them() {
        let config = Config::parse(
            r#"
            [store]
            url = "sqlite:flows.db"
            [hub]
            default_timeout = "4h"
            retention = "forever"
            lease = "1m"
            durability = "every_step"
            max_input_size = 1000
            max_state_size = 2000
            compression = "zstd"
            [http]
            allowed_hosts = ["api.example.com", { host = "localhost:8080", private = true }]
            secrets = { token = "API_TOKEN", key = { env = "API_KEY", hosts = ["*.example.com"] } }
            [keys]
            required = true
            "#,
        )
        .unwrap();
        assert_eq!(config.store.url().unwrap().as_deref(), Some("sqlite:flows.db"));
        let options = config.hub;
        assert_eq!(options.default_timeout, hours(4));
        assert_eq!(options.retention, None);
        assert_eq!(options.lease, minutes(1));
        assert_eq!(options.durability, Durability::EveryStep);
        assert_eq!((options.max_input_size, options.max_state_size), (1000, 2000));
        assert_eq!(options.compression, Compression::Zstd);
        assert_eq!(options.cleanup_interval, HubOptions::default().cleanup_interval);
        let (token, key) = (&config.http.secrets["token"], &config.http.secrets["key"]);
        assert_eq!((token.env.as_str(), &token.hosts), ("API_TOKEN", &None));
        assert_eq!(key.env, "API_KEY");
        assert_eq!(key.hosts.as_ref().unwrap()[0].to_string(), "*.example.com");
        assert_eq!(config.http.allowed_hosts[1].to_string(), "localhost:8080");
        assert!(config.keys.required);
        let kept = Config::parse("[hub]\nretention = \"30d\"").unwrap();
        assert_eq!(kept.hub.retention, Some(days(30)));
    }

    #[test]
    fn the_url_of_the_store_may_stand_in_the_environment() {
        let url = |text: &str| {
            let config = Config::parse(text).unwrap();
            assert!(!format!("{config:?}").contains("hunter2"), "{config:?}");
            config.store.url_from(|name| (name == "URL").then(|| "redis://:hunter2@h".into()))
        };
        assert_eq!(url("").unwrap(), None);
        assert_eq!(
            url("[store]\nurl = \"redis://u:hunter2@i\"").unwrap().unwrap(),
            "redis://u:hunter2@i"
        );
        assert_eq!(url("[store]\nurl_env = \"URL\"").unwrap().unwrap(), "redis://:hunter2@h");
        let error = url("[store]\nurl_env = \"URI\"").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        assert!(error.message().contains("URI"), "{error}");
        let both = url("[store]\nurl = \"redis://:hunter2@h\"\nurl_env = \"URL\"").unwrap_err();
        assert!(!both.to_string().contains("hunter2"), "{both}");
    }

    #[test]
    fn stores_and_keys_that_nobody_named_are_told() {
        let told = |store: &str| Config::default().unasked_powers(Some(store), None);
        for here in ["memory:", "file:./flows", "sqlite:flows.db", "sqlite://src/not/there.db"] {
            assert_eq!(told(here), None, "{here}");
        }
        let file = env::current_dir().unwrap().join("flows.db");
        assert_eq!(told(&format!("sqlite:{}", file.display())), None);
        for (elsewhere, place) in [
            ("file:/somewhere/flows", "/somewhere/flows"),
            ("sqlite:../flows.db", "../flows.db"),
            ("sqlite:not/there/../../../flows.db", "not/there/../../../flows.db"),
            ("redis://:hunter2@h:1/0?x=hunter2", "redis://h:1/0"),
            ("postgres://h/db", "postgres://h/db"),
            ("postgres://u:hunter2@hunter2@h/db", "postgres://h/db"),
            ("postgres://u:hunter2?hunter2@h/db", "postgres://…"),
            ("mongodb://h/?tlsPassword=a@hunter2", "mongodb://…"),
        ] {
            let told = told(elsewhere).unwrap();
            let expected = format!("by ./dflow.toml, runs are kept at {place}; --config");
            assert!(told.starts_with(&expected), "{told}");
            assert!(!told.contains("hunter2"), "{told}");
        }
        let config = Config::parse("[http]\nallow_private = true").unwrap();
        let told = config.unasked_powers(Some("file:/f"), Some(Path::new("key"))).unwrap();
        let all = "flows may reach private hosts, runs are kept at /f, runs are sealed with the key in key;";
        assert!(told.contains(all), "{told}");
    }

    #[cfg(unix)]
    #[test]
    fn a_link_out_of_this_folder_leads_out_of_it() {
        let place = tempfile::tempdir_in(".").unwrap();
        let link = place.path().join("link");
        std::os::unix::fs::symlink("/", &link).unwrap();
        assert!(is_inside(&place.path().join("flows")));
        assert!(!is_inside(&link.join("flows")));
    }

    #[cfg(unix)]
    #[test]
    fn others_write_what_is_not_the_users_or_a_group_may_write() {
        for (mode, whose, told) in [
            (0o100_644, (1000, 100), None),
            (0o100_644, (0, 0), None),
            (0o100_644, (1001, 1000), Some("it is somebody else's")),
            (0o100_664, (1000, 1000), None),
            (0o100_664, (0, 1000), None),
            (0o100_664, (1000, 100), Some("a group may write to it")),
            (0o100_664, (0, 0), Some("a group may write to it")),
            (0o100_666, (1000, 1000), Some("everybody may write to it")),
        ] {
            assert_eq!(writes_of_others(mode, whose, 1000), told, "{mode:o} {whose:?}");
        }
    }

    #[test]
    fn the_settings_in_the_readme_are_settings() {
        let readme = include_str!("../README.md");
        let (_, rest) = readme.split_once("```toml\n").unwrap();
        let (settings, _) = rest.split_once("```").unwrap();
        let config = Config::parse(settings).unwrap();
        // They are those that hold where nothing is said.
        assert_eq!(config.hub, HubOptions::default());
    }

    #[test]
    fn the_settings_in_the_readme_of_the_project_are_settings() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
        let readme = fs::read_to_string(path).unwrap();
        let blocks = readme.split("```toml\n").skip(1);
        let mut blocks = blocks.filter_map(|it| it.split("```").next());
        let settings = blocks.find(|it| it.starts_with("[store]")).unwrap();
        let config = Config::parse(settings).unwrap();
        assert_eq!(config.http.allowed_hosts[0].to_string(), "api.example.com");
        let token = &config.http.secrets["api_token"];
        assert_eq!(token.env, "API_TOKEN");
        assert_eq!(token.hosts.as_ref().unwrap()[0].to_string(), "api.example.com");
    }

    #[test]
    fn wrong_settings_are_refused_with_their_place() {
        for (text, place) in [
            ("[hub]\nlease = \"soon\"", "2:9"),
            ("[hub]\nlaese = \"1m\"", "2:1"),
            ("[hub]\n\nlease 1", "3:7"),
            ("[hub]\nretention = \"-1d\"", "2:13"),
            ("[hub]\nlease = \"0s\"", "2:9"),
            ("[hub]\nlease = \"9ms\"", "2:9"),
            // As in a document: a time has no part of a millisecond.
            ("[hub]\npoll_interval = \"999us\"", "2:17"),
            ("[hub]\ndefault_timeout = \"0s\"", "2:19"),
            ("[hub]\npoll_interval = \"0s\"", "2:17"),
            ("[hub]\nconcurrency = 0", "2:15"),
            ("[hub]\nconcurrency = -1", "2:15"),
            ("[hub]\ncompression = \"lz4\"", "2:15"),
            ("[hub]\nmax_takeovers = 0", "2:17"),
            ("[http]\nallowed_hosts = [\"a/b\"]", "2:18"),
            ("[http]\nsecrets.a = { env = \"A\", hosts = [\"a/b\"] }", "2:35"),
            ("[http]\nsecrets.a = { env = \"A\", hosts = [] }", "2:34"),
            ("[http]\nsecrets.a = { env = \"A\", host = [\"a\"] }", "2:26"),
            ("[http]\nsecrets.a = { hosts = [\"a\"] }", "2:13"),
            ("[http]\nsecrets.a = 7", "2:13"),
        ] {
            let error = Config::parse(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig);
            assert_eq!(error.context_value("at"), Some(place), "{error}");
        }
        let error = Config::parse("[hub]\nretention = \"long\"").unwrap_err();
        let told = "write it like 500ms, 30s, 5m, 4h, 7d, 1h30m or PT4H, or `forever`";
        assert!(error.message().contains(told), "{error}");
    }
}
