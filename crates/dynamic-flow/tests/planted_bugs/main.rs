//! The conformance suite finds what it is for: a plain store, into which bugs are planted one by
//! one, each named with the check that must go red.

mod store;

use std::{
    panic,
    sync::{Arc, Mutex},
};

use dynamic_flow::testkit::conformance::{self, Subject};

use self::store::Planted;

macro_rules! bugs {
    ($($bug:ident => $check:ident,)*) => {
        #[derive(Debug, Clone, Copy, PartialEq)]
        enum Bug {
            None,
            $($bug,)*
        }

        const BUGS: &[(Bug, &str)] = &[$((Bug::$bug, stringify!($check)),)*];
    };
}

bugs! {
    InsertOverwrites => a_second_insert_is_refused_and_keeps_the_first,
    InsertRaces => one_of_many_inserts_wins,
    EmptyQueueIsNone => empty_fields_read_back_empty,
    TextIsTrimmed => any_text_reads_back_exactly,
    TextIsLowered => any_text_reads_back_exactly,
    BytesEndAtZero => any_bytes_read_back_exactly,
    BytesAreText => any_bytes_read_back_exactly,
    SnapshotIsCut => four_mebibytes_are_held,
    LengthIsASign => lengths_at_which_forms_change_are_held,
    LongTextsHaveNoIndex => long_texts_are_found_whole,
    NumbersAreFloats => extreme_numbers_read_back_exactly,
    NothingIsRefused => what_no_store_may_hold_is_refused,
    RefusalsAreRetryable => a_refusal_names_its_run_and_is_final,
    RefusalsNameNoRun => a_refusal_names_its_run_and_is_final,
    ChecksComeLast => what_is_invalid_is_refused_before_anything_is_looked_up,
    RevisionIsFloat => an_update_counts_revisions_exactly,
    UpdateIgnoresRevision => a_stale_update_is_refused_and_changes_nothing,
    UpdateTakesLaterRevisions => a_stale_update_is_refused_and_changes_nothing,
    UpdateMakesRecords => an_update_of_nothing_is_refused,
    UpdateRevives => a_deleted_record_stays_deleted,
    UpdateComparesOutsideTheLock => one_of_many_updates_wins,
    UpdateLosesIncrements => no_increment_is_lost,
    UpdateKeepsRevision => an_update_of_any_revision_is_taken,
    UpdateWritesInTwoSteps => a_reader_never_sees_half_a_write,
    DroppedUpdateIsHalf => a_dropped_write_is_whole_or_nothing,
    ClearingIsIgnored => each_field_changes_alone,
    AbsentMeansCleared => each_field_changes_alone,
    InboxGrowsAtTheFront => the_inbox_keeps_its_order,
    InboxDropsTheNewest => the_inbox_keeps_its_order,
    InboxDropsAfterPush => the_inbox_keeps_its_order,
    InboxIsASet => the_inbox_keeps_its_order,
    InboxReplacedAndPushed => the_inbox_is_replaced_whole,
    OperatorsAreDropped => odd_texts_come_and_go_with_updates,
    InboxRaces => no_inbox_item_is_lost,
    DeleteIgnoresRevision => a_delete_is_conditional,
    DeleteOfNothingSucceeds => a_delete_is_conditional,
    DeleteInTwoSteps => a_reader_never_sees_half_a_deletion,
    DeleteRaces => a_delete_and_an_update_exclude_each_other,
    RenewRestoresDeleted => a_delete_is_the_last_of_all_writes,
    RenewRevives => a_deleted_record_stays_deleted,
    ClaimIgnoresDueTime => only_what_is_due_is_claimed,
    ClaimTakesUnqueued => only_what_is_due_is_claimed,
    ClaimAfterDueOnly => due_now_is_due,
    ClaimAfterLapseOnly => due_now_is_due,
    ClaimIgnoresQueues => only_the_named_queues_are_claimed,
    ClaimIgnoresCase => queues_that_look_alike_are_different,
    ClaimWaitsForItsClock => a_claim_goes_by_the_time_of_its_claimer,
    ClaimIgnoresLeases => a_leased_run_is_not_claimed_until_its_lease_lapses,
    ClaimLimitsBeforeLeases => leased_runs_do_not_hide_free_ones,
    ClaimInOrderOfIds => those_due_for_longest_come_first,
    ClaimIgnoresLimit => a_claim_keeps_to_its_limit,
    ClaimIgnoresExceptions => a_claim_leaves_alone_what_it_excepts,
    ClaimLimitsBeforeExceptions => a_claim_leaves_alone_what_it_excepts,
    ClaimKeepsEpoch => a_claim_changes_what_it_says,
    ClaimKeepsRevision => a_claim_changes_what_it_says,
    ClaimKeepsAttempts => a_claim_changes_what_it_says,
    ClaimKeepsDueTime => a_claim_changes_what_it_says,
    ClaimGivesWhatWas => a_claim_changes_what_it_says,
    ClaimLeavesOutTheInbox => a_claim_gives_the_whole_record,
    ClaimRunsWhatEnded => a_claim_of_an_ended_run_keeps_its_status,
    ClaimRaces => two_claimers_never_share_a_run,
    ClaimByFirstDueTime => a_run_moves_in_the_queue_when_its_due_time_moves,
    ClaimByStaleIndex => a_run_leaves_the_queue_when_its_due_time_is_cleared,
    RenewCountsARevision => a_renewal_changes_nothing_else,
    RenewTouchesTime => a_renewal_changes_nothing_else,
    RenewKeepsDueTime => a_renewal_moves_the_lease_and_the_due_time,
    RenewIgnoresEpoch => a_renewal_needs_the_epoch_and_a_lease,
    RenewGivesALease => a_renewal_needs_the_epoch_and_a_lease,
    RenewUndoesUpdates => renewals_and_updates_do_not_undo_each_other,
    OldestFirst => the_newest_are_listed_first,
    CriteriaMeanOr => each_filter_and_all_pairs_of_them_list_what_matches,
    StatusIsIgnored => each_filter_and_all_pairs_of_them_list_what_matches,
    WaitsAreTakenTogether => wait_criteria_hold_for_one_wait,
    RunPerWait => wait_criteria_hold_for_one_wait,
    MetadataAsText => metadata_is_compared_by_type_and_value,
    MetadataAsNumbers => metadata_is_compared_by_type_and_value,
    NamesIgnoreCase => names_that_look_alike_are_different,
    BoundsYieldToOthers => random_filters_list_what_matches,
    NegativeZeroIsStored => random_filters_list_what_matches,
    CreatedAfterIsStrict => boundaries_of_times_are_exact,
    CreatedBeforeIsLoose => boundaries_of_times_are_exact,
    ExpiresAfterIsStrict => boundaries_of_times_are_exact,
    ExpiresBeforeIsLoose => boundaries_of_times_are_exact,
    QueryByFirstState => a_query_follows_every_write,
    CursorByTime => pages_of_any_size_list_everything_once,
    CursorIncludesItself => a_cursor_outlives_its_run,
    CursorMustExist => a_cursor_outlives_its_run,
    CursorIsAnOffset => writes_between_pages_disturb_nothing,
    CursorIsCountedFirst => pages_are_in_order_while_runs_come_in,
    FullPageHasNext => pages_of_any_size_list_everything_once,
    PagesAreShort => pages_of_any_size_list_everything_once,
    PagesHaveNoEnd => pages_of_any_size_list_everything_once,
    EmptyPageIsTaken => a_query_that_no_store_may_answer_is_refused,
    SummariesWithoutInbox => the_newest_are_listed_first,
    ReadsAreCached => a_second_handle_sees_every_write_at_once,
    HandlesAreApart => what_was_written_is_there_after_reopening,
    EpochIsRemembered => a_handle_that_is_opened_later_goes_on_counting,
    ProvisionWipes => provision_is_idempotent,
    ExistsMakes => a_store_is_there_once_it_was_made,
    HealthMakes => a_store_is_there_once_it_was_made,
    ExistsCountsRuns => a_store_is_there_once_it_was_made,
    ProvisionRebuilds => provisioning_disturbs_no_work,
    HealthIsSilent => health_says_what_and_where,
    HintsOfOneKind => hints_reach_who_waits_elsewhere,
    EpochGoesBack => random_operations_agree_with_the_reference,
}

fn subject(bug: Bug) -> Subject {
    let shared = Arc::default();
    let open = move |shared: &Arc<Mutex<_>>| Planted::open(bug, shared);
    Subject::new(open(&shared), move || open(&shared))
}

fn passes(bug: Bug, check: &'static str) -> bool {
    let run = move || conformance::block_on(conformance::check(check, subject(bug)));
    panic::catch_unwind(run).is_ok()
}

#[test]
fn the_suite_finds_every_planted_bug() {
    // A failing check prints why; of those that shall fail nobody wants to read it.
    panic::set_hook(Box::new(|_| {}));
    let healthy: Vec<_> = conformance::names().filter(|check| !passes(Bug::None, check)).collect();
    let missed: Vec<_> = BUGS.iter().filter(|(bug, check)| passes(*bug, check)).collect();
    let _ = panic::take_hook();
    assert_eq!(healthy, Vec::<&str>::new(), "checks that fail without a bug");
    assert!(missed.is_empty(), "bugs that their checks do not find: {missed:?}");
}
