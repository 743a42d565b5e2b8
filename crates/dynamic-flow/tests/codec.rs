//! What the codec gives back, and everything that it must not open.

use std::sync::Arc;

use dynamic_flow::{
    Error, ErrorKind, FlowId, Result, RunId,
    codec::{
        Binding, Cipher, Codec, Compression, EncryptionKey, KeyId, Keyring, Part, SealContext,
        Sealed, StateEncryptor, StateSerializer,
    },
};
use proptest::prelude::*;
use serde_json::{Value, json};

const RUN: RunId = RunId::from_bytes([7; 16]);

fn flow() -> FlowId {
    FlowId::from("purchase-approval")
}

fn binding(flow: &FlowId) -> Binding<'_> {
    Binding { run: RUN, flow, part: Part::Snapshot }
}

fn key(byte: u8) -> EncryptionKey {
    EncryptionKey::from_bytes([byte; 32])
}

fn keyed() -> Codec {
    Codec::builder().keyring(Keyring::new(key(1))).build().unwrap()
}

fn plain() -> Codec {
    Codec::builder().plaintext().build().unwrap()
}

fn state() -> Value {
    let orders: Vec<Value> = (0..30)
        .map(|id| json!({ "id": id, "total": 0.1, "by": "jane", "note": "secret" }))
        .collect();
    json!({ "orders": orders, "none": null, "text": "ü\n" })
}

fn open(codec: &Codec, sealed: &Sealed) -> Result<(Value, u64)> {
    codec.open(sealed, binding(&flow()))
}

#[track_caller]
fn refused(codec: &Codec, sealed: &Sealed, kind: ErrorKind, why: &str) {
    let error = open(codec, sealed).unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.message().contains(why), "{error}");
    assert_eq!(error.run_id(), Some(RUN), "{error}");
    assert_eq!(error.to_string().lines().count(), 1);
}

#[test]
fn what_is_sealed_opens_to_the_same_value_and_sequence() {
    for codec in [keyed, plain] {
        for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
            let protection = codec();
            let builder = Codec::builder().compression(compression);
            let codec = match protection.cipher() {
                Cipher::None => builder.plaintext(),
                _ => builder.keyring(Keyring::new(key(1))),
            };
            let codec = codec.build().unwrap();
            for (value, sequence) in [(state(), u64::MAX), (json!(null), 0), (json!("a"), 1)] {
                let sealed = codec.seal(&value, sequence, binding(&flow())).unwrap();
                // A codec that compresses otherwise opens it as well.
                for codec in [&codec, &protection] {
                    assert_eq!(open(codec, &sealed).unwrap(), (value.clone(), sequence));
                }
            }
            let sealed = codec.seal(&state(), 5, binding(&flow())).unwrap();
            let info = Codec::sealed_info(&sealed).unwrap();
            assert_eq!((info.compression, info.sequence), (compression, 5));
            assert_eq!((info.cipher, info.part), (codec.cipher(), Part::Snapshot));
            assert_eq!(info.key_id, (info.cipher == Cipher::Aes256Gcm).then(|| key(1).id()));
            assert_eq!(info.bytes, sealed.0.len());
            let raw = state().to_string();
            assert_eq!(compression == Compression::None, sealed.0.len() > raw.len());
            let is_readable = sealed.0.windows(6).any(|window| window == b"secret");
            let should_be = compression == Compression::None && codec.cipher() == Cipher::None;
            assert_eq!(is_readable, should_be);
        }
    }
}

#[test]
fn compression_is_left_out_where_it_does_not_pay() {
    // What must become a tenth smaller.
    let codec = Codec::builder().plaintext().serializer(Arc::new(Noise)).build().unwrap();
    for (zeros, compression) in [(80, Compression::None), (160, Compression::Gzip)] {
        let sealed = codec.seal(&zeros, 0, binding(&flow())).unwrap();
        assert_eq!(Codec::sealed_info(&sealed).unwrap().compression, compression);
    }
}

#[test]
fn the_same_state_is_never_sealed_to_the_same_bytes() {
    let seal = || keyed().seal(&state(), 1, binding(&flow())).unwrap();
    let (one, other) = (seal(), seal());
    assert_ne!(one.0[24..36], other.0[24..36]);
    assert_ne!(one.0[36..], other.0[36..]);
}

