//! The database, its constraints and indexes, and the version of all that.

use std::time::Duration;

use neo4rs::Row;

use super::{connection::Connections, names::Names, statement::Statement, trouble::Trouble};
use crate::store::server::within;

/// The version of the schema that this program makes.
const VERSION: i64 = 1;

/// The oldest server that will do: the first with the scope of subqueries in parentheses.
const OLDEST: (u32, u32) = (5, 23);

/// How long it may take until the indexes of a graph that is full already are filled.
const PATIENCE: Duration = Duration::from_secs(600);

/// A constraint or an index.
struct Index {
    name: &'static str,
    /// Which nodes or relationships, already quoted.
    of: String,
    on_nodes: bool,
    unique: bool,
    properties: &'static [&'static str],
}

impl Index {
    fn shown(&self, names: &Names) -> String {
        Names::bare(&names.index(self.name)).to_owned()
    }

    fn statement(&self, names: &Names) -> Statement {
        let name = names.index(self.name);
        let pattern = if self.on_nodes {
            format!("(x:{})", self.of)
        } else {
            format!("()-[x:{}]-()", self.of)
        };
        let properties: Vec<_> = self.properties.iter().map(|it| format!("x.{it}")).collect();
        let properties = properties.join(", ");
        Statement::new(if self.unique {
            format!(
                "CREATE CONSTRAINT {name} IF NOT EXISTS FOR {pattern} REQUIRE ({properties}) IS UNIQUE"
            )
        } else {
            format!("CREATE INDEX {name} IF NOT EXISTS FOR {pattern} ON ({properties})")
        })
    }
}

/// What the first version of the schema has.
fn first(names: &Names) -> Vec<Index> {
    let Names { run, flow, tool, metadata, schema, waits_for, has, .. } = names;
    let node = |name, of: &String, unique, properties| Index {
        name,
        of: of.clone(),
        on_nodes: true,
        unique,
        properties,
    };
    let link = |name, of: &String, properties| Index {
        name,
        of: of.clone(),
        on_nodes: false,
        unique: false,
        properties,
    };
    vec![
        node("schema", schema, true, &["name"]),
        // Ids sort by creation: this is the index of creation times, too.
        node("id", run, true, &["id"]),
        node("due", run, false, &["queue", "dueAt"]),
        node("status", run, false, &["status", "id"]),
        node("flow_status", run, false, &["flowId", "status", "id"]),
        node("flow", flow, true, &["id"]),
        node("tool", tool, true, &["id"]),
        node("metadata", metadata, true, &["entry"]),
        node("metadata_value", metadata, false, &["name", "value"]),
        link("waits", waits_for, &["tool", "run"]),
        link("deadlines", waits_for, &["expiresAt"]),
        link("metadata_run", has, &["entry", "run"]),
    ]
}

/// Makes what is missing. Any number may do it at once: each step is done once, and found done by
/// the others.
pub(super) async fn provision(connections: &Connections, names: &Names) -> Result<(), Trouble> {
    make_database(connections).await?;
    let found = version(connections, names).await?;
    if found == Some(VERSION) {
        return Ok(());
    }
    if found.is_none() {
        refuse_foreign(connections, names).await?;
    }
    let indexes = first(names);
    for index in &indexes {
        make(connections, index.statement(names)).await.map_err(|trouble| match trouble {
            trouble if trouble.is_of_schema() => Trouble::Index(index.shown(names)),
            other => other,
        })?;
    }
    within(PATIENCE, filled(connections, names, &indexes)).await?;
    let text = format!(
        "MERGE (s:{} {{name: 'dynamic-flow'}}) \
         ON CREATE SET s.version = $p.version ON MATCH SET s.version = $p.version RETURN s.version",
        names.schema
    );
    connections.write(Statement::new(text).param("version", VERSION)).await?;
    Ok(())
}

