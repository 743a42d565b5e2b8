//! The names of what is in the database: quoted, never pasted.

use sha2::{Digest as _, Sha256};

/// The longest name of a table, which leaves room for what is appended to it.
pub(super) const MAX_TABLE_NAME: usize = 40;

/// The tables of a store, as statements spell them.
#[derive(Debug, Clone)]
pub(super) struct Tables {
    /// The schema: quoted, as it is, and as a text of SQL.
    pub(super) schema: String,
    pub(super) schema_name: String,
    /// The name of the first table, as it is.
    name: String,
    /// One row a run.
    pub(super) flows: String,
    /// One row an open wait.
    pub(super) waits: String,
    /// One row an entry of metadata.
    pub(super) metadata: String,
    /// Which versions of the schema were made.
    pub(super) versions: String,
    /// On which channel writes are told of.
    pub(super) channel: String,
}

impl Tables {
    pub(super) fn new(schema: &str, name: &str) -> Self {
        let quoted = identifier(schema);
        let qualified = |suffix| format!("{quoted}.{}", identifier(&format!("{name}{suffix}")));
        // A name of letters and digits, however long and strange the others are.
        let digest = Sha256::new().chain_update(schema).chain_update([0]).chain_update(name);
        let channel = format!("dynamic_flow_{}", &hex::encode(digest.finalize())[..32]);
        Self {
            flows: qualified(""),
            waits: qualified("_waits"),
            metadata: qualified("_metadata"),
            versions: qualified("_schema"),
            schema: quoted,
            schema_name: schema.to_owned(),
            name: name.to_owned(),
            channel,
        }
    }

    /// The table `flows` as people write it.
    pub(super) fn shown(&self) -> String {
        format!("{}.{}", self.schema_name, self.name)
    }

    /// Puts names into a script: `{flows}` and its like, and `{name:_suffix}` for something beside
    /// the table. What was put in is not looked at again.
    pub(super) fn fill(&self, script: &str) -> String {
        let mut filled = String::with_capacity(script.len() * 2);
        let mut rest = script;
        while let Some((before, after)) = rest.split_once('{') {
            let (key, after) = after.split_once('}').unwrap_or((after, ""));
            filled.push_str(before);
            match key {
                "flows" => filled.push_str(&self.flows),
                "waits" => filled.push_str(&self.waits),
                "metadata" => filled.push_str(&self.metadata),
                "versions" => filled.push_str(&self.versions),
                "schema" => filled.push_str(&self.schema),
                other => {
                    let suffix = other.strip_prefix("name:").unwrap_or(other);
                    filled.push_str(&identifier(&format!("{}{suffix}", self.name)));
                }
            }
            rest = after;
        }
        filled.push_str(rest);
        filled
    }
}

/// A name as an identifier of SQL.
pub(super) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text as a literal of SQL, for the few statements that take no parameters.
pub(super) fn literal(text: &str) -> String {
    // Written so that it means the same whatever `standard_conforming_strings` is.
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_wherever_they_stand() {
        let tables = Tables::new("a\"; DROP", "{flows}\"x");
        assert_eq!(tables.flows, "\"a\"\"; DROP\".\"{flows}\"\"x\"");
        assert_eq!(
            tables.fill("CREATE INDEX {name:_due} ON {waits} (x)"),
            "CREATE INDEX \"{flows}\"\"x_due\" ON \"a\"\"; DROP\".\"{flows}\"\"x_waits\" (x)"
        );
        assert_eq!(literal("a\\'b"), "E'a\\\\\\'b'");
    }

    #[test]
    fn channels_of_different_tables_are_different() {
        let channel = |schema, name| Tables::new(schema, name).channel;
        assert_ne!(channel("a", "bc"), channel("ab", "c"));
        assert_eq!(channel("a", "b"), channel("a", "b"));
        assert!(channel("a", "b").len() <= 63);
    }

    #[test]
    fn the_longest_name_leaves_room() {
        let script = include_str!("schema_1.sql");
        let suffixes = script.split("{name:").skip(1).filter_map(|it| it.split_once('}'));
        let longest = suffixes.map(|(suffix, _)| suffix.len()).max().unwrap();
        assert!(MAX_TABLE_NAME + longest <= 63);
    }
}