#[test]
fn any_flipped_bit_is_found() {
    for codec in [keyed(), plain()] {
        let sealed = codec.seal(&state(), 1, binding(&flow())).unwrap();
        for at in 0..sealed.0.len() {
            for bit in 0..8 {
                let mut changed = sealed.clone();
                changed.0[at] ^= 1 << bit;
                let error = open(&codec, &changed).unwrap_err();
                assert!(
                    matches!(error.kind(), ErrorKind::EncryptionError | ErrorKind::CorruptState),
                    "byte {at}: {error}"
                );
                assert_eq!(error.run_id(), Some(RUN));
            }
        }
    }
}

#[test]
fn bytes_that_were_cut_or_lengthened_are_refused() {
    for codec in [keyed(), plain()] {
        let sealed = codec.seal(&state(), 1, binding(&flow())).unwrap();
        for end in 0..sealed.0.len() {
            assert!(open(&codec, &Sealed(sealed.0[..end].to_vec())).is_err());
        }
        let mut longer = sealed;
        longer.0.push(0);
        assert!(open(&codec, &longer).is_err());
    }
}

#[test]
fn state_does_not_open_in_another_place() {
    let (here, other_flow) = (flow(), FlowId::from("purchase-approval2"));
    for (codec, kind) in [(keyed(), ErrorKind::EncryptionError), (plain(), ErrorKind::CorruptState)]
    {
        let sealed = codec.seal(&state(), 1, binding(&here)).unwrap();
        let opened = |binding| codec.open::<Value>(&sealed, binding).map_err(|error| error.kind());
        let here = binding(&here);
        let other_run = RunId::from_bytes([8; 16]);
        assert_eq!(opened(Binding { run: other_run, ..here }), Err(kind));
        assert_eq!(opened(Binding { flow: &other_flow, ..here }), Err(kind));
        assert_eq!(opened(Binding { part: Part::Inbox, ..here }), Err(ErrorKind::CorruptState));
        assert!(opened(here).is_ok());
    }
}

#[test]
fn what_can_be_told_of_sealed_state_has_names() {
    assert_eq!([Part::Snapshot, Part::Inbox].map(|it| it.to_string()), ["snapshot", "inbox"]);
    let all = [Compression::None, Compression::Gzip, Compression::Zstd];
    assert_eq!(all.map(|it| it.to_string()), ["none", "gzip", "zstd"]);
    let all = [Cipher::None, Cipher::Aes256Gcm, Cipher::Custom];
    assert_eq!(all.map(|it| it.to_string()), ["none", "aes-256-gcm", "custom"]);
}

#[test]
fn how_state_is_protected_must_be_said() {
    let error = Codec::builder().build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    for way in ["FLOW_ENCRYPTION_KEY", "plaintext"] {
        assert!(error.message().contains(way), "{error}");
    }
    let both = Codec::builder().plaintext().keyring(Keyring::new(key(1)));
    assert_eq!(both.build().unwrap_err().kind(), ErrorKind::InvalidConfig);
    let two = Codec::builder().encryptor(Arc::new(Toy)).keyring(Keyring::new(key(1)));
    assert_eq!(two.build().unwrap_err().kind(), ErrorKind::InvalidConfig);
}

#[test]
fn plaintext_and_sealed_state_do_not_pass_for_each_other() {
    let sealed = keyed().seal(&state(), 1, binding(&flow())).unwrap();
    refused(&plain(), &sealed, ErrorKind::EncryptionError, "a keyring");
    let open = plain().seal(&state(), 1, binding(&flow())).unwrap();
    refused(&keyed(), &open, ErrorKind::EncryptionError, "not sealed");
    let toy = Codec::builder().encryptor(Arc::new(Toy)).build().unwrap();
    refused(&toy, &sealed, ErrorKind::EncryptionError, "another encryptor");
    refused(&toy, &open, ErrorKind::EncryptionError, "not sealed");
}

