//! TLS, on either side, on both, and between such as do not trust each other.

use std::fs;

use dynamic_flow::store::{Expect, Store as _};
use dynamic_flow_services::{
    certificates::Certificates,
    mongodb::{Mongodb, Options},
};

use super::support::{assert_tells, failure, impatient, open, private, record, with_database};

fn certificates() -> Certificates {
    Certificates::new("dflow", &["DNS:localhost", "IP:127.0.0.1"]).unwrap()
}

fn server(certificates: &Certificates, client_certificates: bool) -> Option<Mongodb> {
    let tls = Some(certificates.clone());
    private(&Options { tls, client_certificates, ..Options::default() })
}

/// The URL of a store on that server, with these parameters in place of its own for TLS.
fn url(server: &Mongodb, parameters: &str) -> String {
    let url = format!("mongodb://127.0.0.1:{}/?directConnection=true", server.port());
    impatient(&format!("{}{parameters}", with_database(&url, "flows")))
}

async fn works(url: &str) {
    let store = open(url);
    store.provision().await.unwrap();
    store.insert(record(1)).await.unwrap();
    assert_eq!(store.get(record(1).id).await.unwrap(), Some(record(1)));
    store.delete(record(1).id, Expect::Any).await.unwrap();
}

async fn is_refused(url: &str) {
    let error = failure(open(url).provision()).await;
    // A server that hangs up may be one that is killed at that moment.
    assert_tells(&error, "provision", error.is_retryable(), &["tls"]);
}

async fn is_not_believed(url: &str) {
    let error = failure(open(url).provision()).await;
    assert_tells(&error, "provision", false, &["certificate", "tlsCAFile"]);
}

#[tokio::test]
async fn a_server_with_tls_is_trusted_for_its_authority_and_name() {
    let ours = certificates();
    let Some(server) = server(&ours, false) else { return };
    let ca = ours.ca().display().to_string();
    works(&url(&server, &format!("&tls=true&tlsCAFile={ca}"))).await;
    let theirs = certificates();
    is_not_believed(&url(&server, &format!("&tls=true&tlsCAFile={}", theirs.ca().display()))).await;
    is_not_believed(&url(&server, "&tls=true")).await;
    let elsewhere = Certificates::new("dflow", &["DNS:elsewhere.example"]).unwrap();
    let Some(server) = self::server(&elsewhere, false) else { return };
    let ca = elsewhere.ca().display().to_string();
    is_not_believed(&url(&server, &format!("&tls=true&tlsCAFile={ca}"))).await;
}

#[tokio::test]
async fn a_client_and_a_server_of_which_one_has_tls_do_not_wait_for_each_other() {
    let ours = certificates();
    let Some(with) = server(&ours, false) else { return };
    is_refused(&url(&with, "")).await;
    let Some(without) = private(&Options::default()) else { return };
    is_refused(&url(&without, &format!("&tls=true&tlsCAFile={}", ours.ca().display()))).await;
}

#[tokio::test]
async fn a_server_that_asks_for_a_certificate_gets_one() {
    let ours = certificates();
    let Some(server) = server(&ours, true) else { return };
    let folder = tempfile::tempdir().unwrap();
    let pem = |of: &Certificates, name: &str| {
        let pair = of.client();
        let both = [fs::read(pair.certificate).unwrap(), fs::read(pair.key).unwrap()].concat();
        let file = folder.path().join(name);
        fs::write(&file, both).unwrap();
        file.display().to_string()
    };
    let trusting = format!("&tls=true&tlsCAFile={}", ours.ca().display());
    let with = |file: &str| url(&server, &format!("{trusting}&tlsCertificateKeyFile={file}"));
    works(&with(&pem(&ours, "ours.pem"))).await;
    is_refused(&url(&server, &trusting)).await;
    is_refused(&with(&pem(&certificates(), "theirs.pem"))).await;
}

#[tokio::test]
async fn files_that_can_not_be_read_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty.pem");
    fs::write(&empty, "").unwrap();
    let (missing, empty) =
        (folder.path().join("missing.pem").display().to_string(), empty.display());
    let unusable = [
        format!("tlsCAFile={missing}"),
        format!("tlsCertificateKeyFile={missing}"),
        format!("tlsCertificateKeyFile={empty}"),
    ];
    for parameter in unusable {
        let url = format!("mongodb://127.0.0.1:1/flows?tls=true&{parameter}");
        let error = failure(open(&impatient(&url)).provision()).await;
        assert_tells(&error, "provision", false, &["certificates can't be used", "tlsCAFile"]);
    }
}
