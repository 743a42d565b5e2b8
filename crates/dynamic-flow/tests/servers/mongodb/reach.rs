//! Servers that can't be reached, that let nobody in, or that are not what is needed.

use std::net::{Ipv4Addr, TcpListener};

use dynamic_flow::{
    ErrorKind,
    store::{Expect, Store as _, open as open_url},
};
use dynamic_flow_services::{
    free_port,
    mongodb::{Options, PASSWORD, USER},
};
use mongodb::{Client, bson::doc};

use super::{
    fake::Fake,
    support::{assert_tells, failure, impatient, open, private, record, with_database},
};

#[tokio::test]
async fn a_host_that_is_not_there_is_named() {
    let store = open(&impatient("mongodb://nowhere.invalid/flows"));
    let error = failure(store.provision()).await;
    assert_tells(&error, "provision", false, &["no host of that name", "nowhere.invalid"]);
    let error = failure(store.get(record(1).id)).await;
    assert_tells(&error, "get", false, &["no host of that name"]);
    assert_eq!(error.run_id(), Some(record(1).id));
}

#[tokio::test]
async fn a_name_without_records_is_said() {
    let store = open(&impatient("mongodb+srv://nowhere.invalid/flows"));
    let error = failure(store.provision()).await;
    assert_eq!(error.kind(), ErrorKind::StorageError);
    assert!(error.to_string().contains("mongodb+srv://nowhere.invalid"), "{error}");
}

#[tokio::test]
async fn a_port_that_nobody_listens_on_is_said() {
    let url = format!("mongodb://u:{PASSWORD}@127.0.0.1:{}/flows", free_port().unwrap());
    let error = failure(open(&impatient(&url)).provision()).await;
    assert_tells(&error, "provision", true, &["nothing listens there"]);
}

/// Takes connections, and says nothing.
#[tokio::test]
async fn a_server_that_is_silent_is_given_up() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let url = format!("mongodb://127.0.0.1:{}/flows", listener.local_addr().unwrap().port());
    let error = failure(open(&impatient(&url)).provision()).await;
    assert_tells(&error, "provision", true, &[]);
}

#[tokio::test]
async fn a_wrong_password_is_no_matter_of_patience() {
    let Some(server) = private(&Options { auth: true, ..Options::default() }) else { return };
    let url = with_database(&server.url(), "flows");
    let store = open(&impatient(&url));
    store.provision().await.unwrap();
    store.insert(record(1)).await.unwrap();
    let wrong = [
        url.replace(PASSWORD, "other"),
        url.replace(USER, "nobody"),
        // A user of one database is none of another.
        url.replace("authSource=admin", "authSource=flows"),
    ];
    for url in wrong {
        let error = failure(open(&impatient(&url)).provision()).await;
        assert_tells(&error, "provision", false, &["user or the password", "authSource"]);
        assert!(!format!("{error:?}").contains("other"), "{error:?}");
    }
    // Nobody at all is refused by the first call that needs somebody.
    let anonymous = url.replace(&format!("{USER}:{PASSWORD}@"), "");
    let error = failure(open(&impatient(&anonymous)).provision()).await;
    assert_tells(&error, "provision", false, &["grantRolesToUser"]);
}

/// The administrator hears what to run.
#[tokio::test]
async fn a_user_without_rights_hears_which_are_missing() {
    let Some(server) = private(&Options { auth: true, ..Options::default() }) else { return };
    let root = Client::with_uri_str(server.url()).await.unwrap();
    let reader = doc! {
        "createUser": "reader", "pwd": PASSWORD, "roles": [{ "role": "read", "db": "flows" }],
    };
    root.database("admin").run_command(reader).await.unwrap();
    let url = with_database(&server.url(), "flows");
    let reading = open(&impatient(&url.replace(USER, "reader")));
    let error = failure(reading.provision()).await;
    assert_tells(&error, "provision", false, &["grantRolesToUser", "readWrite"]);
    // Once somebody else has made what is needed, it may look at it, and write nothing.
    let store = open(&impatient(&url));
    store.provision().await.unwrap();
    store.insert(record(1)).await.unwrap();
    reading.provision().await.unwrap();
    assert_eq!(reading.get(record(1).id).await.unwrap(), Some(record(1)));
    let error = failure(reading.insert(record(2))).await;
    assert_tells(&error, "insert", false, &["grantRolesToUser"]);
    let error = failure(reading.delete(record(1).id, Expect::Any)).await;
    assert_tells(&error, "delete", false, &["grantRolesToUser"]);
    assert_eq!(store.get(record(2).id).await.unwrap(), None);
}

#[tokio::test]
async fn a_server_that_is_too_old_is_refused() {
    // MongoDB 4.0, of which the driver knows that it is too old.
    let fake = Fake::that_says(doc! { "maxWireVersion": 7, "isWritablePrimary": true });
    for url in [fake.url(), format!("{}?directConnection=true", fake.url())] {
        let error = failure(open(&impatient(&url)).provision()).await;
        assert_tells(&error, "provision", false, &["too old", "4.4"]);
    }
}

#[tokio::test]
async fn a_member_that_takes_no_writes_is_told_from_one_that_is_not_there() {
    let secondary =
        doc! { "maxWireVersion": 25, "setName": "rs0", "secondary": true, "readOnly": true };
    let fake = Fake::that_says(secondary);
    let found = open(&impatient(&format!("{}?replicaSet=rs0", fake.url())));
    let error = failure(found.provision()).await;
    assert_tells(&error, "provision", true, &["no primary is known"]);
    let direct = open(&impatient(&format!("{}?directConnection=true", fake.url())));
    let error = failure(direct.provision()).await;
    assert_tells(&error, "provision", true, &["not the primary", "directConnection"]);
}

#[tokio::test]
async fn a_url_opens_a_store_and_shows_no_password() {
    let url = format!("mongodb://{USER}:{PASSWORD}@127.0.0.1:1/flows?collection=mine");
    let store = open_url(&url).unwrap();
    let shown = format!("{store:?}");
    assert!(shown.contains("mongodb://127.0.0.1:1/flows.mine"), "{shown}");
    assert!(!shown.contains(PASSWORD), "{shown}");
}
