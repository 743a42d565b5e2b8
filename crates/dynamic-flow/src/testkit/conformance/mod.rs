//! What every store must do, as checks that any store can be put through.
//!
//! A store is handed over as a [`Subject`]; [`conformance_tests!`](crate::conformance_tests)
//! makes one test of each check, [`run`] goes through all of them in one go.
//!
//! ```
//! mod stores {
//!     use dynamic_flow::{store::MemoryStore, testkit::conformance::Subject};
//!
//!     async fn memory() -> Subject {
//!         let store = MemoryStore::new();
//!         Subject::new(store.clone(), move || store.clone())
//!     }
//!
//!     dynamic_flow::conformance_tests!(on_memory, super::memory);
//! }
//! ```
//!
//! If many fail, look at them in the order of the modules: records, updates, claims, renewals, queries,
//! paging. Each leans on those before it, and the comparison with the reference on all. Where a whole
//! record is not what it should be, the failure says which of its fields differ.

// Its macro is for the others.
#[macro_use]
mod differences;

mod build;
mod claims;
mod dice;
mod errors;
mod filters;
mod futures;
mod handles;
mod model;
mod paging;
mod queries;
mod races;
mod records;
mod renewals;
mod scale;
mod unreadable;
mod updates;

use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use crate::store::Store;

pub use scale::{Scale, scale};
pub use unreadable::{a_hub_does_its_work_beside_damaged_records, damaged_records_hide_no_others};

/// A store under test, in a namespace of its own that holds nothing yet.
///
/// What must outlive the test (a temporary folder, a database that is dropped afterwards) is
/// captured by the closure that opens the second handle.
pub struct Subject {
    store: Arc<dyn Store>,
    reopen: Box<dyn Fn() -> Arc<dyn Store> + Send + Sync>,
}

impl Subject {
    /// A store, and a way to open another handle on the same data, as another process would.
    pub fn new<S: Store, T: Store>(
        store: S,
        reopen: impl Fn() -> T + Send + Sync + 'static,
    ) -> Self {
        Self { store: Arc::new(store), reopen: Box::new(move || Arc::new(reopen())) }
    }

    /// The store that the test began with.
    pub fn store(&self) -> Arc<dyn Store> {
        self.store.clone()
    }

    /// Another handle on the same data.
    pub fn reopen(&self) -> Arc<dyn Store> {
        (self.reopen)()
    }

    /// The store, ready for use.
    async fn provisioned(&self) -> Arc<dyn Store> {
        self.store.provision().await.expect("provision");
        self.store()
    }

    /// Two handles on the same data, ready for use.
    async fn pair(&self) -> [Arc<dyn Store>; 2] {
        let first = self.provisioned().await;
        let second = self.reopen();
        second.provision().await.expect("provision a second handle");
        [first, second]
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Subject").field(&self.store).finish()
    }
}

type Check = fn(Subject) -> Pin<Box<dyn Future<Output = ()> + Send>>;

/// The names of all checks, in the order in which [`run`] goes through them.
pub fn names() -> impl Iterator<Item = &'static str> {
    CHECKS.iter().map(|(name, _)| *name)
}

/// Puts a store through all checks, each in a namespace of its own.
///
/// # Panics
/// At the first promise that the store breaks.
pub async fn run<F: Future<Output = Subject>>(make: impl Fn() -> F) {
    for (_, check) in CHECKS {
        check(make().await).await;
    }
}

/// Puts a store through one check.
///
/// # Panics
/// If the store breaks the promise, or if no check is called `name`.
pub async fn check(name: &str, subject: Subject) {
    let Some((_, check)) = CHECKS.iter().find(|(known, _)| *known == name) else {
        panic!("no check is called {name}; `conformance::names` lists them");
    };
    check(subject).await;
}

/// How long a check may take: very long, so that only one that hangs is stopped.
const PATIENCE: Duration = Duration::from_secs(300);

/// Runs a test to its end on several threads: what [`conformance_tests!`](crate::conformance_tests)
/// puts around each check.
///
/// # Panics
/// With the test, if it hangs, and if no runtime can be started.
pub fn block_on<T>(test: impl Future<Output = T>) -> T {
    let test = async { tokio::time::timeout(PATIENCE, test).await.expect("the check hangs") };
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(test)
}

