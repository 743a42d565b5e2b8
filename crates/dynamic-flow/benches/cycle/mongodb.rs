//! The cycle on what speaks MongoDB's protocol beside its floor, and single calls beside ten
//! thousand and a hundred thousand parked runs.

use std::sync::Arc;

use dynamic_flow::{
    seconds,
    store::{MongodbConfig, MongodbStore},
};
use mongodb::{
    Client, Collection,
    bson::{Binary, Bson, Document, doc, spec::BinarySubtype},
    options::{Acknowledgment, ClientOptions, ReadConcern, WriteConcern},
};
use tokio::runtime::Runtime;

use crate::{
    Result,
    args::Args,
    floor::changed,
    flow::Bench,
    server::{Floor, Plan, copy},
    table::Table,
};

/// Where the server is. Nothing is measured where it is not set.
const URL: &str = "DFLOW_TEST_MONGODB_URL";
/// How many runs are written at once when very many are.
const AT_ONCE: usize = 64;
/// How many connections the floor has: as many as a store, unless its URL says another number.
const POOL: u32 = 32;

const PLAN: Plan = Plan {
    name: "MongoDB",
    batch: 25,
    batches: [5, 15],
    warm_up: 1,
    times: [5, 20],
    parked: [[1_000, 10_000], [10_000, 100_000]],
};

pub(crate) fn measure(args: &Args, runtime: &Runtime, table: &mut Table) -> Result<()> {
    let Ok(url) = std::env::var(URL) else {
        eprintln!("  MongoDB is not measured: {URL} is not set");
        return Ok(());
    };
    let mut config = MongodbConfig::from_url(&url)?;
    let database = format!("dflow_bench_{}", std::process::id());
    config.database = Some(database.clone());
    // Beside very many others a call may wait for its turn.
    config.operation_timeout = seconds(60);
    let floor = runtime.block_on(Documents::new(&url, &database))?;
    let stores = [
        Arc::new(MongodbStore::new(config.clone())?) as _,
        Arc::new(MongodbStore::new(config)?) as _,
    ];
    let result = PLAN.measure(args, runtime, stores, &floor, table);
    runtime.block_on(floor.clear())?;
    result
}

/// The same number of writes and reads of whole documents, through the same driver, acknowledged
/// and read in the same way, in a collection with no index but that of its key.
#[derive(Clone)]
struct Documents {
    documents: Collection<Document>,
}

impl Documents {
    async fn new(url: &str, database: &str) -> Result<Self> {
        let mut options = ClientOptions::parse(url).await?;
        options.max_pool_size.get_or_insert(POOL);
        let write = WriteConcern::builder().w(Acknowledgment::Majority).journal(true).build();
        options.write_concern.get_or_insert(write);
        options.read_concern.get_or_insert(ReadConcern::linearizable());
        let documents = Client::with_options(options)?.database(database).collection("floor");
        Ok(Self { documents })
    }

    /// The bytes of all documents of runs, as they travel; a server compresses them once more.
    async fn used(&self) -> Result<f64> {
        let runs = self.documents.client().database(&self.documents.namespace().db);
        let size =
            doc! { "$group": { "_id": null, "size": { "$sum": { "$bsonSize": "$$ROOT" } } } };
        let mut found = runs.collection::<Document>("suspended_flows").aggregate([size]).await?;
        if !found.advance().await? {
            return Ok(0.0);
        }
        let sum = found.deserialize_current()?;
        let size = sum.get("size").and_then(|size| match size {
            Bson::Int32(size) => Some(f64::from(*size)),
            Bson::Int64(size) => Some(*size as f64),
            Bson::Double(size) => Some(*size),
            _ => None,
        });
        Ok(size.ok_or("the server does not tell how much there is")?)
    }

    /// Removes what was measured with.
    async fn clear(&self) -> Result<()> {
        let namespace = self.documents.namespace();
        Ok(self.documents.client().database(&namespace.db).drop().await?)
    }
}

impl Floor for Documents {
    async fn cycle(&self, number: usize, body: &[u8]) -> Result<()> {
        let key = doc! { "_id": i64::try_from(number)? };
        let binary = |bytes| Bson::Binary(Binary { subtype: BinarySubtype::Generic, bytes });
        let mut document = key.clone();
        document.insert("body", binary(body.to_vec()));
        self.documents.insert_one(document).await?;
        let read = self.documents.find_one(key.clone()).await?.ok_or("not there")?;
        for body in [changed(read.get_binary_generic("body")?), body.to_vec()] {
            let body = binary(body);
            self.documents.update_one(key.clone(), doc! { "$set": { "body": body } }).await?;
        }
        Ok(())
    }

    async fn park(&self, bench: &Bench, from: usize, to: usize) -> Result<Option<f64>> {
        let before = self.used().await?;
        copy(bench, from, to, AT_ONCE).await?;
        Ok(Some((self.used().await? - before) / (to - from) as f64))
    }
}