#[test]
fn an_unknown_key_is_named_and_a_lying_key_id_does_not_help() {
    let sealed = keyed().seal(&state(), 1, binding(&flow())).unwrap();
    let stranger = Codec::builder().keyring(Keyring::new(key(2))).build().unwrap();
    refused(&stranger, &sealed, ErrorKind::EncryptionError, "not in the keyring");
    let error = open(&stranger, &sealed).unwrap_err();
    assert_eq!(error.context_value("key_id"), Some(key(1).id().to_string().as_str()));

    let mut lying = sealed;
    lying.0[8..16].copy_from_slice(key(2).id().as_bytes());
    refused(&stranger, &lying, ErrorKind::EncryptionError, "changed, swapped");
}

#[test]
fn keys_are_rotated_by_sealing_anew() {
    let old = keyed();
    let rotating = Keyring::new(key(2)).with_older(key(1));
    let rotating = Codec::builder().keyring(rotating).build().unwrap();
    let new = Codec::builder().keyring(Keyring::new(key(2))).build().unwrap();

    let before = old.seal(&state(), 9, binding(&flow())).unwrap();
    assert!(!old.needs_reseal(&before) && rotating.needs_reseal(&before));
    assert_eq!(open(&rotating, &before).unwrap(), (state(), 9));

    let after = rotating.reseal(&before, binding(&flow())).unwrap();
    assert!(!rotating.needs_reseal(&after) && old.needs_reseal(&after));
    assert_eq!(open(&new, &after).unwrap(), (state(), 9));
    refused(&old, &after, ErrorKind::EncryptionError, "not in the keyring");

    let broken = Sealed(b"broken".to_vec());
    assert!(new.needs_reseal(&broken));
    let error = new.reseal(&broken, binding(&flow())).unwrap_err();
    assert_eq!((error.kind(), error.run_id()), (ErrorKind::CorruptState, Some(RUN)));
    assert!(
        plain().needs_reseal(&after)
            && !plain().needs_reseal(&plain().seal(&1, 1, binding(&flow())).unwrap())
    );
}

#[test]
fn state_over_the_limit_is_refused_with_both_sizes() {
    let codec = Codec::builder().plaintext().max_state_size(100).build().unwrap();
    assert!(codec.seal(&"a".repeat(98), 0, binding(&flow())).is_ok());
    let error = codec.seal(&"a".repeat(99), 0, binding(&flow())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StateTooLarge);
    assert_eq!(
        (error.context_value("size"), error.context_value("limit")),
        (Some("101"), Some("100"))
    );
    assert_eq!(error.run_id(), Some(RUN));
    // A lowered limit strands nobody.
    let larger = plain().seal(&state(), 0, binding(&flow())).unwrap();
    assert!(open(&codec, &larger).is_ok());
}

#[test]
fn what_json_would_change_is_not_sealed() {
    let error = plain().seal(&[1.0, f64::NAN], 0, binding(&flow())).unwrap_err();
    assert_eq!((error.kind(), error.run_id()), (ErrorKind::SerializationError, Some(RUN)));
    assert_eq!(error.context_value("at"), Some("/1"));
}

#[test]
fn state_that_does_not_read_back_is_corrupt_and_not_quoted() {
    let sealed = keyed().seal(&json!([1, "secret"]), 0, binding(&flow())).unwrap();
    let error = keyed().open::<Vec<u8>>(&sealed, binding(&flow())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::CorruptState);
    assert_eq!(error.context_value("at"), Some("/1"));
    assert!(!format!("{error:?}").contains("secret"), "{error:?}");
}

#[test]
fn a_newer_format_says_so() {
    let mut sealed = keyed().seal(&state(), 0, binding(&flow())).unwrap();
    sealed.0[3] = 3;
    refused(&keyed(), &sealed, ErrorKind::CorruptState, "newer dynamic-flow");
    sealed.0.truncate(4);
    refused(&keyed(), &sealed, ErrorKind::CorruptState, "newer dynamic-flow");
    refused(&keyed(), &Sealed(vec![]), ErrorKind::CorruptState, "no state of dynamic-flow");
    assert!(Codec::sealed_info(&sealed).is_err());
}

