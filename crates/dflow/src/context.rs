//! What is meant by the command line, the environment and the settings together.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use dynamic_flow::{
    Clock, Error, ErrorKind, Flow, Result, Timestamp,
    codec::Keyring,
    hub::PersistenceHub,
    store::{self, DEFAULT_STORE, FileStore, Filter, Health, STORE_VARIABLE},
    tool::ToolRegistry,
};

use crate::{
    args::{Global, RunFilter},
    config::{Config, others_write},
    failure::Failure,
    terminal::Terminal,
    tools, words,
};

/// How long a run that is being driven gets to come to its next step when the program shall end.
pub(crate) const GRACE: Duration = Duration::from_secs(10);

/// The environment variable that names the file with the settings.
const CONFIG_VARIABLE: &str = "DFLOW_CONFIG";

/// What becomes of a store that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    /// It is made.
    Make,
    /// It is refused: a mistyped name must not look like a store without runs.
    Refuse,
    /// As [`Missing::Refuse`], but where nobody said which store it is, it is taken for one without
    /// runs, and that is told.
    Tell,
}

/// Everything that commands share.
pub(crate) struct Context {
    pub(crate) terminal: Terminal,
    pub(crate) config: Config,
    store_url: String,
    /// Whether nobody said which store it is.
    unasked_store: bool,
    /// What flows may do by settings that nobody named, and where those have runs kept.
    unasked_powers: Option<String>,
    /// What must be typed again before the program, because it was typed or set for this call; a
    /// shell takes it as it is.
    set_again: Option<String>,
    /// What must be typed again behind it.
    repeated: Vec<String>,
}

impl Context {
    /// Brings together what was said on the command line, in the environment and in the settings,
    /// in this order. What needs no settings does not read them, and works where they are wrong.
    pub(crate) fn resolve(global: Global, needs_settings: bool) -> Result<Self> {
        let from_env = || env::var_os(CONFIG_VARIABLE).filter(|path| !path.is_empty());
        let named = global.config.or_else(|| from_env().map(PathBuf::from));
        let config = match needs_settings {
            true => Config::read(named.as_deref())?,
            false => Config::default(),
        };
        let said = match global.store {
            Some(url) => Some(url),
            None => variable(STORE_VARIABLE)?.filter(|it| !it.is_empty()),
        };
        let (mut repeated, mut set_again) = (Vec::new(), None);
        if let Some(path) = &named {
            repeated.extend(["--config".to_owned(), path.display().to_string()]);
        }
        match &said {
            Some(url) if may_hold_a_secret(url) => {
                // Neither shown here nor, typed again, to everybody who lists processes.
                set_again = Some(format!("{STORE_VARIABLE}=\"${{{STORE_VARIABLE}:?}}\""));
            }
            Some(url) if url != DEFAULT_STORE => {
                repeated.extend(["--store".to_owned(), url.clone()]);
            }
            _ => {}
        }
        let in_settings = if said.is_none() { config.store.url()? } else { None };
        let keys = config.keys.file.as_deref().filter(|_| env::var_os(Keyring::ENV).is_none());
        let unasked_powers = match named {
            None => config.unasked_powers(in_settings.as_deref(), keys),
            Some(_) => None,
        };
        let said = said.or(in_settings);
        let unasked_store = said.is_none();
        let store_url = said.unwrap_or_else(|| DEFAULT_STORE.to_owned());
        Ok(Self {
            terminal: Terminal::new(global.json, global.verbose),
            unasked_powers,
            config,
            store_url,
            unasked_store,
            set_again,
            repeated,
        })
    }

    /// The keys: of the environment, or of the file that the settings name.
    pub(crate) fn keyring(&self) -> Result<Option<Keyring>> {
        if let Some(keyring) = Keyring::from_env()? {
            return Ok(Some(keyring));
        }
        self.config.keys.read()
    }

    /// Says so where others may read the file with the keys.
    fn warn_of_key_file(&self) {
        let Some(path) = self.config.keys.file.as_ref().filter(|path| others_read(path)) else {
            return;
        };
        if env::var_os(Keyring::ENV).is_none() {
            let message = format!(
                "other users of this machine may read the keys in {}: chmod o= takes that away",
                path.display()
            );
            self.terminal.notice("KeyFile", &message);
        }
    }

    /// Says what flows may do by settings that nobody named, and where those have runs kept and how
    /// they are sealed, where somebody watches.
    pub(crate) fn tell_powers(&self) {
        if let Some(powers) = self.unasked_powers.as_ref().filter(|_| self.terminal.watched) {
            self.terminal.notice("Powers", powers);
        }
    }

