//! Whether a server is set up to keep what it has acknowledged, in plain words.

use std::time::{Duration, Instant};

use tokio_postgres::{Row, types::Type};

use super::{
    connection::{Connections, Statement},
    parts::{self, LOOKED_AT, Part},
    rows::get,
    tables::Tables,
    trouble::{OLDEST, Trouble},
};
use crate::store::Health;

/// What a server says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Said {
    version: i32,
    fsync: bool,
    full_page_writes: bool,
    synchronous_commit: String,
    synchronous_standbys: bool,
    standbys: i64,
    read_only: bool,
    autovacuum: bool,
    /// Of the table: `p` for permanent, `u` for unlogged; none if there is no table.
    persistence: Option<String>,
    /// What there is not of what belongs to a store.
    missing: Vec<&'static Part>,
    /// Whether the connection is by TLS.
    encrypted: bool,
    /// The connections that it takes.
    connections: i32,
}

pub(super) async fn health(connections: &Connections) -> Result<Health, Trouble> {
    // The first call may make the connection; the second one tells how long a round trip takes.
    let tables = &connections.settings.tables;
    let statement = ask(tables);
    connections.query(&statement).await?;
    let began = Instant::now();
    let rows = connections.query(&statement).await?;
    let latency = began.elapsed();
    let said = Said::read(rows.first().ok_or(Trouble::Damaged("settings"))?)?;
    let settings = &connections.settings;
    let mut warnings = said.warnings(settings.config.pool_size, &tables.shown());
    let wire = settings.config.wire(said.encrypted);
    warnings.extend(wire.warning(settings.places(), "set sslmode to verify-full"));
    warnings.extend(of_missing(&said.missing, tables));
    if said.missing.iter().all(|part| part.is_index()) {
        let counts = connections.query(&parts::unfound(tables)).await?;
        let row = counts.first().ok_or(Trouble::Damaged("unfound"))?;
        for (n, table) in [&tables.waits, &tables.metadata].into_iter().enumerate() {
            warnings.extend(of_unfound(get(row, n, "unfound")?, table));
        }
    }
    Ok(said.health(settings.location.to_string(), latency, warnings))
}

fn ask(tables: &Tables) -> Statement<'static> {
    let mut it = Statement::new("");
    let flows = it.bind(tables.flows.clone(), Type::TEXT);
    it.sql = format!(
        "SELECT current_setting('server_version_num')::int4, \
         current_setting('fsync')::bool, current_setting('full_page_writes')::bool, \
         current_setting('synchronous_commit'), \
         current_setting('synchronous_standby_names') <> '', \
         (SELECT count(*) FROM pg_stat_replication), \
         current_setting('transaction_read_only')::bool, \
         current_setting('autovacuum')::bool, \
         (SELECT relpersistence::text FROM pg_class WHERE oid = to_regclass({flows})), \
         coalesce((SELECT s.ssl FROM pg_stat_ssl AS s WHERE s.pid = pg_backend_pid()), false), \
         current_setting('max_connections')::int4, {missing}",
        missing = parts::missing(tables),
    );
    it
}

/// What there is to say of what is missing.
fn of_missing(missing: &[&Part], tables: &Tables) -> Vec<String> {
    let lost = missing.iter().filter(|part| part.is_irreplaceable()).count();
    let warn = |part: &&Part| {
        let name = part.shown(tables);
        match (part.is_irreplaceable(), part.is_index()) {
            (true, _) => format!(
                "The table {name} is missing: give it its name back, or restore it from a backup."
            ),
            (_, true) => format!(
                "The index {name} is missing, and whole tables are read in its place; have the owner \
                 of the table run {}.",
                part.make(tables)
            ),
            _ => format!(
                "The table {name} is missing, and nothing can be written that is found by it; the \
                 next start of a hub, or any `dflow` command that uses the store, makes it again \
                 from the records."
            ),
        }
    };
    match lost {
        2 => vec![format!(
            "There is no table {} yet; the next start of a hub, or `dflow run` or `work`, makes it.",
            tables.shown()
        )],
        _ => missing.iter().map(warn).collect(),
    }
}

/// What there is to say of runs that have no rows where they have to be found.
fn of_unfound(count: i64, table: &str) -> Option<String> {
    (count > 0).then(|| {
        format!(
            "Of the newest {LOOKED_AT} runs {count} can't be found by {table}, as after a partial \
             restore; run DROP TABLE {table} while no hub runs: the next start makes it again from \
             the records."
        )
    })
}

impl Said {
    fn read(row: &Row) -> Result<Self, Trouble> {
        Ok(Self {
            version: get(row, 0, "server_version_num")?,
            fsync: get(row, 1, "fsync")?,
            full_page_writes: get(row, 2, "full_page_writes")?,
            synchronous_commit: get(row, 3, "synchronous_commit")?,
            synchronous_standbys: get(row, 4, "synchronous_standby_names")?,
            standbys: get(row, 5, "pg_stat_replication")?,
            read_only: get(row, 6, "transaction_read_only")?,
            autovacuum: get(row, 7, "autovacuum")?,
            persistence: get(row, 8, "relpersistence")?,
            encrypted: get(row, 9, "ssl")?,
            connections: get(row, 10, "max_connections")?,
            missing: parts::numbered(&get::<Vec<i32>>(row, 11, "missing")?),
        })
    }

