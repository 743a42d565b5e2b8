//! From a URL to a store.

use std::sync::Arc;

use crate::{
    Error, ErrorKind, Result,
    store::{Store, memory::MemoryStore},
};

/// The environment variable that names the store: `DFLOW_STORE`.
pub const STORE_VARIABLE: &str = "DFLOW_STORE";
/// The store that is used when nothing else is said.
pub const DEFAULT_STORE: &str = "file:./.suspended-flows";

/// The schemes that this library knows, and the feature that each needs, if it needs one.
const SCHEMES: &[(&str, Option<&str>)] = &[
    ("memory", None),
    ("file", Some("file")),
    ("sqlite", Some("sqlite")),
    ("postgres", Some("postgres")),
    ("postgresql", Some("postgres")),
    ("redis", Some("redis")),
    ("rediss", Some("redis")),
    ("mongodb", Some("mongodb")),
    ("mongodb+srv", Some("mongodb")),
    ("neo4j", Some("neo4j")),
    ("neo4j+s", Some("neo4j")),
    ("bolt", Some("neo4j")),
    ("bolt+s", Some("neo4j")),
];

/// The schemes that this build can open, each with its colon in a URL: `memory`, `file`, ….
///
/// ```
/// assert!(dynamic_flow::store::compiled_in().contains(&"memory"));
/// ```
pub fn compiled_in() -> &'static [&'static str] {
    &[
        "memory",
        #[cfg(feature = "file")]
        "file",
        #[cfg(feature = "sqlite")]
        "sqlite",
        #[cfg(feature = "postgres")]
        "postgres",
        #[cfg(feature = "postgres")]
        "postgresql",
        #[cfg(feature = "redis")]
        "redis",
        #[cfg(feature = "redis")]
        "rediss",
        #[cfg(feature = "mongodb")]
        "mongodb",
        #[cfg(feature = "mongodb")]
        "mongodb+srv",
        #[cfg(feature = "neo4j")]
        "neo4j",
        #[cfg(feature = "neo4j")]
        "neo4j+s",
        #[cfg(feature = "neo4j")]
        "bolt",
        #[cfg(feature = "neo4j")]
        "bolt+s",
    ]
}

/// Opens the store of that URL: `memory:`, `file:PATH`, `sqlite:PATH`, or that of a server, as
/// `postgres://…`, `redis://…`, `mongodb://…` and `neo4j://…`.
///
/// Touches nothing yet; [`Store::provision`] does.
///
/// # Errors
/// `InvalidConfig` for a URL without a known scheme, without a path where one is needed, with
/// parameters where none are taken (`file:` and `sqlite:`), or of a store that is not compiled in;
/// it names the feature to switch on.
///
/// ```
/// use dynamic_flow::store;
/// let store = store::open("memory:").unwrap();
/// let error = store::open("carrier-pigeon:coop").unwrap_err();
/// assert_eq!(error.kind(), dynamic_flow::ErrorKind::InvalidConfig);
/// ```
pub fn open(url: &str) -> Result<Arc<dyn Store>> {
    let Some((scheme, rest)) = url.split_once(':') else {
        return Err(refuse(
            "a store URL starts with its kind, such as file:./flows or sqlite:flows.db",
        ));
    };
    match scheme {
        "memory" if rest.is_empty() => Ok(Arc::new(MemoryStore::new())),
        "memory" => Err(refuse("the store in memory takes no path; write memory:")),
        #[cfg(feature = "file")]
        "file" => Ok(Arc::new(super::file::FileStore::new(path_of(scheme, rest)?))),
        #[cfg(feature = "sqlite")]
        "sqlite" => Ok(Arc::new(super::sqlite::SqliteStore::new(path_of(scheme, rest)?))),
        #[cfg(feature = "postgres")]
        "postgres" | "postgresql" => Ok(Arc::new(super::postgres::PostgresStore::from_url(url)?)),
        #[cfg(feature = "redis")]
        "redis" | "rediss" => Ok(Arc::new(super::redis::RedisStore::from_url(url)?)),
        #[cfg(feature = "mongodb")]
        "mongodb" | "mongodb+srv" => Ok(Arc::new(super::mongodb::MongodbStore::from_url(url)?)),
        #[cfg(feature = "neo4j")]
        "neo4j" | "neo4j+s" | "bolt" | "bolt+s" => {
            Ok(Arc::new(super::neo4j::Neo4jStore::from_url(url)?))
        }
        _ => Err(unknown(scheme)),
    }
}