    /// Whether the store ends with this process, and all runs with it.
    pub(crate) fn forgets(&self) -> bool {
        self.store_url.starts_with("memory:")
    }

    /// Which kind of store it is and where, if it is on this machine and there.
    pub(crate) async fn place_of_store(&self) -> Option<(String, String)> {
        let (scheme, path) = on_this_machine(&self.store_url)?;
        let is_there = store::open(&self.store_url).ok()?.exists().await.ok()?;
        is_there.then(|| (scheme.to_owned(), path.to_owned()))
    }

    /// How a server is on which no store was made yet; none where there is one, where it is not on a
    /// server, and where only a store could tell.
    ///
    /// # Errors
    /// What keeps the server from being reached.
    pub(crate) async fn health_without_store(&self) -> Result<Option<Health>> {
        if on_this_machine(&self.store_url).is_some() || self.forgets() {
            return Ok(None);
        }
        let store = store::open(&self.store_url)?;
        Ok(if store.exists().await? { None } else { store.health().await.ok() })
    }

    /// Opens the store, and makes a hub over it.
    ///
    /// # Errors
    /// `StorageError` where there is none and none is made; what keeps it from being opened.
    pub(crate) async fn hub(&self, missing: Missing) -> Result<PersistenceHub> {
        if self.unasked_store {
            check_own_folder()?;
        }
        let keyring = self.keyring()?;
        if keyring.is_none() && self.config.keys.required {
            return Err(keyless());
        }
        self.warn_of_key_file();
        let mut store = store::open(&self.store_url)?;
        if missing != Missing::Make && !store.exists().await? {
            if missing != Missing::Tell || !self.unasked_store {
                return Err(self.no_store());
            }
            let (_, path) = on_this_machine(DEFAULT_STORE).unwrap_or_default();
            let message = format!(
                "there is no store in this folder yet ({path}): `dflow run` makes one, and \
                 --store names another"
            );
            self.terminal.notice("NoStore", &message);
            store = store::open("memory:")?;
        }
        let builder = PersistenceHub::builder(store).options(self.config.hub.clone());
        let builder = builder.tools(self.tools());
        let builder = match keyring {
            Some(keyring) => builder.keyring(keyring),
            None => builder.plaintext(),
        };
        let hub = builder.build().await?;
        if self.unasked_store {
            // It may have been put there in between, or swapped for one of somebody else.
            check_own_folder()?;
        }
        Ok(hub)
    }

    /// The refusal where the store is not there.
    pub(crate) fn no_store(&self) -> Error {
        let place = on_this_machine(&self.store_url);
        let named = match place {
            Some(_) => "its name",
            // They are not shown, as they may hold secrets.
            None => "its name, and the parameters of its URL such as a table or a prefix",
        };
        let message = format!(
            "there is no store there yet: check {named}, or make it with `dflow run` or `dflow work`"
        );
        let error = Error::new(ErrorKind::StorageError, message);
        match place {
            Some((_, path)) => error.with("path", path),
            None => error.with("store", store::location(&self.store_url)),
        }
    }

    /// The tools that documents may call.
    pub(crate) fn tools(&self) -> ToolRegistry {
        tools::registry(&self.config)
    }

    /// Reads a flow from its document, which `-` says is on standard input.
    pub(crate) fn flow(&self, path: &Path) -> Result<Flow, Failure> {
        let typed = path == Path::new("-");
        let from = if typed { Path::new("standard input") } else { path };
        let text = match typed {
            true => words::read_text(io::stdin()),
            false => fs::File::open(path).and_then(words::read_text),
        };
        let text = text.map_err(|error| {
            let kind = match error.kind() {
                io::ErrorKind::InvalidData => ErrorKind::InvalidFlow,
                _ => ErrorKind::InvalidArgument,
            };
            let message = format!("the flow can't be read: {error}");
            Error::new(kind, message).with("path", from.display())
        })?;
        let flow = Flow::from_document(&text, &self.tools());
        flow.map_err(|error| Failure::Error(error, Some(from.to_owned())))
    }

