//! What was accepted for a run and is not worked in yet, as callers are told of it.

use super::{inbox::Accept, vault::Opened};
use crate::wait::{Cancellation, Closed, Receipt, Wait};

/// The cancellation that was accepted and is not worked in yet.
pub(super) fn pending_cancellation(opened: &Opened) -> Option<&Cancellation> {
    opened.inbox.iter().find_map(|item| match &item.what {
        Accept::Cancel(cancellation) => Some(cancellation),
        _ => None,
    })
}

/// Whether a cancellation was accepted and is not worked in yet.
pub(super) fn is_cancelled(opened: &Opened) -> bool {
    pending_cancellation(opened).is_some()
}

/// What was accepted for an open wait and is not worked in yet.
pub(super) fn pending_receipt(opened: &Opened, wait: &Wait) -> Option<Receipt> {
    opened.inbox.iter().find_map(|item| match &item.what {
        Accept::Answer { wait_id, receipt, .. } if *wait_id == wait.id => Some(receipt.clone()),
        Accept::Cancel(_) => Some(wait.receipt(Closed::Cancelled, item.at)),
        _ => None,
    })
}

/// What was accepted for open waits and is not worked in yet, oldest first.
pub(super) fn pending_receipts(opened: &Opened) -> Vec<Receipt> {
    let waits = opened.snapshot.waits.iter().map(|wait| opened.with_added_keys(wait.clone()));
    let mut receipts: Vec<_> = waits.filter_map(|wait| pending_receipt(opened, &wait)).collect();
    receipts.sort_by_key(|receipt| receipt.at);
    receipts
}
