//! How a run is sealed, where somebody should hear of it.

use dynamic_flow::{codec::Keyring, hub::PersistenceHub, store::Filter};

use super::Result;

/// Said once for each store: with its first run.
const FIRST_UNSEALED: &str = "runs are stored unsealed: whoever can read or write the store can read \
     or change them; to seal new stores, set FLOW_ENCRYPTION_KEY (`dflow keygen` makes a key)";
/// Said when the key was left out where it was used before.
const UNSEALED_AMONG_SEALED: &str = "this run is stored unsealed, though the one before it in this \
     store is sealed: FLOW_ENCRYPTION_KEY is not set";
/// Said when the key is another than before.
const OTHER_KEY: &str = "this run is sealed with another key than the one before it in this store, \
     which does not open with the keys at hand: its key is";

/// What is to be said of how a run is sealed, where the one before it in this store was sealed
/// otherwise, or where it is the first and is not sealed; with the kind of the notice.
pub(super) async fn seal_notice(
    hub: &PersistenceHub,
    keyring: Option<&Keyring>,
) -> Result<Option<(&'static str, String)>> {
    let page = hub.query(&Filter::default(), None, 1).await?;
    if page.items.is_empty() {
        return Ok(keyring.is_none().then(|| ("Plaintext", FIRST_UNSEALED.to_owned())));
    }
    // If it went in between, or is damaged, whoever opens it hears of that.
    let Some(newest) = page.readable().next() else { return Ok(None) };
    let Ok(sealed) = hub.sealed_info(newest.id).await else { return Ok(None) };
    Ok(match (keyring, sealed.key_id) {
        (None, Some(_)) => Some(("Plaintext", UNSEALED_AMONG_SEALED.to_owned())),
        (Some(keyring), Some(key)) if !keyring.key_ids().contains(&key) => {
            let both = "FLOW_ENCRYPTION_KEY=NEW,OLD opens both";
            Some(("OtherKey", format!("{OTHER_KEY} {key}; {both}")))
        }
        _ => None,
    })
}
