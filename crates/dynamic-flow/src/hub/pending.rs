//! What was accepted for a run and is not worked in yet, as callers are told of it.

use super::{inbox::Accept, vault::Opened};
use crate::wait::{Answer, Closed, Receipt, Wait};

/// Whether a cancellation was accepted and is not worked in yet.
pub(super) fn is_cancelled(opened: &Opened) -> bool {
    opened.inbox.iter().any(|item| matches!(item.what, Accept::Cancel { .. }))
}

/// What was accepted for an open wait and is not worked in yet: `Ok` if it is this very request.
pub(super) fn pending_receipt(
    opened: &Opened,
    wait: &Wait,
    answer: &Answer,
) -> Option<Result<Receipt, Receipt>> {
    opened.inbox.iter().find_map(|item| match &item.what {
        Accept::Answer { wait_id, receipt, .. } if *wait_id == wait.id => {
            let receipt = receipt.clone();
            Some(if receipt.is_of(answer) { Ok(receipt) } else { Err(receipt) })
        }
        Accept::Cancel { .. } => Some(Err(wait.receipt(Closed::Cancelled, item.at))),
        _ => None,
    })
}

/// What was accepted for open waits and is not worked in yet, oldest first.
pub(super) fn pending_receipts(opened: &Opened) -> Vec<Receipt> {
    let mut receipts: Vec<Receipt> = Vec::new();
    for item in &opened.inbox {
        match &item.what {
            Accept::Answer { receipt, .. } => receipts.push(receipt.clone()),
            Accept::Cancel { .. } => {
                let waits = opened.snapshot.waits.iter();
                let open = waits.filter(|wait| receipts.iter().all(|it| it.wait_id != wait.id));
                let cancelled: Vec<Receipt> =
                    open.map(|wait| wait.receipt(Closed::Cancelled, item.at)).collect();
                receipts.extend(cancelled);
            }
            Accept::Key { .. } | Accept::Retry | Accept::Spent => {}
        }
    }
    receipts
}