/// Whether the mark of a schema is there, or a node that only a store has.
pub(super) async fn exists(connections: &Connections, names: &Names) -> Result<bool, Trouble> {
    match about(connections).await {
        Err(trouble) if trouble.is_missing_database() => return Ok(false),
        about => drop(about?),
    }
    if version(connections, names).await?.is_some() {
        return Ok(true);
    }
    for label in names.of_nodes() {
        if any(connections, label).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether there is a node with that label.
async fn any(connections: &Connections, label: &str) -> Result<bool, Trouble> {
    let text = format!("MATCH (x:{label}) RETURN true AS found LIMIT 1");
    Ok(!connections.read(Statement::new(text)).await?.is_empty())
}

/// Looks whether the database is there, and makes it if it is not; and whether the server will do.
async fn make_database(connections: &Connections) -> Result<(), Trouble> {
    let found = match about(connections).await {
        Err(trouble) if trouble.is_missing_database() => {
            let made = connections.create_database().await;
            made.map_err(|why| Trouble::NoDatabase(Box::new(why)))?;
            about(connections).await
        }
        other => other,
    };
    let About { version, .. } = found?;
    if is_too_old(&version) { Err(Trouble::OldServer(version)) } else { Ok(()) }
}

/// Which server it is.
#[derive(Debug)]
pub(super) struct About {
    pub(super) version: String,
    pub(super) edition: String,
}

/// Asks the server which one it is.
pub(super) async fn about(connections: &Connections) -> Result<About, Trouble> {
    let text = "CALL dbms.components() YIELD name, versions, edition \
                WHERE name = 'Neo4j Kernel' RETURN versions[0] AS version, edition";
    let rows = connections.look(Statement::new(text)).await?;
    let row = rows.first().ok_or(Trouble::Damaged("answer to dbms.components"))?;
    let text = |name| row.get(name).map_err(|_| Trouble::Damaged("answer to dbms.components"));
    Ok(About { version: text("version")?, edition: text("edition")? })
}

/// Whether a server of that version is older than what the statements need. One whose version is
/// not numbers is taken at its word.
fn is_too_old(version: &str) -> bool {
    let mut numbers = version.split(['.', '-', '+']).map_while(|part| part.parse::<u32>().ok());
    numbers.next().is_some_and(|major| (major, numbers.next().unwrap_or(0)) < OLDEST)
}

/// The version of the schema, if one has been made.
async fn version(connections: &Connections, names: &Names) -> Result<Option<i64>, Trouble> {
    let text =
        format!("MATCH (s:{} {{name: 'dynamic-flow'}}) RETURN s.version AS version", names.schema);
    let rows = connections.read(Statement::new(text)).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    match row.get("version").map_err(|_| Trouble::Damaged("version of the schema"))? {
        version if version > VERSION => Err(Trouble::NewerSchema(version)),
        version => Ok(Some(version)),
    }
}

/// Before there is a schema there is no node of ours: what has our labels is somebody else's.
async fn refuse_foreign(connections: &Connections, names: &Names) -> Result<(), Trouble> {
    for label in names.of_nodes() {
        // Others who provision may have come to their end in between, and somebody have inserted.
        if any(connections, label).await? && version(connections, names).await?.is_none() {
            return Err(Trouble::Foreign(Names::bare(label).to_owned()));
        }
    }
    Ok(())
}

/// Makes a constraint or an index, in spite of others who are making the same one.
async fn make(connections: &Connections, statement: Statement) -> Result<(), Trouble> {
    let mut pause = Duration::from_millis(5);
    let tries = async {
        loop {
            match connections.write(statement.clone()).await {
                Err(trouble) if trouble.is_schema_race() => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_millis(200));
                }
                other => return other.map(drop),
            }
        }
    };
    within(connections.config().operation_timeout, tries).await
}

/// Waits until the indexes are there and filled, and checks that they are what they should be: one
/// of the same name may have been there before.
async fn filled(
    connections: &Connections,
    names: &Names,
    indexes: &[Index],
) -> Result<(), Trouble> {
    let mut pause = Duration::from_millis(5);
    loop {
        let text = "SHOW INDEXES YIELD state, labelsOrTypes, properties, entityType, \
                    owningConstraint WHERE labelsOrTypes IS NOT NULL \
                    RETURN state, labelsOrTypes[0] AS of, properties, entityType AS entity, \
                    owningConstraint IS NOT NULL AS unique";
        let rows = connections.read(Statement::new(text)).await?;
        let found: Vec<_> = rows.iter().filter_map(Found::of).collect();
        let mut all_online = true;
        for index in indexes {
            let is_it = |it: &&Found| {
                it.of == Names::bare(&index.of)
                    && it.on_nodes == index.on_nodes
                    && it.properties == index.properties
                    && (it.unique || !index.unique)
            };
            match found.iter().find(is_it).map(|it| it.state.as_str()) {
                Some("ONLINE") => {}
                Some("POPULATING") => all_online = false,
                _ => return Err(Trouble::Index(index.shown(names))),
            }
        }
        if all_online {
            return Ok(());
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(1));
    }
}

/// An index as the server tells of it.
struct Found {
    state: String,
    of: String,
    properties: Vec<String>,
    on_nodes: bool,
    unique: bool,
}

impl Found {
    fn of(row: &Row) -> Option<Self> {
        let entity: String = row.get("entity").ok()?;
        Some(Self {
            state: row.get("state").ok()?,
            of: row.get("of").ok()?,
            properties: row.get("properties").ok()?,
            on_nodes: entity == "NODE",
            unique: row.get("unique").ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_too_old_by_its_version() {
        for (version, too_old) in [
            ("4.4.38", true),
            ("5.22.0", true),
            ("5.23.0", false),
            ("5.26.30", false),
            ("5.26-aura", false),
            ("2025.01.0", false),
            ("6", false),
            ("dev", false),
        ] {
            assert_eq!(is_too_old(version), too_old, "{version}");
        }
    }
}
