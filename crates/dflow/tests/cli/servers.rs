//! Stores on servers, by their URL alone.

use std::{
    thread,
    time::{Duration, Instant},
};

use dynamic_flow_services::{Corner, Kind, Service, mongodb, neo4j, postgres, redis};

use crate::support::{Place, YES, examples, text};

/// Holds a test on each kind of server that the environment names.
fn on_each_server(test: impl Fn(Kind, &Place) + Sync) {
    thread::scope(|scope| {
        for kind in Kind::ALL {
            let Some(corner) = Corner::on(kind) else { continue };
            let test = &test;
            scope.spawn(move || test(kind, &Place::new(&corner.url())));
        }
    });
}

/// The password of a URL, if it has one.
fn password(url: &str) -> Option<&str> {
    let (user, _) = url.split_once("://")?.1.split_once('@')?;
    user.split_once(':').map(|(_, password)| password)
}

#[test]
fn the_command_to_type_next_leads_to_the_same_store_and_has_no_password() {
    on_each_server(|kind, place| {
        let url = &place.environment["DFLOW_STORE"];
        let flow = examples().join("purchase-approval.yaml");
        let order = format!("@{}", examples().join("order.json").display());
        let told = place.call(&["run", flow.to_str().unwrap(), "--input", &order]);
        assert_eq!(told.code, 10, "{kind}: {told:?}");
        let said = format!("{}{}", told.out, told.err);
        let next = said.lines().find_map(|line| line.trim().strip_prefix("next")).unwrap().trim();
        if let Some(password) = password(url) {
            assert!(!said.contains(password), "{kind}: {said}");
        }
        let line = format!("{next} --input '{YES}' --json");
        let done = place.shell(&line);
        assert_eq!(done.code, 0, "{kind}: {line}: {done:?}");
        assert!(done.out.contains("\"completed\""), "{kind}: {done:?}");
    });
}

#[test]
fn the_doctor_finds_nothing_wrong_with_a_good_server() {
    on_each_server(|kind, place| {
        place.make();
        let report = place.json(0, &["doctor"]);
        assert_eq!(report["healthy"], true, "{kind}");
        assert_eq!(report["durable"], true, "{kind}: {report}");
        // Of some things it warns though the server itself is well.
        let expected = [
            "unsealed",
            "The replica set has one member",
            "Community: one database",
            "before they reach a replica",
        ];
        let warnings = report["warnings"].as_array().unwrap();
        for warning in warnings.iter().map(text) {
            assert!(expected.iter().any(|it| warning.contains(it)), "{kind}: {warning}");
        }
        if let Some(password) = password(&place.environment["DFLOW_STORE"]) {
            assert!(!report.to_string().contains(password), "{kind}: {report}");
        }
    });
}

#[test]
fn a_mistyped_name_on_a_server_is_told_and_nothing_is_made() {
    on_each_server(|kind, place| {
        let url = &place.environment["DFLOW_STORE"];
        let (_, key) = Place::file().park();
        let flow = examples().join("purchase-approval.yaml");
        let flow = flow.to_str().unwrap();
        for args in [
            &["check", flow][..],
            &["list"],
            &["cleanup", "--all", "--yes"],
            &["upgrade", flow, "--all"],
            &["resume", &key, "--input", YES],
            // A store that the first of them had made would be there for these.
            &["list"],
        ] {
            let error = place.error(5, args);
            assert_eq!(error["kind"], "StorageError", "{kind} {args:?}");
            let message = text(&error["message"]);
            assert!(message.contains("no store there yet"), "{kind} {args:?}: {message}");
            let location = dynamic_flow::store::location(url);
            assert_eq!(error["context"]["store"], location.as_str(), "{kind}");
        }
        // The server can be looked at before anything is kept there, unless its database is missing.
        if kind != Kind::Postgres {
            let report = place.json(5, &["doctor"]);
            assert_eq!((&report["healthy"], &report["durable"]), (&false.into(), &true.into()));
            assert!(text(&report["problem"]).contains("no store there yet"), "{kind}: {report}");
            assert!(!report["warnings"].to_string().contains("Indexes"), "{kind}: {report}");
        }
        assert_eq!(place.error(5, &["list"])["kind"], "StorageError", "{kind}");
        place.make();
        assert_eq!(place.json(0, &["check", flow])["runs"], 0, "{kind}");
    });
}