/// The version says how the state was compressed; it is sealed with it.
#[test]
fn one_format_is_not_taken_for_another() {
    for (codec, kind) in [(keyed(), ErrorKind::EncryptionError), (plain(), ErrorKind::CorruptState)]
    {
        for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
            let builder = Codec::builder().compression(compression);
            let builder = match codec.cipher() {
                Cipher::None => builder.plaintext(),
                _ => builder.keyring(Keyring::new(key(1))),
            };
            let mut sealed = builder.build().unwrap().seal(&state(), 0, binding(&flow())).unwrap();
            assert_eq!(sealed.0[3], 2);
            sealed.0[3] = 1;
            assert_eq!(open(&codec, &sealed).unwrap_err().kind(), kind);
        }
    }
}

/// State as earlier builds wrote it must open for ever; when this fails, the format has changed.
#[test]
fn state_of_format_1_still_opens() {
    let value = json!({ "state": "x".repeat(300) });
    for (codec, golden) in [(plain(), GOLDEN_PLAIN), (keyed(), GOLDEN_GZIP), (keyed(), GOLDEN_ZSTD)]
    {
        let sealed: Sealed = serde_json::from_value(json!(golden)).unwrap();
        assert_eq!(open(&codec, &sealed).unwrap(), (value.clone(), 258));
        assert_eq!(Codec::sealed_info(&sealed).unwrap().format, 1);

        // Sealed with another key, it is still compressed as it was.
        let resealed = codec.reseal(&sealed, binding(&flow())).unwrap();
        assert_eq!(open(&codec, &resealed).unwrap(), (value.clone(), 258));
        assert_eq!(Codec::sealed_info(&resealed).unwrap().format, 1);
    }
}

const GOLDEN_PLAIN: &str = "ZGZzAQAAAQAAAAAAAAAAAAAAAAAAAAECAAAAAAAAAAAAAAAAH4sIAAAAAAAE/6pWKi5JLElVslKqGAWAER0CSrUAkWYC2jgBAAAL63rjaYGTgiIRgYFkicdv";
const GOLDEN_GZIP: &str = "ZGZzAQAAAQFiqQQxkwXltAAAAAAAAAECWIEMpmiax7y4wO/GcAYrtP3K+9M/1tge0dfTWX5CnzvzbxbrlyQpKOL5iU+KUyhfaOmfG3k33n96iQkk2jQpJhQa";
const GOLDEN_ZSTD: &str = "ZGZzAQAAAgFiqQQxkwXltAAAAAAAAAECER9vWPWiUJk+Qrti7qzFjinFiwGhLXxq3rxeRhSA3/X11Blcdo/mLB0ca+E2bxQ5ctLO6Q9VSCmBGQ";

/// Not a cipher; enough to see that the context arrives and is honored.
struct Toy;

impl StateEncryptor for Toy {
    fn active_key(&self) -> KeyId {
        KeyId::from_bytes(*b"toy key!")
    }

    fn seal(&self, context: &SealContext<'_>, body: &mut Vec<u8>) -> Result<()> {
        assert_eq!(context.key_id, self.active_key());
        body.reverse();
        body.extend_from_slice(context.associated);
        body.extend_from_slice(context.nonce);
        Ok(())
    }

    fn open(&self, context: &SealContext<'_>, body: &mut Vec<u8>) -> Result<()> {
        let end = [context.associated, context.nonce].concat();
        if !body.ends_with(&end) {
            return Err(Error::new(ErrorKind::EncryptionError, "not mine"));
        }
        body.truncate(body.len() - end.len());
        body.reverse();
        Ok(())
    }
}

/// Writes a number as a thousand bytes: so many zeros, and then what nothing makes smaller.
struct Noise;

impl StateSerializer for Noise {
    fn serialize(&self, value: &Value) -> Result<Vec<u8>> {
        let zeros = usize::try_from(value.as_u64().unwrap()).unwrap();
        let mut bytes = vec![0; 1000];
        let mut random = 1_u64;
        for byte in &mut bytes[zeros..] {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *byte = u8::try_from(random >> 56).unwrap();
        }
        Ok(bytes)
    }

    fn deserialize(&self, _: &[u8]) -> Result<Value> {
        Err(Error::new(ErrorKind::CorruptState, "it is but noise"))
    }
}

/// JSON that is not JSON.
struct Shouting;

impl StateSerializer for Shouting {
    fn serialize(&self, value: &Value) -> Result<Vec<u8>> {
        Ok(format!("!{value}").into_bytes())
    }

