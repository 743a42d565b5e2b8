//! Encrypted connections: an authority of one's own, a client's certificate, and what is wrong.

use dynamic_flow::{
    ErrorKind,
    store::{Neo4jConfig, Neo4jStore, Store as _},
};
use dynamic_flow_services::{certificates::Certificates, neo4j::Options};

use super::{
    ground::{Ground, private},
    records::waiting,
};

/// What provisioning is refused with.
async fn refusal(config: Neo4jConfig) -> dynamic_flow::Error {
    let error = Neo4jStore::new(config).unwrap().provision().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageError, "{error}");
    assert!(error.context_value("server").is_some(), "{error}");
    error
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_known_by_its_authority_and_knows_its_clients() {
    let certificates = Certificates::new("dflow", &["IP:127.0.0.1"]).unwrap();
    let options = Options {
        tls: Some(certificates.clone()),
        client_certificates: true,
        ..Options::default()
    };
    let Some(server) = private(&options) else { return };
    let client = certificates.client();
    let parameters = format!(
        "tls_ca={}&tls_cert={}&tls_key={}",
        certificates.ca().display(),
        client.certificate.display(),
        client.key.display()
    );
    let ground = Ground::at(&format!("{}?{parameters}", server.url()));
    let store = ground.store();
    store.provision().await.unwrap();
    let record = waiting(1, "purchase", "manager", "jane");
    store.insert(record.clone()).await.unwrap();
    let mut config = ground.config();
    config.uri = config.uri.replace("neo4j+s", "bolt+s");
    let by_bolt = Neo4jStore::new(config).unwrap();
    assert_eq!(by_bolt.get(record.id).await.unwrap(), Some(record));

    let mut plain = ground.config();
    plain.uri = plain.uri.replace("neo4j+s", "neo4j");
    (plain.tls_ca, plain.tls_cert, plain.tls_key) = (None, None, None);
    let error = refusal(plain).await;
    assert!(error.message().contains("TLS") && error.message().contains("+s"), "{error}");

    let mut unknown = ground.config();
    let strangers = Certificates::new("dflow", &["IP:127.0.0.1"]).unwrap();
    unknown.tls_ca = Some(strangers.ca());
    let error = refusal(unknown).await;
    assert!(error.message().contains("authority that is not trusted"), "{error}");
    assert!(!error.is_retryable());

    let mut system = ground.config();
    (system.tls_ca, system.tls_cert, system.tls_key) = (None, None, None);
    let error = refusal(system).await;
    assert!(error.message().contains("certificate"), "{error}");

    let mut other_name = ground.config();
    other_name.uri = other_name.uri.replace("127.0.0.1", "localhost");
    let error = refusal(other_name).await;
    assert!(error.message().contains("for another name"), "{error}");

    let mut nobody = ground.config();
    (nobody.tls_cert, nobody.tls_key) = (None, None);
    let error = refusal(nobody).await;
    assert!(error.message().contains("tls_cert"), "{error}");

    for (name, text) in [("missing", None), ("empty", Some("")), ("noise", Some("noise"))] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        if let Some(text) = text {
            std::fs::write(&path, text).unwrap();
        }
        let mut no_ca = ground.config();
        no_ca.tls_ca = Some(path.clone());
        let mut no_key = ground.config();
        no_key.tls_key = Some(path.clone());
        for config in [no_ca, no_key] {
            let error = refusal(config).await;
            assert_eq!(error.context_value("path"), path.to_str(), "{error}");
        }
    }
}
