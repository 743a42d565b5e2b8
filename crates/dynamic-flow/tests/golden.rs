//! Stored state of every released format: what was parked then goes on today, and what is parked
//! today is stored in the same form.
//!
//! `golden/v2.1/NAME.json` is a record whose snapshot has format 2, in sealed bytes of format 1,
//! with the key of its wait. A case that has no file yet gets one by
//! `DFLOW_GOLDEN=write cargo test -p dynamic-flow --test golden`; no file is ever written over.
//! Where a form must change, raise `Snapshot::FORMAT` or that of sealed bytes: the same command then
//! makes the folder of the new formats, and the files of the old ones still have to resume.

mod golden {
    pub(crate) mod ended;
    pub(crate) mod files;
    pub(crate) mod flows;
    pub(crate) mod inbox;
    pub(crate) mod parked;
    pub(crate) mod states;
    pub(crate) mod world;
}

use golden::{
    ended, files, inbox, parked, states,
    world::{Case, Sealing},
};

/// Parks, writes what is missing, compares the form, and resumes what every format has of a case.
macro_rules! golden {
    ($($name:ident: $sealing:ident, $park:expr, $finish:expr;)+) => {$(
        #[tokio::test]
        async fn $name() {
            files::check(Case {
                name: stringify!($name),
                sealing: Sealing::$sealing,
                park: |world| Box::pin($park(world)),
                finish: |world, golden| Box::pin($finish(world, golden)),
            })
            .await;
        }
    )+

        /// Every case, for the check that no file is left without one.
        const CASES: &[&str] = &[$(stringify!($name)),+];
    };
}

golden! {
    plain_readable: PlainNone, parked::park_plain, parked::finish_plain;
    plain_gzip: PlainGzip, parked::park_plain, parked::finish_plain;
    plain_zstd: PlainZstd, parked::park_plain, parked::finish_plain;
    sealed: SealedNone, parked::park_plain, parked::finish_plain;
    sealed_gzip: SealedGzip, parked::park_plain, parked::finish_plain;
    sealed_zstd: SealedZstd, parked::park_plain, parked::finish_plain;
    nested: PlainNone, parked::park_nested, parked::finish_nested;
    nested_sealed: SealedGzip, parked::park_nested, parked::finish_nested;
    mid_work: PlainNone, parked::park_mid_work, parked::finish_mid_work;
    sleeping: PlainNone, parked::park_sleeping, parked::finish_sleeping;
    pausing: PlainNone, parked::park_pausing, parked::finish_pausing;
    calling: PlainNone, parked::park_calling, parked::finish_calling;
    second_wait: PlainNone, parked::park_second_wait, parked::finish_second_wait;
    document: PlainNone, parked::park_document, parked::finish_document;
    outgrown: PlainNone, parked::park_outgrown, parked::finish_outgrown;
    accepted: PlainNone, inbox::park_accepted, inbox::finish_accepted;
    accepted_sealed: SealedZstd, inbox::park_accepted, inbox::finish_accepted;
    accepted_and_cancelled: PlainNone, inbox::park_cancelled, inbox::finish_cancelled;
    reissued: PlainNone, inbox::park_reissued, inbox::finish_reissued;
    retried: PlainNone, inbox::park_retried, inbox::finish_retried;
    failed: PlainNone, ended::park_failed, ended::finish_failed;
    expired: PlainNone, ended::park_expired, ended::finish_expired;
    completed: PlainNone, ended::park_completed, ended::finish_completed;
    rejected: PlainNone, ended::park_rejected, ended::finish_rejected;
    cancelled: PlainNone, ended::park_cancelled, ended::finish_cancelled;
    state: PlainNone, states::park_state, states::finish_state;
    state_sealed: SealedGzip, states::park_state, states::finish_state;
    state_given: PlainNone, states::park_given, states::finish_given;
}

#[test]
fn every_file_has_its_case() {
    for file in files::all() {
        let name = file.file_stem().unwrap().to_str().unwrap();
        assert!(CASES.contains(&name), "{} is resumed by no test", file.display());
    }
}