    /// A command to type next, complete with what leads to the same store.
    pub(crate) fn command(&self, words: &[&str]) -> String {
        // The way this program was called finds it again, also where it is not installed.
        let program = env::args_os().next().unwrap_or_else(|| "dflow".into());
        let words = words.iter().map(|word| (*word).to_owned());
        let words = std::iter::once(program.to_string_lossy().into_owned())
            .chain(words)
            .chain(self.repeated.iter().cloned())
            .map(|word| quoted(&word));
        self.set_again.iter().cloned().chain(words).collect::<Vec<_>>().join(" ")
    }
}

/// The kind and the path of a store that is a file or folder.
fn on_this_machine(url: &str) -> Option<(&str, &str)> {
    let (scheme, path) = url.split_once(':')?;
    let path = path.strip_prefix("//").unwrap_or(path);
    ["file", "sqlite"].contains(&scheme).then_some((scheme, path))
}

/// Refuses the store of this folder where somebody else may have made it or put something into it:
/// what is stored there, they could read.
fn check_own_folder() -> Result<()> {
    let folder = fs::symlink_metadata(FileStore::DEFAULT).ok();
    let others = folder.and_then(|folder| match folder.is_symlink() {
        true => Some("it is a link"),
        false => others_write(&folder),
    });
    let Some(others) = others else { return Ok(()) };
    let message = format!(
        "the store in this folder is used only if it is named: {others}; check it, then name it \
         with --store {DEFAULT_STORE}"
    );
    Err(Error::new(ErrorKind::InvalidConfig, message).with("path", FileStore::DEFAULT))
}

/// What an environment variable holds; none where it is not set.
///
/// # Errors
/// `InvalidConfig` where it is no text: it was not set for nothing.
pub(crate) fn variable(name: &str) -> Result<Option<String>> {
    match env::var(name) {
        Ok(value) => Ok(Some(value)),
        Err(env::VarError::NotPresent) => Ok(None),
        Err(env::VarError::NotUnicode(_)) => {
            Err(Error::new(ErrorKind::InvalidConfig, format!("{name} is no text in UTF-8")))
        }
    }
}

/// The refusal where a key must be given and is not.
fn keyless() -> Error {
    let message = "the settings require an encryption key, and none is given: set \
                   FLOW_ENCRYPTION_KEY (`dflow keygen` makes a key), or name a file in [keys]";
    Error::new(ErrorKind::InvalidConfig, message)
}

/// Whether users beside its owner and its group may read a file.
#[cfg(unix)]
fn others_read(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata(path).is_ok_and(|file| file.mode() & 0o004 != 0)
}

#[cfg(not(unix))]
fn others_read(_: &Path) -> bool {
    false
}

/// Whether a store's URL may hold a password: beside the host, or among its parameters.
fn may_hold_a_secret(url: &str) -> bool {
    let is_path = ["memory:", "file:", "sqlite:"].iter().any(|scheme| url.starts_with(scheme));
    !is_path && url.contains(['@', '?'])
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@=,+%…".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// The time now.
pub(crate) fn now() -> Timestamp {
    dynamic_flow::SystemClock.now()
}

impl RunFilter {
    /// The filter that was typed, as of now.
    pub(crate) fn resolve(&self) -> Result<Filter> {
        use dynamic_flow::RunStatus;
        words::once(&self.metadata, "--metadata")?;
        let now = now();
        Ok(Filter {
            status: self.status.iter().filter_map(|name| RunStatus::from_name(name)).collect(),
            flow_id: self.flow_id.as_ref().map(Into::into),
            tool_id: self.tool.as_ref().map(Into::into),
            metadata: self.metadata.iter().cloned().collect(),
            created_after: self.created_after.map(|moment| moment.ago(now)),
            created_before: self.created_before.map(|moment| moment.ago(now)),
            expires_after: self.expires_after.map(|moment| moment.ahead(now)),
            expires_before: self.expires_before.map(|moment| moment.ahead(now)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_that_may_hold_a_secret_is_known() {
        for url in ["redis://h", "postgres://h:1/db", "file:./a@b?c", "sqlite:a@b", "memory:"] {
            assert!(!may_hold_a_secret(url), "{url}");
        }
        for url in ["postgres://u:p@h", "redis://:p@h/0", "mongodb://h/?tlsKeyFilePassword=p"] {
            assert!(may_hold_a_secret(url), "{url}");
        }
    }

    #[test]
    fn a_command_can_be_typed_as_it_is_shown() {
        assert_eq!(quoted("df_Ab-9"), "df_Ab-9");
        assert_eq!(quoted("sqlite:my flows.db"), "'sqlite:my flows.db'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted("a;b"), "'a;b'");
        assert_eq!(quoted(""), "''");
    }
}
