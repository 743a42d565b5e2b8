//! TLS: whom the store trusts, what it shows, and what it says where the two do not fit.

use dynamic_flow::{
    ErrorKind,
    store::{RedisConfig, RedisStore, Store as _},
};
use dynamic_flow_services::{
    certificates::Certificates,
    redis::{Options, Redis},
};

use super::support::{config, due, failed, id, open, server, soon};

fn certificates() -> Certificates {
    Certificates::new("a client", &["DNS:localhost", "IP:127.0.0.1"]).unwrap()
}

/// A server that speaks TLS only, with certificates of an authority of its own.
fn tls(client_certificates: bool) -> Option<(Redis, Certificates)> {
    let certificates = certificates();
    let options =
        Options { tls: Some(certificates.clone()), client_certificates, ..Options::default() };
    Some((server(&options)?, certificates))
}

/// A configuration that trusts the server's authority.
fn trusting(server: &Redis, certificates: &Certificates) -> RedisConfig {
    let mut config = config(server);
    config.tls_ca = Some(certificates.ca());
    config
}

#[tokio::test]
async fn an_authority_of_ones_own_is_trusted_where_it_is_named() {
    let Some((server, ours)) = tls(false) else { return };
    let ca = ours.ca();
    let ca = ca.display();
    for host in ["127.0.0.1", "localhost"] {
        let url = format!("rediss://{host}:{}/0?tls_ca={ca}&prefix={host}:", server.port());
        let store = RedisStore::from_url(&url).unwrap();
        store.insert(due(1)).await.unwrap();
        assert_eq!(store.get(id(1)).await.unwrap(), Some(due(1)));
        assert!(store.health().await.unwrap().location.starts_with("rediss://"));
        assert!(store.hints(dynamic_flow::store::Hint::Due).is_some());
    }
    failed(open(&config(&server)).provision().await, "no TLS connection", false);
    let others = certificates();
    let wrong = trusting(&server, &others);
    failed(open(&wrong).provision().await, "no TLS connection", false);
}

#[tokio::test]
async fn a_client_certificate_is_shown_where_it_is_asked_for() {
    let Some((server, ours)) = tls(true) else { return };
    let mut config = trusting(&server, &ours);
    failed(soon(open(&config).provision()).await, "no TLS connection", false);
    config.tls_cert = Some(ours.client().certificate);
    config.tls_key = Some(ours.client().key);
    let store = open(&config);
    store.insert(due(1)).await.unwrap();
    assert_eq!(store.get(id(1)).await.unwrap(), Some(due(1)));
    let theirs = certificates();
    config.tls_cert = Some(theirs.client().certificate);
    config.tls_key = Some(theirs.client().key);
    failed(soon(open(&config).provision()).await, "no TLS connection", false);
}

#[tokio::test]
async fn tls_on_one_side_only_is_told() {
    let Some((encrypted, ours)) = tls(false) else { return };
    let mut plain = config(&encrypted);
    plain.tls = false;
    // Worth a retry: all that is seen is an end, as of a server that is being restarted.
    failed(soon(open(&plain).provision()).await, "rediss://", true);
    let Some(unencrypted) = server(&Options::default()) else { return };
    let mut config = config(&unencrypted);
    config.tls = true;
    config.tls_ca = Some(ours.ca());
    let error = soon(open(&config).provision()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageError);
    assert!(error.message().contains("TLS"), "{error}");
}

#[tokio::test]
async fn a_file_that_is_no_use_is_named() {
    let Some((server, ours)) = tls(false) else { return };
    let no_file = |config: &mut RedisConfig| config.tls_ca = Some("/no/such/file".into());
    let no_certificate = |config: &mut RedisConfig| config.tls_ca = Some("/etc/hostname".into());
    let no_key = |config: &mut RedisConfig| {
        config.tls_cert = Some(ours.client().certificate);
        config.tls_key = Some(ours.client().certificate);
    };
    let anothers_key = |config: &mut RedisConfig| {
        config.tls_cert = Some(ours.client().certificate);
        config.tls_key = Some(ours.server().key);
    };
    type Spoil<'a> = &'a dyn Fn(&mut RedisConfig);
    let wrong: [(Spoil<'_>, &str); 4] = [
        (&no_file, "tls_ca"),
        (&no_certificate, "tls_ca"),
        (&no_key, "tls_key"),
        (&anothers_key, "tls_key"),
    ];
    for (spoil, named) in wrong {
        let mut config = trusting(&server, &ours);
        spoil(&mut config);
        let error = open(&config).provision().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{error}");
        assert!(error.message().contains(&format!("the file {named} ")), "{error}");
    }
}
