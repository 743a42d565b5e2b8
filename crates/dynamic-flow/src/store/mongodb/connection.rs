//! The driver's client, and what kind of server it found.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use mongodb::{
    Client, Collection, Database,
    bson::{Document, RawDocumentBuf, doc},
    event::{EventHandler, sdam::SdamEvent},
    options::{Acknowledgment, ClientOptions, ReadConcern, ServerAddress, Tls, WriteConcern},
};

use super::{
    config::Settings,
    trouble::{Reason, Trouble},
};
use crate::store::server::Wire;

/// The oldest version of the protocol that will do: that of MongoDB 4.4.
const OLDEST: i64 = 9;
/// How large a document may be, where the server does not say.
const DOCUMENT: usize = 16 * 1024 * 1024;

/// A client that was connected once; it reconnects by itself.
#[derive(Clone)]
pub(super) struct Connection {
    pub(super) database: Database,
    pub(super) records: Collection<RawDocumentBuf>,
    pub(super) schema: Collection<Document>,
    pub(super) server: Arc<Server>,
    pub(super) write: WriteConcern,
    /// How `get` reads: what it finds was written, and is not undone by a failover.
    pub(super) newest: ReadConcern,
    /// How pages are read: nothing on them is undone by a failover.
    pub(super) settled: ReadConcern,
    pub(super) timeout: Duration,
    pub(super) purge_margin: Option<Duration>,
    pub(super) wire: Wire,
    /// Where it was looked for.
    pub(super) hosts: Vec<String>,
    /// Whether no other members are talked to.
    pub(super) direct: bool,
}

/// What a server says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) topology: Topology,
    /// How large a document may be.
    pub(super) document: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Topology {
    Standalone,
    /// With the addresses of its members.
    ReplicaSet(Vec<String>),
    Sharded,
}

/// What the driver saw when it looked at a server last.
#[derive(Debug, Clone)]
pub(super) struct Watch(Arc<Mutex<Reason>>);

impl Default for Watch {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Reason::Silent)))
    }
}

