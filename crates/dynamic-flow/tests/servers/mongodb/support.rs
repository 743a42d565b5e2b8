//! Databases of tests' own.

use dynamic_flow::store::MongodbStore;
use mongodb::Client;

use crate::support::fresh;

/// A database that goes when this is dropped.
pub(super) struct Database {
    url: String,
    name: String,
}

impl Database {
    /// One that nobody has used, on the server of that URL.
    pub(super) fn fresh(server: &str) -> Self {
        let name = fresh();
        Self { url: with_database(server, &name), name }
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// A handle of its own on the collection.
    pub(super) fn store(&self) -> MongodbStore {
        MongodbStore::from_url(&self.url).expect("the URL of a store")
    }

    /// The database as the driver has it, with nothing between.
    pub(super) async fn raw(&self) -> mongodb::Database {
        Client::with_uri_str(&self.url).await.expect("a client").database(&self.name)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let (url, name) = (self.url.clone(), self.name.clone());
        // A runtime of its own: a test may be over, or may have none.
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().expect("a runtime");
            runtime.block_on(async {
                let client = Client::with_uri_str(&url).await.expect("a client");
                client.database(&name).drop().await
            })
        });
        // A server that the test has ended can't be tidied.
        let _ = dropping.join();
    }
}

/// The URL of a server with a database in its path. The user is one of the server's.
pub(super) fn with_database(server: &str, name: &str) -> String {
    let (base, query) = server.split_once('?').unwrap_or((server, ""));
    let authority = base.find("://").map_or(0, |at| at + 3);
    let end = base[authority..].find('/').map_or(base.len(), |at| authority + at);
    let mut url = format!("{}/{name}?{query}", &base[..end]);
    if !query.contains("authSource=") && base.contains('@') {
        url += "&authSource=admin";
    }
    url.trim_end_matches(['?', '&']).replace("?&", "?")
}