    fn deserialize(&self, bytes: &[u8]) -> Result<Value> {
        bytes
            .strip_prefix(b"!")
            .and_then(|json| serde_json::from_slice(json).ok())
            .ok_or_else(|| Error::new(ErrorKind::CorruptState, "not shouted"))
    }
}

#[test]
fn an_encryptor_and_a_serializer_can_be_put_in() {
    let codec = Codec::builder().encryptor(Arc::new(Toy)).serializer(Arc::new(Shouting));
    let codec = codec.build().unwrap();
    let sealed = codec.seal(&state(), 3, binding(&flow())).unwrap();
    let info = Codec::sealed_info(&sealed).unwrap();
    assert_eq!((info.cipher, info.key_id), (Cipher::Custom, Some(Toy.active_key())));
    assert!(!codec.needs_reseal(&sealed));
    assert_eq!(open(&codec, &sealed).unwrap(), (state(), 3));
    refused(&keyed(), &sealed, ErrorKind::EncryptionError, "another encryptor");

    let other = FlowId::from("other");
    assert!(codec.open::<Value>(&sealed, binding(&other)).is_err());

    let without = Codec::builder().encryptor(Arc::new(Toy)).build().unwrap();
    refused(&without, &sealed, ErrorKind::InvalidConfig, "serializer");
    // What was written as JSON before the serializer was put in still opens.
    let json = without.seal(&state(), 3, binding(&flow())).unwrap();
    assert_eq!(open(&codec, &json).unwrap(), (state(), 3));
}

#[test]
fn debug_shows_neither_keys_nor_state() {
    let codec = keyed();
    let sealed = plain().seal(&json!("secret"), 0, binding(&flow())).unwrap();
    assert_eq!(format!("{sealed:?}"), format!("Sealed({} bytes)", sealed.0.len()));
    let builder = Codec::builder().keyring(Keyring::new(key(1)));
    for shown in [format!("{codec:?}"), format!("{builder:?}")] {
        assert!(!shown.contains(&*key(1).expose()) && !shown.contains("[1, 1"), "{shown}");
    }
}

proptest! {
    #[test]
    fn random_bytes_never_open_and_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        for codec in [keyed(), plain()] {
            prop_assert!(open(&codec, &Sealed(bytes.clone())).is_err());
            for format in [1, 2] {
                let headed = [b"dfs".as_slice(), &[format, 0, 0], &bytes].concat();
                prop_assert!(open(&codec, &Sealed(headed.clone())).is_err());
                let _ = Codec::sealed_info(&Sealed(headed));
            }
        }
    }

    #[test]
    fn random_bodies_under_a_right_checksum_never_panic(
        body in prop::collection::vec(any::<u8>(), 0..200),
        compression in 0..3_u8,
        format in 1..3_u8,
    ) {
        // An encryptor that lets everything pass stands for one who can write to a plaintext store.
        struct Open;
        impl StateEncryptor for Open {
            fn active_key(&self) -> KeyId {
                KeyId::from_bytes([0; 8])
            }
            fn seal(&self, _: &SealContext<'_>, _: &mut Vec<u8>) -> Result<()> {
                Ok(())
            }
            fn open(&self, _: &SealContext<'_>, _: &mut Vec<u8>) -> Result<()> {
                Ok(())
            }
        }
        let codec = Codec::builder().encryptor(Arc::new(Open)).build().unwrap();
        let mut sealed = codec.seal(&1, 0, binding(&flow())).unwrap();
        sealed.0.truncate(36);
        sealed.0[3] = format;
        sealed.0[6] = compression;
        sealed.0.extend_from_slice(&body);
        if let Err(error) = open(&codec, &sealed) {
            prop_assert_eq!(error.kind(), ErrorKind::CorruptState);
        }
    }

    #[test]
    fn any_value_that_json_holds_is_sealed_and_opens(
        value in prop::collection::btree_map(any::<String>(), any::<(i64, f64, Option<String>)>(), 0..20),
        sequence in any::<u64>(),
    ) {
        for codec in [keyed(), plain()] {
            let sealed = codec.seal(&value, sequence, binding(&flow())).unwrap();
            prop_assert_eq!(codec.open(&sealed, binding(&flow())).unwrap(), (value.clone(), sequence));
        }
    }
}
