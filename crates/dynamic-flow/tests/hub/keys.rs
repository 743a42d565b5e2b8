//! Sealed state: who may open it, and what is noticed of tampering.

use dynamic_flow::{
    ErrorKind, KeyDigest, RunStatus, SuspensionKey,
    codec::{EncryptionKey, Keyring},
    hub::PersistenceHub,
    store::{Change, Expect},
};

use crate::support::{Counts, World, approval_flow, completed, order, parked, suspended, yes};

#[tokio::test]
async fn neither_keyring_nor_plaintext_is_refused_when_the_hub_is_built() {
    let world = World::new();
    let error = PersistenceHub::builder(world.store.clone()).build().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
}

#[tokio::test]
async fn a_hub_with_a_keyring_refuses_unsealed_records_and_one_without_sealed_ones() {
    let (world, counts) = (World::new(), Counts::default());
    let (_, suspension, key) = parked(&world, &counts).await;
    let plain = PersistenceHub::builder(world.store.clone())
        .plaintext()
        .clock(world.clock.clone())
        .build()
        .await
        .unwrap();
    plain.register(approval_flow(&counts)).unwrap();
    let error = plain.resume(&key, yes()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::EncryptionError);
    assert_eq!(error.run_id(), Some(suspension.run_id));

    let handle = plain.register(approval_flow(&counts)).unwrap();
    let unsealed = suspended(handle.run(order()).await);
    let sealing = world.hub().await;
    sealing.register(approval_flow(&counts)).unwrap();
    let key = unsealed.only().unwrap().key().unwrap();
    let error = sealing.resume(key, yes()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::EncryptionError);
    assert_eq!(counts.after.get(), 0);
}

#[tokio::test]
async fn another_key_opens_nothing_and_touches_nothing() {
    let (world, counts) = (World::new(), Counts::default());
    let (_, suspension, key) = parked(&world, &counts).await;
    let before = world.store.get(suspension.run_id).await.unwrap();
    let other =
        World { key: EncryptionKey::generate().unwrap().expose().to_string(), ..world.clone() };
    let hub = other.hub().await;
    hub.register(approval_flow(&counts)).unwrap();
    let error = hub.resume(&key, yes()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::EncryptionError);
    assert_eq!(world.store.get(suspension.run_id).await.unwrap(), before);
}

#[tokio::test]
async fn older_keys_still_open_and_everything_can_be_sealed_anew() {
    let (world, counts) = (World::new(), Counts::default());
    let (_, _, key) = parked(&world, &counts).await;
    let new_key = EncryptionKey::generate().unwrap().expose().to_string();
    let rotated = world
        .builder()
        .keyring(Keyring::new(new_key.parse().unwrap()).with_older(world.key.parse().unwrap()))
        .build()
        .await
        .unwrap();
    rotated.register(approval_flow(&counts)).unwrap();
    let report = rotated.reseal(None, 100).await.unwrap();
    assert_eq!((report.runs, report.resealed, report.next), (1, 1, None));
    assert_eq!(rotated.reseal(None, 100).await.unwrap().resealed, 0, "once is enough");
    let new_only = World { key: new_key, ..world.clone() }.hub().await;
    new_only.register(approval_flow(&counts)).unwrap();
    completed(new_only.resume(&key, yes()).await);
}

#[tokio::test]
async fn a_digest_swapped_into_the_plain_columns_is_corrupt_state_for_everybody() {
    let (world, counts) = (World::new(), Counts::default());
    let (hub, suspension, key) = parked(&world, &counts).await;
    let forged = SuspensionKey::from_secret(suspension.run_id, [9; 32]);
    let mut record = world.store.get(suspension.run_id).await.unwrap().unwrap();
    record.waits[0].keys = vec![forged.digest()];
    let change = Change { waits: Some(record.waits), ..Change::at(record.updated_at) };
    world.store.update(record.id, Expect::Any, change).await.unwrap();
    for key in [&forged, &key] {
        let error = hub.resume(key, yes()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::CorruptState);
        assert_eq!(error.run_id(), Some(suspension.run_id));
    }
    assert_eq!(counts.after.get(), 0);
}

#[tokio::test]
async fn a_run_that_only_the_plain_columns_call_ended_is_corrupt_state() {
    let (world, counts) = (World::new(), Counts::default());
    let (hub, suspension, key) = parked(&world, &counts).await;
    for status in RunStatus::ALL.into_iter().filter(|status| status.is_final()) {
        let change = Change { status: Some(status), ..Change::at(suspension.suspended_at) };
        world.store.update(suspension.run_id, Expect::Any, change).await.unwrap();
        let error = hub.resume(&key, yes()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::CorruptState, "{status}: {error}");
        assert_eq!(error.run_id(), Some(suspension.run_id));
    }
    assert_eq!(counts.after.get(), 0);
}

#[tokio::test]
async fn a_sealed_state_swapped_in_from_another_run_does_not_open() {
    let (world, counts) = (World::new(), Counts::default());
    let (hub, victim, key) = parked(&world, &counts).await;
    let (_, other, _) = parked(&world, &counts).await;
    let foreign = world.store.get(other.run_id).await.unwrap().unwrap().snapshot;
    let change = Change { snapshot: Some(foreign), ..Change::at(victim.suspended_at) };
    world.store.update(victim.run_id, Expect::Any, change).await.unwrap();
    let error = hub.resume(&key, yes()).await.unwrap_err();
    let closed = [ErrorKind::EncryptionError, ErrorKind::CorruptState];
    assert!(closed.contains(&error.kind()), "{error}");
    assert_eq!(error.run_id(), Some(victim.run_id));
}

#[tokio::test]
async fn a_flipped_byte_does_not_open_and_the_record_stays_as_it_is() {
    let (world, counts) = (World::new(), Counts::default());
    let (hub, suspension, key) = parked(&world, &counts).await;
    let mut sealed = world.store.get(suspension.run_id).await.unwrap().unwrap().snapshot;
    *sealed.0.last_mut().unwrap() ^= 1;
    let change = Change { snapshot: Some(sealed), ..Change::at(suspension.suspended_at) };
    world.store.update(suspension.run_id, Expect::Any, change).await.unwrap();
    let before = world.store.get(suspension.run_id).await.unwrap();
    let error = hub.resume(&key, yes()).await.unwrap_err();
    let closed = [ErrorKind::EncryptionError, ErrorKind::CorruptState];
    assert!(closed.contains(&error.kind()), "{error}");
    assert_eq!(world.store.get(suspension.run_id).await.unwrap(), before);
}

#[tokio::test]
async fn a_leaked_store_holds_no_key_no_input_and_no_output() {
    let (world, counts) = (World::new(), Counts::default());
    let (hub, suspension, key) = parked(&world, &counts).await;
    hub.answer(&key, yes()).await.unwrap();
    let record = world.store.get(suspension.run_id).await.unwrap().unwrap();
    let leaked = serde_json::to_string(&record).unwrap();
    for secret in [&key.expose()[30..], "PO-17", "jane"] {
        assert!(!leaked.contains(secret), "{secret} in {leaked}");
    }
    let digest: KeyDigest = key.digest();
    assert_eq!(record.waits[0].keys, [digest]);
}
