//! The tables and indexes of a store one by one: which are missing, and how they are made again.
//!
//! What runs are found by follows from their records, so that a table which is lost can be filled.
//! Records themselves can't.

use std::sync::LazyLock;

use super::{
    connection::Statement,
    tables::{Tables, literal},
};

/// Of how many runs, the newest, is looked whether they can be found.
pub(super) const LOOKED_AT: usize = 1_000;

/// A table or index.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// What the script calls it: `{waits}`, `{name:_due}`.
    name: &'static str,
    /// What makes it, in one line.
    make: String,
}

/// All of them, in the order in which they are made.
pub(super) static PARTS: LazyLock<Vec<Part>> = LazyLock::new(|| {
    let one_line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut parts: Vec<_> = super::provision::MIGRATIONS[0]
        .split(';')
        .filter_map(|statement| {
            let (_, made) = statement.split_once("CREATE ")?;
            let (_, name) = made.split_once(' ')?;
            let (name, _) = name.split_once(' ')?;
            let without_comments = made.lines().filter(|it| !it.trim_start().starts_with("--"));
            let make = one_line(&without_comments.collect::<Vec<_>>().join(" "));
            Some(Part { name, make: format!("CREATE {make}") })
        })
        .collect();
    let key = "ALTER TABLE {flows} ADD CONSTRAINT {name:_pkey} PRIMARY KEY (id)";
    parts.insert(1, Part { name: "{name:_pkey}", make: key.into() });
    parts.push(Part { name: "{versions}", make: super::provision::MAKE_VERSIONS.into() });
    parts
});

/// What fills the tables beside the records, of records that read back: as `write` does.
const FILL: [(&str, &str); 2] = [
    (
        "{waits}",
        "INSERT INTO {waits} (run, expires_at, tool_id) \
         SELECT DISTINCT f.id, (w ->> 'expires_at')::bigint, w ->> 'tool_id' \
         FROM {flows} AS f, json_array_elements(\
           CASE json_typeof(f.waits) WHEN 'array' THEN f.waits ELSE '[]' END) AS w \
         WHERE w ->> 'tool_id' IS NOT NULL",
    ),
    (
        "{metadata}",
        "INSERT INTO {metadata} (run, entry) \
         SELECT f.id, CASE WHEN octet_length(e.entry) <= 512 THEN e.entry \
           ELSE encode(sha256(convert_to(e.entry, 'UTF8')), 'hex') END \
         FROM {flows} AS f, json_each(\
           CASE json_typeof(f.metadata) WHEN 'object' THEN f.metadata ELSE json_build_object() END) \
         AS m, \
         LATERAL (SELECT '[' || to_json(m.key) || ',' || \
           CASE m.value::text WHEN '-0.0' THEN '0.0' ELSE m.value::text END || ']') AS e (entry)",
    ),
];

impl Part {
    pub(super) fn is_index(&self) -> bool {
        self.name.starts_with("{name:")
    }

    /// Whether it says what is there, and not only where it is found.
    pub(super) fn is_irreplaceable(&self) -> bool {
        matches!(self.name, "{flows}" | "{versions}")
    }

    /// The name as people write it.
    pub(super) fn shown(&self, tables: &Tables) -> String {
        let suffix = match self.name {
            "{flows}" => "",
            "{waits}" => "_waits",
            "{metadata}" => "_metadata",
            "{versions}" => "_schema",
            other => other.trim_start_matches("{name:").trim_end_matches('}'),
        };
        format!("{}{suffix}", tables.shown())
    }

    /// What makes it, in one line.
    pub(super) fn make(&self, tables: &Tables) -> String {
        tables.fill(&self.make)
    }

    /// What makes it again, and fills it.
    pub(super) fn make_again(&self, tables: &Tables) -> String {
        let fill = FILL.iter().find(|(name, _)| *name == self.name);
        let fill = fill.map_or_else(String::new, |(_, fill)| format!("; {}", tables.fill(fill)));
        format!("{}{fill}", self.make(tables))
    }
}

/// The numbers of the parts that are missing, as an expression.
pub(super) fn missing(tables: &Tables) -> String {
    let values = PARTS.iter().enumerate().map(|(n, part)| {
        let name = match part.is_index() {
            true => tables.fill(&format!("{{schema}}.{}", part.name)),
            false => tables.fill(part.name),
        };
        format!("({n}, to_regclass({}))", literal(&name))
    });
    let values = values.collect::<Vec<_>>().join(", ");
    format!("ARRAY(SELECT n FROM (VALUES {values}) AS part (n, it) WHERE it IS NULL ORDER BY n)")
}

/// The parts of those numbers.
pub(super) fn numbered(numbers: &[i32]) -> Vec<&'static Part> {
    numbers.iter().filter_map(|n| PARTS.get(usize::try_from(*n).ok()?)).collect()
}

/// Counts, of the newest runs, those that can't be found by their waits, and by their metadata.
pub(super) fn unfound(tables: &Tables) -> Statement<'static> {
    Statement::new(tables.fill(&format!(
        "SELECT count(*) FILTER (WHERE f.waits::text LIKE '[_%]' AND NOT EXISTS \
           (SELECT 1 FROM {{waits}} AS o WHERE o.run = f.id)), \
         count(*) FILTER (WHERE f.metadata::text LIKE '_\"%' AND NOT EXISTS \
           (SELECT 1 FROM {{metadata}} AS o WHERE o.run = f.id)) \
         FROM (SELECT id, waits, metadata FROM {{flows}} ORDER BY id DESC LIMIT {LOOKED_AT}) AS f"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thing_that_the_script_makes_is_a_part() {
        let script = crate::store::postgres::provision::MIGRATIONS[0];
        let names: Vec<_> = PARTS.iter().map(|part| part.name).collect();
        assert_eq!(script.matches("CREATE ").count() + 2, names.len(), "{names:?}");
        assert_eq!(names[..3], ["{flows}", "{name:_pkey}", "{name:_due}"]);
        for part in &*PARTS {
            assert!(part.make.contains(part.name) && !part.make.contains("--"), "{part:?}");
            assert!(part.make.starts_with("CREATE ") || part.name == "{name:_pkey}", "{part:?}");
        }
        for (name, fill) in FILL {
            assert!(names.contains(&name) && fill.starts_with(&format!("INSERT INTO {name} ")));
        }
    }
}