/// A server that is set up badly, and what is to be said of it.
struct Bad {
    url: String,
    /// Whether it is none the less durable.
    durable: bool,
    warned: &'static [&'static str],
    _server: Box<dyn Service>,
}

impl Bad {
    fn of(kind: Kind) -> Self {
        match kind {
            Kind::Postgres => {
                let options = postgres::Options::default().set("fsync", "off");
                let server = postgres::start(&options.set("synchronous_commit", "off")).unwrap();
                let warned = &["fsync is off", "synchronous_commit is off"];
                Self { url: server.url(), durable: false, warned, _server: Box::new(server) }
            }
            Kind::Redis => {
                let options = redis::Options::default().with("appendonly", "no");
                let options =
                    options.with("maxmemory", "100mb").with("maxmemory-policy", "allkeys-lru");
                let server = redis::start(&options).unwrap();
                let warned = &["appendonly is no", "maxmemory-policy is allkeys-lru"];
                Self { url: server.url(), durable: false, warned, _server: Box::new(server) }
            }
            Kind::RedisCluster => {
                let options = redis::Options::default().with("appendfsync", "everysec");
                let server = redis::start_cluster(&options).unwrap();
                let warned = &["appendfsync is everysec"];
                Self { url: server.url(), durable: false, warned, _server: Box::new(server) }
            }
            Kind::Mongodb => {
                let options = mongodb::Options { standalone: true, ..Default::default() };
                let server = mongodb::start(&options).unwrap();
                let url = server.url().replace("/?", "/flows?") + "&journal=false";
                let warned = &["The server stands alone", "journal=false"];
                Self { url, durable: false, warned, _server: Box::new(server) }
            }
            Kind::Neo4j => {
                let options = neo4j::Options::default().set("db.memory.transaction.max", "20m");
                let server = neo4j::start(&options).unwrap();
                let warned = &["db.memory.transaction.max is 20 MiB"];
                Self { url: server.url(), durable: true, warned, _server: Box::new(server) }
            }
        }
    }
}

#[test]
fn the_doctor_warns_of_a_server_that_is_set_up_badly() {
    // Where the environment names one of a kind, one can be started.
    on_each_server(|kind, _| {
        let bad = Bad::of(kind);
        let place = Place::new(&bad.url);
        place.make();
        let report = place.json(0, &["doctor"]);
        assert_eq!(report["durable"], bad.durable, "{kind}: {report}");
        let warnings = report["warnings"].to_string();
        let told = place.call(&["doctor"]);
        let loses = told.out.contains("may not survive a power failure");
        assert_eq!(loses, !bad.durable, "{kind}: {told:?}");
        for it in bad.warned {
            assert!(warnings.contains(it), "{kind}: no word of {it}: {warnings}");
            assert!(told.out.contains(it), "{kind}: {told:?}");
        }
    });
}

#[test]
fn the_doctor_says_why_a_server_can_t_be_used() {
    on_each_server(|kind, place| {
        let url = &place.environment["DFLOW_STORE"];
        let nobody = dynamic_flow_services::free_port().unwrap();
        let (scheme, rest) = url.split_once("://").unwrap();
        let tail = rest.split_once('@').map_or(rest, |(_, rest)| rest);
        let path = &tail[tail.find(['/', '?']).unwrap_or(tail.len())..];
        let unreachable = format!("{scheme}://u:hunter2@127.0.0.1:{nobody}{path}");
        let begin = Instant::now();
        let error = Place::new(&unreachable).error(5, &["doctor"]);
        assert!(begin.elapsed() < Duration::from_secs(60), "{kind} took {:?}", begin.elapsed());
        assert_eq!(error["kind"], "StorageError", "{kind}: {error}");
        let error = error.to_string();
        assert!(error.contains(&format!("127.0.0.1:{nobody}")), "{kind}: {error}");
        assert!(!error.contains("hunter2"), "{kind}: {error}");
    });
}
