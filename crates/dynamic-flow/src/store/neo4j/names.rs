//! What the labels, relationship types and indexes are called: quoted, with the namespace in front.

use crate::{Result, store::server::Name};

/// What a namespace may be. A quoted name may hold anything else; a backslash may begin an escape
/// that is read before the quotes are.
const NAMESPACE: Name = Name { setting: "namespace", max: 64, without: &['`', '\\'] };

/// The names in the graph, each ready to stand in a statement.
#[derive(Debug, Clone)]
pub(super) struct Names {
    namespace: String,
    pub(super) run: String,
    pub(super) flow: String,
    pub(super) tool: String,
    pub(super) metadata: String,
    pub(super) schema: String,
    pub(super) of: String,
    pub(super) waits_for: String,
    pub(super) has: String,
}

impl Names {
    /// Checks the namespace, which may be empty.
    pub(super) fn new(namespace: &str) -> Result<Self> {
        if !namespace.is_empty() {
            NAMESPACE.check(namespace)?;
        }
        let quoted = |name: &str| format!("`{namespace}{name}`");
        Ok(Self {
            namespace: namespace.to_owned(),
            run: quoted("SuspendedFlow"),
            flow: quoted("Flow"),
            tool: quoted("Tool"),
            metadata: quoted("Metadata"),
            schema: quoted("SuspendedFlowSchema"),
            of: quoted("OF"),
            waits_for: quoted("WAITS_FOR"),
            has: quoted("HAS"),
        })
    }

    /// The labels of nodes, but for that of the schema.
    pub(super) fn of_nodes(&self) -> [&str; 4] {
        [&self.run, &self.flow, &self.tool, &self.metadata]
    }

    /// The name of an index or constraint.
    pub(super) fn index(&self, name: &str) -> String {
        format!("`{}suspended_flow_{name}`", self.namespace)
    }

    /// A quoted name as the server tells it.
    pub(super) fn bare(quoted: &str) -> &str {
        quoted.trim_matches('`')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_and_what_would_end_the_quotes_is_refused() {
        let names = Names::new("my runs) DETACH DELETE (x ").unwrap();
        assert_eq!(names.run, "`my runs) DETACH DELETE (x SuspendedFlow`");
        assert_eq!(Names::bare(&names.has), "my runs) DETACH DELETE (x HAS");
        assert_eq!(Names::new("").unwrap().index("due"), "`suspended_flow_due`");
        for wrong in ["a`b", "a\\u0060b", "a\0", "\n", &"x".repeat(65)] {
            assert!(Names::new(wrong).is_err(), "{wrong:?}");
        }
    }
}
