//! How the server is, in plain words.

use std::collections::BTreeMap;

use super::{
    config::Neo4jConfig, connection::Connections, schema, statement::Statement, trouble::Trouble,
};
use crate::store::server::Wire;

/// Transactions that may take less memory than this can't hold large runs.
const ENOUGH_MEMORY: f64 = 64.0 * MIB;
const MIB: f64 = 1024.0 * 1024.0;

/// What of the server's settings matters to a store.
const SETTINGS: [&str; 3] = [MEMORY_OF_ONE, MEMORY_OF_ALL, READ_ONLY_BY_DEFAULT];
const MEMORY_OF_ONE: &str = "db.memory.transaction.max";
const MEMORY_OF_ALL: &str = "dbms.memory.transaction.total.max";
const READ_ONLY_BY_DEFAULT: &str = "server.databases.default_to_read_only";

/// What an operator should mend or know, each a sentence.
pub(super) async fn warnings(connections: &Connections) -> Result<Vec<String>, Trouble> {
    let about = schema::about(connections).await?;
    let mut warnings: Vec<String> = of_wire(connections.config()).into_iter().collect();
    if about.edition == "community" {
        warnings.push(format!(
            "This is Neo4j {} Community: one database, no cluster, and no backup while it runs.",
            about.version
        ));
    }
    warnings.extend(of_database(connections).await?);
    warnings.extend(of_settings(connections).await);
    Ok(warnings)
}

/// Whether somebody on the way to the server can read what is sent.
fn of_wire(config: &Neo4jConfig) -> Option<String> {
    let wire = if config.encrypted() { Wire::Verified } else { Wire::Clear };
    wire.warning(config.host(), "write neo4j+s:// or bolt+s:// in the URL, for TLS")
}

/// Whether the database can be written here.
async fn of_database(connections: &Connections) -> Result<Option<String>, Trouble> {
    let text = "SHOW DATABASES YIELD name, access, currentStatus, writer WHERE name = $p.name \
                RETURN access, currentStatus AS status, writer";
    let name = connections.place().database().to_lowercase();
    let rows = connections.look(Statement::new(text).param("name", name)).await?;
    let told: Vec<(String, String, bool)> = rows
        .iter()
        .filter_map(|row| {
            Some((row.get("access").ok()?, row.get("status").ok()?, row.get("writer").ok()?))
        })
        .collect();
    Ok(database_warning(&told))
}

/// What there is to say of a database, told once for each member of a cluster that has it.
fn database_warning(members: &[(String, String, bool)]) -> Option<String> {
    if members.iter().any(|(access, ..)| access == "read-only") {
        return Some(
            "The database is read-only: nothing can be written until server.databases.read_only is \
             changed."
                .into(),
        );
    }
    if let Some((_, status, _)) = members.iter().find(|(_, status, _)| status != "online") {
        return Some(format!("The database is {status} on a member of the cluster."));
    }
    let no_writer = !members.is_empty() && !members.iter().any(|(.., writer)| *writer);
    no_writer.then(|| "No member of the cluster takes writes: it has no leader.".into())
}

/// What of the settings is not as it should be. On the Enterprise edition only those who may see
/// them are told, which is worth a sentence, and no reason to fail.
async fn of_settings(connections: &Connections) -> Vec<String> {
    let text = "SHOW SETTINGS YIELD name, value WHERE name IN $p.names RETURN name, value";
    let names = SETTINGS.map(str::to_owned).to_vec();
    let Ok(rows) = connections.look(Statement::new(text).param("names", names)).await else {
        return vec![
            "This user may not see the server's settings, so they could not be checked.".into(),
        ];
    };
    let settings: BTreeMap<String, String> = rows
        .iter()
        .filter_map(|row| Some((row.get("name").ok()?, row.get("value").ok()?)))
        .collect();
    settings_warnings(&settings)
}

fn settings_warnings(settings: &BTreeMap<String, String>) -> Vec<String> {
    let mut warnings = Vec::new();
    for name in [MEMORY_OF_ONE, MEMORY_OF_ALL] {
        // Nothing is no limit.
        let limit = settings.get(name).and_then(|value| bytes(value)).filter(|limit| *limit > 0.0);
        if let Some(limit) = limit.filter(|limit| *limit < ENOUGH_MEMORY) {
            let limit = limit / MIB;
            warnings.push(format!(
                "{name} is {limit:.0} MiB: large runs will be refused, and so will many small ones at \
                 once."
            ));
        }
    }
    if settings.get(READ_ONLY_BY_DEFAULT).is_some_and(|value| value == "true") {
        warnings.push(format!("{READ_ONLY_BY_DEFAULT} is true: a new database can't be written."));
    }
    warnings
}

/// A size as the server writes it: `346.46MiB`, `2.00GiB`, `0B`.
fn bytes(text: &str) -> Option<f64> {
    let (number, unit) = text.split_at(text.find(|c: char| c.is_ascii_alphabetic())?);
    let factor = match unit {
        "B" => 1.0,
        "KiB" => 1024.0,
        "MiB" => MIB,
        "GiB" => 1024.0 * MIB,
        "TiB" => 1024.0 * 1024.0 * MIB,
        _ => return None,
    };
    number.parse::<f64>().ok().map(|number| number * factor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::is_sentence;

    #[test]
    fn a_password_that_crosses_a_network_in_the_clear_is_told_of() {
        let told = |url: &str| of_wire(&Neo4jConfig::from_url(url).unwrap()).unwrap_or_default();
        for url in ["neo4j://u:p@db.example/flows", "bolt://10.0.0.7:7687", "bolt://[2001:db8::7]"]
        {
            assert!(told(url).contains("unencrypted") && told(url).contains("neo4j+s://"), "{url}");
            assert_eq!(told(&url.replace("://", "+s://")), "", "{url}");
        }
        for url in ["neo4j://localhost", "bolt://127.0.0.1:7687", "bolt://[::1]"] {
            assert_eq!(told(url), "", "{url}");
        }
    }

    #[test]
    fn settings_that_are_too_tight_are_told_of() {
        let settings = |pairs: &[(&str, &str)]| {
            settings_warnings(&pairs.iter().map(|(a, b)| ((*a).into(), (*b).into())).collect())
        };
        let fine =
            [(MEMORY_OF_ONE, "0B"), (MEMORY_OF_ALL, "346.46MiB"), (READ_ONLY_BY_DEFAULT, "false")];
        assert_eq!(settings(&fine), Vec::<String>::new());
        let tight = [
            (MEMORY_OF_ONE, "10.00MiB"),
            (MEMORY_OF_ALL, "1.00GiB"),
            (READ_ONLY_BY_DEFAULT, "true"),
        ];
        let told = settings(&tight);
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].starts_with("db.memory.transaction.max is 10 MiB"), "{told:?}");
        assert!(told.iter().all(|it| is_sentence(it)), "{told:?}");
    }

    #[test]
    fn a_database_that_takes_no_writes_is_told_of() {
        let member = |access: &str, status: &str, writer| (access.into(), status.into(), writer);
        let told =
            |members: &[(String, String, bool)]| database_warning(members).unwrap_or_default();
        assert_eq!(
            told(&[member("read-write", "online", true), member("read-write", "online", false)]),
            ""
        );
        assert!(told(&[member("read-only", "online", true)]).contains("read-only"));
        assert!(told(&[member("read-write", "store copying", true)]).contains("store copying"));
        assert!(told(&[member("read-write", "online", false)]).contains("leader"));
        assert_eq!(told(&[]), "");
    }
}
