//! Encryption: who is believed, and who is let in.

use dynamic_flow::{
    ErrorKind,
    store::{PostgresConfig, PostgresStore, SslMode, Store as _},
};
use dynamic_flow_services::{
    certificates::Certificates,
    postgres::{Options, Postgres},
};

use super::support::{assert_tells, assert_whole, failure, impatient, open, private, record, with};

/// A server whose certificate is for `localhost`, by an authority of its own.
fn server(certificates: &Certificates, client_certificates: bool) -> Option<Postgres> {
    private(&Options { tls: Some(certificates.clone()), client_certificates, ..Options::default() })
}

fn certificates() -> Certificates {
    Certificates::new("postgres", &["DNS:localhost"]).unwrap()
}

async fn works(url: &str) -> PostgresStore {
    let store = open(&impatient(url));
    store.provision().await.unwrap();
    store
}

/// Whether the connections of a store are encrypted, as the server sees them.
async fn encrypted(server: &Postgres, application: &str) -> bool {
    let client = super::support::connect(&with(&server.url(), "sslmode=disable")).await;
    let asked = "SELECT bool_and(s.ssl) FROM pg_stat_ssl AS s JOIN pg_stat_activity AS a \
                 USING (pid) WHERE a.application_name = $1";
    client.query_one(asked, &[&application]).await.unwrap().get(0)
}

#[tokio::test]
async fn each_mode_encrypts_and_verifies_as_it_says() {
    let ours = certificates();
    let Some(server) = server(&ours, false) else { return };
    let others = certificates();
    let by_name = server.url().replace("127.0.0.1", "localhost");
    let by_address = server.url();
    let root = |of: &Certificates| format!("sslrootcert={}", of.ca().display());
    let mode =
        |url: &str, mode: &str| with(url, &format!("sslmode={mode}&application_name={mode}"));

    for (name, hidden) in [("disable", false), ("prefer", true), ("require", true)] {
        let store = works(&mode(&by_address, name)).await;
        assert_eq!(encrypted(&server, name).await, hidden, "{name}");
        drop(store);
    }
    // An authority is believed, and no other; with one, `require` is `verify-ca`.
    for name in ["require", "verify-ca"] {
        works(&with(&mode(&by_address, name), &root(&ours))).await;
        let error = failure(open(&with(&mode(&by_address, name), &root(&others))).health()).await;
        assert_tells(&error, "health", false, &["nobody who is believed", "sslrootcert"]);
    }
    // Where a network lies in between, it matters whether the server proves which one it is.
    let (host, database) = by_address.rsplit_once('/').unwrap();
    let far = format!("{host},db.example:1/{database}");
    for (parameters, word) in [
        ("sslmode=disable", "unencrypted"),
        ("sslmode=prefer", "prove which one"),
        ("sslmode=require", "prove which one"),
        (&*format!("sslmode=verify-ca&{}", root(&ours)), ""),
    ] {
        let said = works(&with(&far, parameters)).await.health().await.unwrap().warnings.join("\n");
        assert!(said.contains(word) && said.is_empty() == word.is_empty(), "{parameters}: {said}");
    }
    // The host counts for `verify-full` alone.
    let store = works(&with(&mode(&by_name, "verify-full"), &root(&ours))).await;
    store.insert(record(1)).await.unwrap();
    assert_whole(&store, &record(1)).await;
    let mismatch = open(&with(&mode(&by_address, "verify-full"), &root(&ours)));
    let error = failure(mismatch.provision()).await;
    assert_tells(&error, "provision", false, &["for another host", "verify-ca"]);
    let unknown = open(&with(&mode(&by_name, "verify-full"), &root(&others)));
    assert_tells(
        &failure(unknown.provision()).await,
        "provision",
        false,
        &["nobody who is believed"],
    );
    // Those of the system do not know it.
    let system = failure(open(&mode(&by_name, "verify-full")).provision()).await;
    assert!(!system.is_retryable(), "{system}");
}

#[tokio::test]
async fn a_server_without_encryption() {
    let Some(server) = private(&Options::default()) else { return };
    works(&with(&server.url(), "sslmode=prefer")).await;
    let error = failure(open(&with(&server.url(), "sslmode=require")).provision()).await;
    assert_tells(&error, "provision", false, &["TLS", "sslmode"]);
}

#[tokio::test]
async fn a_server_that_asks_for_a_certificate() {
    let ours = certificates();
    let Some(server) = server(&ours, true) else { return };
    let client = ours.client();
    let mut config = PostgresConfig::from_url(server.url().replace("127.0.0.1", "localhost"));
    config.ssl_mode = SslMode::VerifyFull;
    config.ssl_root_cert = Some(ours.ca());
    let error = failure(PostgresStore::new(config.clone()).unwrap().provision()).await;
    assert_tells(&error, "provision", false, &["certificate"]);
    config.ssl_cert = Some(client.certificate);
    config.ssl_key = Some(client.key);
    let store = PostgresStore::new(config.clone()).unwrap();
    store.provision().await.unwrap();
    store.insert(record(1)).await.unwrap();
    // One that another authority has signed is none.
    let others = certificates();
    let foreign = others.client();
    config.ssl_cert = Some(foreign.certificate);
    config.ssl_key = Some(foreign.key);
    let error = failure(PostgresStore::new(config).unwrap().provision()).await;
    assert_tells(&error, "provision", false, &["certificate"]);
    // Unencrypted, nobody is let in.
    let error = failure(open(&with(&server.url(), "sslmode=disable")).provision()).await;
    assert_tells(&error, "provision", false, &["let the user", "sslmode"]);
}

#[tokio::test]
async fn files_that_can_not_be_read_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty.pem");
    std::fs::write(&empty, "no certificate").unwrap();
    for path in [empty, folder.path().join("missing.pem")] {
        let url = with(
            "postgres://u:hunter2@127.0.0.1:1/d",
            &format!("sslmode=verify-full&sslrootcert={}", path.display()),
        );
        let error = failure(open(&url).provision()).await;
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{error}");
        assert!(error.message().contains(&path.display().to_string()), "{error}");
    }
}
