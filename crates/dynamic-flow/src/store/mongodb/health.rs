//! How a server is set up, in plain words.

use std::time::Instant;

use mongodb::bson::doc;

use super::{
    connection::{Connection, Server, Topology, is_majority},
    provision::{exists, missing, removing},
    trouble::Trouble,
};
use crate::store::{Health, server::Wire};

pub(super) async fn health(connection: &Connection, location: String) -> Result<Health, Trouble> {
    let began = Instant::now();
    let hello = connection.database.run_command(doc! { "hello": 1 }).await?;
    let latency = began.elapsed();
    let server = Server::of(&hello)?;
    let mut warnings: Vec<String> = of_wire(connection, &server.topology).into_iter().collect();
    let kept = set_up(connection, &server, &mut warnings);
    let stored = is_stored(connection, &mut warnings).await?;
    indexes(connection, &mut warnings).await?;
    Ok(Health {
        backend: "mongodb".into(),
        location,
        latency,
        durable: kept && stored,
        warnings,
        problem: None,
    })
}

/// Whether somebody on the way to the servers can read what is sent, or take their place.
fn of_wire(connection: &Connection, topology: &Topology) -> Option<String> {
    let members: &[String] = match topology {
        // The driver goes on to those of whom it is told, by the names that they have there.
        Topology::ReplicaSet(members) if !connection.direct => members,
        _ => &[],
    };
    let members =
        members.iter().map(|it| it.rsplit_once(':').map_or(it.as_str(), |(host, _)| host));
    let remedy = match connection.wire {
        Wire::Unverified => "leave tlsAllowInvalidCertificates and tlsInsecure out of the URL",
        _ => "set tls=true",
    };
    connection.wire.warning(connection.hosts.iter().map(String::as_str).chain(members), remedy)
}

/// Whether what is acknowledged is in a journal, and not undone by a failover.
fn set_up(connection: &Connection, server: &Server, warnings: &mut Vec<String>) -> bool {
    let members = match &server.topology {
        Topology::Standalone => {
            warnings.push(
                "The server stands alone: what it holds is lost with its disk, and workers get no \
                 notice of changes but poll for them; use a replica set."
                    .into(),
            );
            1
        }
        Topology::ReplicaSet(members) => {
            if members.len() == 1 {
                warnings.push(
                    "The replica set has one member: what it holds is lost with its disk; add two."
                        .into(),
                );
            }
            members.len()
        }
        // How many members a shard has, its router does not say.
        Topology::Sharded => usize::MAX,
    };
    let majority = is_majority(&connection.write, members);
    if !majority {
        warnings.push(
            "The write concern in the URL is less than a majority: what is acknowledged may be \
             undone when another member becomes the primary; set w=majority."
                .into(),
        );
    }
    let journaled = connection.write.journal == Some(true);
    if !journaled {
        warnings.push(
            "The URL says journal=false: what is acknowledged may be lost in a power failure; set \
             journal=true."
                .into(),
        );
    }
    majority && journaled
}

/// Whether the server writes to a disk at all. Not every user may ask that.
async fn is_stored(connection: &Connection, warnings: &mut Vec<String>) -> Result<bool, Trouble> {
    let status = doc! { "serverStatus": 1, "repl": 0, "metrics": 0, "locks": 0 };
    let status = match connection.database.run_command(status).await.map_err(Trouble::from) {
        Ok(status) => status,
        Err(trouble) if trouble.is_forbidden() || trouble.is_unknown_command() => return Ok(true),
        Err(trouble) => return Err(trouble),
    };
    let Ok(engine) = status.get_document("storageEngine") else { return Ok(true) };
    let stored = engine.get_bool("persistent").unwrap_or(true);
    if !stored {
        let name = engine.get_str("name").unwrap_or("the server");
        warnings.push(format!(
            "The storage engine {name} keeps everything in memory, nothing on disk."
        ));
    }
    Ok(stored)
}

async fn indexes(connection: &Connection, warnings: &mut Vec<String>) -> Result<(), Trouble> {
    if !exists(connection).await? {
        warnings.push(format!(
            "There is no collection {} yet; the next start of a hub, or `dflow run` or `work`, makes \
             it.",
            connection.records.name()
        ));
        return Ok(());
    }
    let missing = missing(connection).await?;
    let names = missing.iter().filter_map(|index| index.options.as_ref()?.name.as_deref());
    let names: Vec<_> = names.collect();
    if !names.is_empty() {
        warnings.push(format!(
            "Indexes are missing: {}; the next start of a hub, or any `dflow` command that uses \
             the store, makes them.",
            names.join(", ")
        ));
    }
    for name in removing(connection).await? {
        warnings.push(format!(
            "The index {name} makes the server remove runs, and it is not ours; drop it."
        ));
    }
    Ok(())
}