impl Watch {
    /// Why no server could be found, if none could.
    pub(super) fn last(&self) -> Reason {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn handler(&self) -> EventHandler<SdamEvent> {
        let last = self.0.clone();
        EventHandler::callback(move |event| {
            let reason = match event {
                SdamEvent::ServerHeartbeatFailed(event) => Reason::of(&event.failure),
                SdamEvent::ServerHeartbeatSucceeded(event) => match Server::of(&event.reply) {
                    Ok(_) => Reason::NoPrimary,
                    Err(_) => Reason::TooOld,
                },
                _ => return,
            };
            *last.lock().unwrap_or_else(PoisonError::into_inner) = reason;
        })
    }
}

impl Connection {
    /// Makes a client and asks the server who it is.
    pub(super) async fn open(settings: &Settings, watch: &Watch) -> Result<Self, Trouble> {
        let mut options = ClientOptions::parse(settings.servers.clone()).await?;
        options.sdam_event_handler = Some(watch.handler());
        let write = options.write_concern.clone().unwrap_or_default();
        let wire = wire_of(options.tls.as_ref());
        let hosts = options.hosts.iter().map(host_of).collect();
        let direct = options.direct_connection == Some(true);
        let database = Client::with_options(options)?.database(&settings.database);
        let server = Server::of(&database.run_command(doc! { "hello": 1 }).await?)?;
        let (newest, settled) = match server.topology {
            // A server alone has nobody to agree with, and refuses to try.
            Topology::Standalone => (ReadConcern::local(), ReadConcern::local()),
            Topology::ReplicaSet(_) | Topology::Sharded => {
                (ReadConcern::linearizable(), ReadConcern::majority())
            }
        };
        Ok(Self {
            records: database.collection(&settings.collection),
            schema: database.collection(&format!("{}.schema", settings.collection)),
            database,
            server: Arc::new(server),
            write,
            newest,
            settled,
            timeout: settings.operation_timeout,
            purge_margin: settings.purge_margin,
            wire,
            hosts,
            direct,
        })
    }
}

impl Server {
    /// Reads the answer to `hello`.
    pub(super) fn of(hello: &Document) -> Result<Self, Trouble> {
        let number = |name| match hello.get_i32(name) {
            Ok(number) => Some(i64::from(number)),
            Err(_) => hello.get_i64(name).ok(),
        };
        let version = number("maxWireVersion").unwrap_or(0);
        if version < OLDEST {
            return Err(Trouble::TooOld(version));
        }
        let topology = if hello.get_str("setName").is_ok() {
            let members = |name| hello.get_array(name).into_iter().flatten();
            let members = members("hosts").chain(members("passives"));
            Topology::ReplicaSet(members.filter_map(|it| Some(it.as_str()?.into())).collect())
        } else if hello.get_str("msg").is_ok_and(|it| it == "isdbgrid") {
            Topology::Sharded
        } else {
            Topology::Standalone
        };
        let document = number("maxBsonObjectSize").and_then(|size| usize::try_from(size).ok());
        Ok(Self { topology, document: document.unwrap_or(DOCUMENT) })
    }
}

/// What keeps a connection from whoever is on its way.
fn wire_of(tls: Option<&Tls>) -> Wire {
    match tls {
        Some(Tls::Enabled(tls)) if tls.allow_invalid_certificates == Some(true) => Wire::Unverified,
        Some(Tls::Enabled(_)) => Wire::Verified,
        _ => Wire::Clear,
    }
}

fn host_of(address: &ServerAddress) -> String {
    match address {
        ServerAddress::Tcp { host, .. } => host.clone(),
        // A socket's path, which is shown as it is.
        other => other.to_string(),
    }
}

/// Whether what is written with that concern is known to a majority of the members.
pub(super) fn is_majority(write: &WriteConcern, members: usize) -> bool {
    match &write.w {
        Some(Acknowledgment::Majority) => true,
        Some(Acknowledgment::Nodes(count)) => *count as usize > members / 2,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_known_by_its_hello() {
        let base = doc! { "maxWireVersion": 25, "maxBsonObjectSize": 16_777_216 };
        let with = |more: Document| {
            let mut hello = base.clone();
            hello.extend(more);
            Server::of(&hello).unwrap()
        };
        assert_eq!(with(doc! {}).topology, Topology::Standalone);
        assert_eq!(with(doc! { "msg": "isdbgrid" }).topology, Topology::Sharded);
        let set = doc! { "setName": "rs0", "hosts": ["a:1", "b:1"], "passives": ["c:1"] };
        let members = ["a:1", "b:1", "c:1"].map(str::to_owned);
        assert_eq!(with(set).topology, Topology::ReplicaSet(members.into()));
        assert_eq!(with(doc! { "maxBsonObjectSize": 1000_i64 }).document, 1000);
    }

    #[test]
    fn a_server_older_than_what_is_used_of_it_is_refused() {
        for hello in [doc! { "maxWireVersion": 8 }, doc! {}] {
            let error = Server::of(&hello).unwrap_err().into_error("provision", "mongodb://h");
            assert!(error.message().contains("4.4"), "{error}");
            assert!(!error.is_retryable());
        }
        assert!(Server::of(&doc! { "maxWireVersion": 9 }).is_ok());
    }

    #[tokio::test]
    async fn what_keeps_a_connection_is_read_from_the_url_as_the_driver_reads_it() {
        for (url, wire) in [
            ("mongodb://h", Wire::Clear),
            ("mongodb://h/?tls=false", Wire::Clear),
            ("mongodb://h/?tls=true", Wire::Verified),
            ("mongodb://h/?tlsCAFile=ca.pem", Wire::Verified),
            ("mongodb://h/?tls=true&tlsAllowInvalidCertificates=true", Wire::Unverified),
            ("mongodb://h/?tls=true&tlsInsecure=true", Wire::Unverified),
            ("mongodb://h/?tls=true&tlsInsecure=false", Wire::Verified),
        ] {
            let options = ClientOptions::parse(url).await.unwrap();
            assert_eq!(wire_of(options.tls.as_ref()), wire, "{url}");
            assert_eq!(options.hosts.iter().map(host_of).collect::<Vec<_>>(), ["h"]);
        }
        let socket = ClientOptions::parse("mongodb://%2Frun%2Fmongodb.sock").await.unwrap();
        assert_eq!(host_of(&socket.hosts[0]), "/run/mongodb.sock");
    }

    #[test]
    fn a_majority_is_more_than_half() {
        let write = |w| WriteConcern::builder().w(w).build();
        assert!(is_majority(&write(Acknowledgment::Majority), 3));
        assert!(is_majority(&write(Acknowledgment::Nodes(2)), 3));
        assert!(!is_majority(&write(Acknowledgment::Nodes(1)), 3));
        assert!(!is_majority(&write(Acknowledgment::Nodes(2)), 4));
        assert!(!is_majority(&WriteConcern::default(), 1));
    }
}