// A macro can't spell a `$` that is meant for the macro which it defines, so it is handed one.
macro_rules! checks {
    (($d:tt) $($module:ident { $($name:ident,)* })*) => {
        $(pub use self::$module::{$($name),*};)*

        const CHECKS: &[(&str, Check)] =
            &[$($((stringify!($name), |subject| Box::pin($name(subject)))),*),*];

        /// Makes a module with one test for each check of the conformance suite.
        ///
        /// Takes the module's name, and the path of an `async fn() -> Subject` that gives a store
        /// in a fresh namespace, as seen from inside that module; or `-> Option<Subject>`, none
        /// where the store can't be tested, which that function then says.
        #[macro_export]
        macro_rules! conformance_tests {
            ($d name:ident, $d make:expr) => {
                mod $d name {
                    $($(
                        #[test]
                        fn $name() {
                            $crate::testkit::conformance::block_on(async {
                                let subject = ($d make)().await;
                                if let ::core::option::Option::Some(subject) = subject.into() {
                                    $crate::testkit::conformance::$name(subject).await;
                                }
                            });
                        }
                    )*)*
                }
            };
        }
    };
}

checks! { ($)
    records {
        a_record_reads_back_as_it_was_written,
        empty_fields_read_back_empty,
        extreme_numbers_read_back_exactly,
        any_text_reads_back_exactly,
        any_bytes_read_back_exactly,
        four_mebibytes_are_held,
        lengths_at_which_forms_change_are_held,
        long_texts_are_found_whole,
        many_waits_and_items_are_held,
        a_record_that_is_not_there_is_none,
        a_second_insert_is_refused_and_keeps_the_first,
        what_no_store_may_hold_is_refused,
        a_delete_is_conditional,
        a_deleted_record_stays_deleted,
    }
    updates {
        each_field_changes_alone,
        all_fields_change_together,
        an_update_counts_revisions_exactly,
        a_stale_update_is_refused_and_changes_nothing,
        an_update_of_nothing_is_refused,
        an_update_of_any_revision_is_taken,
        the_inbox_keeps_its_order,
        the_inbox_is_replaced_whole,
        odd_texts_come_and_go_with_updates,
        a_large_snapshot_survives_small_updates,
    }
    claims {
        only_what_is_due_is_claimed,
        due_now_is_due,
        only_the_named_queues_are_claimed,
        queues_that_look_alike_are_different,
        a_claim_goes_by_the_time_of_its_claimer,
        a_leased_run_is_not_claimed_until_its_lease_lapses,
        leased_runs_do_not_hide_free_ones,
        those_due_for_longest_come_first,
        a_claim_keeps_to_its_limit,
        a_claim_leaves_alone_what_it_excepts,
        a_claim_changes_what_it_says,
        a_claim_gives_the_whole_record,
        a_claim_of_an_ended_run_keeps_its_status,
        a_run_leaves_the_queue_when_its_due_time_is_cleared,
        a_run_moves_in_the_queue_when_its_due_time_moves,
        a_deleted_run_is_not_claimed,
        a_lease_without_end_saturates,
    }
    renewals {
        a_renewal_moves_the_lease_and_the_due_time,
        a_renewal_changes_nothing_else,
        a_renewal_needs_the_epoch_and_a_lease,
        a_lapsed_lease_can_be_renewed_until_somebody_claims,
        a_blocked_thread_holds_up_no_renewal,
    }
    queries {
        an_empty_store_lists_nothing,
        each_filter_and_all_pairs_of_them_list_what_matches,
        wait_criteria_hold_for_one_wait,
        metadata_is_compared_by_type_and_value,
        names_that_look_alike_are_different,
        boundaries_of_times_are_exact,
        a_query_follows_every_write,
        a_query_that_no_store_may_answer_is_refused,
    }
    paging {
        the_newest_are_listed_first,
        pages_of_any_size_list_everything_once,
        writes_between_pages_disturb_nothing,
        a_cursor_outlives_its_run,
    }
    filters {
        random_filters_list_what_matches,
    }
    errors {
        a_refusal_names_its_run_and_is_final,
        what_is_invalid_is_refused_before_anything_is_looked_up,
    }
    races {
        one_of_many_inserts_wins,
        one_of_many_updates_wins,
        no_increment_is_lost,
        no_inbox_item_is_lost,
        two_claimers_never_share_a_run,
        a_claim_and_an_update_exclude_each_other,
        a_delete_and_an_update_exclude_each_other,
        a_delete_is_the_last_of_all_writes,
        pages_are_in_order_while_runs_come_in,
        renewals_and_updates_do_not_undo_each_other,
        a_reader_never_sees_half_a_write,
        a_reader_never_sees_half_a_deletion,
    }
    handles {
        provision_is_idempotent,
        a_store_is_there_once_it_was_made,
        twenty_provision_at_once,
        a_second_handle_sees_every_write_at_once,
        what_was_written_is_there_after_reopening,
        a_handle_that_is_opened_later_goes_on_counting,
        provisioning_disturbs_no_work,
        health_says_what_and_where,
        hints_reach_who_waits_elsewhere,
    }
    futures {
        a_dropped_write_is_whole_or_nothing,
        dropped_calls_leave_the_store_usable,
    }
    model {
        random_operations_agree_with_the_reference,
    }
}