/// Opens the store that `DFLOW_STORE` names, or the default, `file:./.suspended-flows`.
///
/// # Errors
/// As [`open`]; `InvalidConfig` too if the variable is not Unicode.
pub fn open_from_env() -> Result<Arc<dyn Store>> {
    match std::env::var(STORE_VARIABLE) {
        Ok(url) if !url.is_empty() => open(&url),
        Ok(_) | Err(std::env::VarError::NotPresent) => open(DEFAULT_STORE),
        Err(std::env::VarError::NotUnicode(_)) => {
            Err(refuse(format!("{STORE_VARIABLE} is not Unicode")))
        }
    }
}

/// The path of a URL: `file:a/b`, `file:/a/b` and `file:///a/b`.
#[cfg(any(feature = "file", feature = "sqlite"))]
fn path_of<'a>(scheme: &str, rest: &'a str) -> Result<&'a std::path::Path> {
    let path = match rest.strip_prefix("//") {
        Some(absolute) if absolute.starts_with('/') => absolute,
        // What follows two slashes is a host, and there is none: almost always a slash too few.
        Some(_) => {
            return Err(refuse(format!(
                "a path follows the colon at once: {scheme}:PATH or {scheme}:///ABSOLUTE/PATH"
            )));
        }
        None => rest,
    };
    if path.is_empty() || path.contains('\0') {
        return Err(refuse(format!("a path must follow the colon: {scheme}:PATH")));
    }
    // They would become part of the name, and never take effect.
    if path.contains('?') {
        return Err(refuse(format!(
            "{scheme}: takes no parameters: leave out the `?` and what follows it; a store whose \
             path has one is named in Rust code"
        )));
    }
    Ok(std::path::Path::new(path))
}

/// Says of a scheme that can't be opened what to do. Names the scheme alone: what follows it may
/// be a password.
fn unknown(scheme: &str) -> Error {
    let known = SCHEMES.iter().find(|(name, _)| *name == scheme);
    if let Some((name, Some(feature))) = known {
        return refuse(format!(
            "the {name} store is not compiled in; build with the feature `{feature}`"
        ));
    }
    let here = compiled_in().join(":, ");
    let letters = scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
    if letters && scheme.len() <= 32 {
        refuse(format!("there is no store {scheme}:; this build has {here}:"))
    } else {
        refuse(format!("a store URL starts with its kind; there are {here}:"))
    }
}

fn refuse(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidConfig, message).with_operation("open store")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_scheme_opens_its_store() {
        assert_eq!(open("memory:").unwrap().health().await.unwrap().backend, "memory");
        for (scheme, feature) in SCHEMES {
            let url = match *scheme {
                "memory" => "memory:".to_owned(),
                "file" | "sqlite" => format!("{scheme}:x"),
                _ => format!("{scheme}://localhost"),
            };
            // A store's feature is called as its first scheme is.
            if compiled_in().contains(&feature.unwrap_or(scheme)) {
                open(&url).unwrap();
            } else {
                let error = open(&url).unwrap_err();
                assert!(error.message().contains("feature"), "{error}");
            }
        }
    }

    #[test]
    fn a_wrong_url_is_refused_without_its_tail() {
        for url in
            ["", "flows.db", "memory:x", "mysql://u:hunter2@h/d", "u:hunter2@h", "file://hunter2"]
        {
            let error = open(url).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{url}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
        for scheme in compiled_in().iter().filter(|scheme| ["file", "sqlite"].contains(scheme)) {
            for rest in ["", "//", "//host/x", "a\0b"] {
                let error = open(&format!("{scheme}:{rest}")).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{scheme}:{rest}");
            }
            for rest in ["x.db?operation_timeout=5s", "./x?", "///x?a=hunter2"] {
                let error = open(&format!("{scheme}:{rest}")).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{scheme}:{rest}");
                assert!(error.message().contains("takes no parameters"), "{error}");
                assert!(!error.to_string().contains("hunter2"), "{error}");
            }
        }
    }

    #[cfg(feature = "file")]
    #[test]
    fn a_path_is_taken_as_it_is() {
        let path = |rest| path_of("file", rest).unwrap().to_str().unwrap().to_owned();
        assert_eq!(path("a/b"), "a/b");
        assert_eq!(path("./a b:c&d=e"), "./a b:c&d=e");
        assert_eq!(path("/a"), "/a");
        assert_eq!(path("///a"), "/a");
    }
}