    fn durable(&self) -> bool {
        self.fsync
            && self.full_page_writes
            && self.synchronous_commit != "off"
            && self.persistence.as_deref() != Some("u")
    }

    fn health(&self, location: String, latency: Duration, warnings: Vec<String>) -> Health {
        Health {
            backend: "postgres".into(),
            location,
            latency,
            durable: self.durable(),
            warnings,
            problem: None,
        }
    }

    fn warnings(&self, pool_size: usize, table: &str) -> Vec<String> {
        let mut warnings = Vec::new();
        let mut warn = |when: bool, warning: String| {
            if when {
                warnings.push(warning);
            }
        };
        warn(
            !self.fsync,
            "fsync is off: a power failure may lose or damage everything; set it to on.".into(),
        );
        warn(
            !self.full_page_writes,
            "full_page_writes is off: a power failure may tear pages, unless the file system \
             never does; set it to on."
                .into(),
        );
        warn(
            self.synchronous_commit == "off",
            "synchronous_commit is off: what was acknowledged in the last second may be lost with \
             the server; set it to on for this user or database."
                .into(),
        );
        warn(
            self.synchronous_standbys && self.synchronous_commit == "local",
            "synchronous_commit is local: standbys are not waited for, so a failover may lose what \
             was acknowledged last; set it to on."
                .into(),
        );
        warn(
            self.standbys > 0 && !self.synchronous_standbys,
            "No write waits for a standby: a failover may lose what was acknowledged last; name a \
             standby in synchronous_standby_names."
                .into(),
        );
        warn(
            self.persistence.as_deref() == Some("u"),
            format!(
                "The table {table} is unlogged: after a crash it is empty; run ALTER TABLE … SET LOGGED."
            ),
        );
        warn(
            self.read_only,
            "The server is read-only, as a standby is: runs can be listed but not written.".into(),
        );
        warn(
            self.version < OLDEST,
            format!(
                "The server is PostgreSQL {}, and {} is the oldest that is supported; upgrade it.",
                self.version / 10_000,
                OLDEST / 10_000
            ),
        );
        warn(
            !self.autovacuum,
            "autovacuum is off: tables grow with every write; set it to on.".into(),
        );
        warn(
            i64::try_from(pool_size).is_ok_and(|size| size >= i64::from(self.connections)),
            format!(
                "pool_size is {pool_size}, and the server takes {} connections from all clients; \
                 lower pool_size or raise max_connections.",
                self.connections
            ),
        );
        warnings
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::is_sentence;

    fn sound() -> Said {
        Said {
            version: 150_018,
            fsync: true,
            full_page_writes: true,
            synchronous_commit: "on".into(),
            synchronous_standbys: false,
            standbys: 0,
            read_only: false,
            autovacuum: true,
            persistence: Some("p".into()),
            missing: Vec::new(),
            encrypted: false,
            connections: 100,
        }
    }

    #[test]
    fn a_sound_server_is_durable_without_a_word() {
        let said = sound();
        assert!(said.durable());
        assert_eq!(said.warnings(16, "public.t"), Vec::<String>::new());
    }

    #[test]
    fn each_thing_that_is_wrong_has_its_sentence() {
        let text = |it: &str| it.to_owned();
        for (said, durable, word) in [
            (Said { fsync: false, ..sound() }, false, "fsync"),
            (Said { full_page_writes: false, ..sound() }, false, "full_page_writes"),
            (Said { synchronous_commit: text("off"), ..sound() }, false, "last second"),
            (
                Said { synchronous_commit: text("local"), synchronous_standbys: true, ..sound() },
                true,
                "failover",
            ),
            (Said { standbys: 1, ..sound() }, true, "synchronous_standby_names"),
            (Said { persistence: Some(text("u")), ..sound() }, false, "unlogged"),
            (Said { read_only: true, ..sound() }, true, "read-only"),
            (Said { version: 120_022, ..sound() }, true, "PostgreSQL 12"),
            (Said { autovacuum: false, ..sound() }, true, "autovacuum"),
            (Said { connections: 16, ..sound() }, true, "max_connections"),
        ] {
            assert_eq!(said.durable(), durable, "{word}");
            let warnings = said.warnings(16, "public.t");
            assert_eq!(warnings.len(), 1, "{word}: {warnings:?}");
            assert!(warnings[0].contains(word), "{warnings:?}");
            assert!(is_sentence(&warnings[0]), "{warnings:?}");
        }
        // On the server alone, `local` is as good as `on`.
        let alone = Said { synchronous_commit: text("local"), ..sound() };
        assert_eq!(alone.warnings(16, "public.t"), Vec::<String>::new());
    }
}
