//! Hints by `NOTIFY`: told with a write or soon after it, heard on a connection of their own.

use std::{
    future::poll_fn,
    pin::pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    time::Duration,
};

use tokio::runtime::Handle;
use tokio_postgres::AsyncMessage;

use super::{
    connection::{Connections, Way},
    tables::{Tables, literal},
    trouble::Trouble,
};
use crate::store::{Hint, Hinter, Hints, server::within};

/// How long an idle connection is trusted to be there.
const TRUST: Duration = Duration::from_secs(30);
/// How long to wait before connecting anew; twice as long each time.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// Hears what all stores on the same tables tell.
#[derive(Default)]
pub(super) struct Ear {
    hinter: Hinter,
    listening: OnceLock<()>,
}

impl Ear {
    /// Subscribes; the first subscription makes the connection.
    pub(super) fn subscribe(&self, to: Hint, way: &Arc<Way>, runtime: &Handle) -> Hints {
        let hints = self.hinter.subscribe(to);
        self.listening.get_or_init(|| {
            // Ends with the runtime, and so with the store.
            drop(runtime.spawn(listen(way.clone(), self.hinter.clone())));
        });
        hints
    }
}

/// Listens for ever, on one connection after the other.
async fn listen(way: Arc<Way>, hinter: Hinter) {
    let mut pause = PAUSES.0;
    loop {
        let mut heard = false;
        if let Err(trouble) = listen_once(&way, &hinter, &mut heard).await {
            tracing::debug!(error = %trouble, "hints are not heard for a moment");
        }
        pause = if heard { PAUSES.0 } else { (pause * 2).min(PAUSES.1) };
        tokio::time::sleep(pause).await;
    }
}

/// Listens until the connection breaks, and says whether there was one.
async fn listen_once(way: &Way, hinter: &Hinter, connected: &mut bool) -> Result<(), Trouble> {
    let settings = &way.settings;
    let limit = settings.config.operation_timeout;
    let dialer = way.connections()?.dialer();
    let (client, mut connection) =
        within(settings.reach(), async { Ok::<_, Trouble>(dialer.dial().await?) }).await?;
    let hear = async {
        while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
            if let AsyncMessage::Notification(told) = message? {
                Hint::ALL
                    .into_iter()
                    .filter(|hint| told.payload().split(',').any(|word| word == name(*hint)))
                    .for_each(|hint| hinter.give(hint));
            }
        }
        Ok(())
    };
    let ask = async {
        let listen = format!("LISTEN {}", settings.tables.channel);
        let call = async |script: &str| {
            within(limit, async { Ok::<_, Trouble>(client.batch_execute(script).await?) }).await
        };
        call(&listen).await?;
        *connected = true;
        // What was told before could not be heard.
        Hint::ALL.into_iter().for_each(|hint| hinter.give(hint));
        loop {
            tokio::time::sleep(TRUST).await;
            call("").await?;
        }
    };
    tokio::select! {
        ended = pin!(hear) => ended,
        ended = pin!(ask) => ended,
    }
}

/// Tells all stores on the same tables.
///
/// A `NOTIFY` holds a lock of the whole server from before its transaction is flushed until after,
/// so that writes which tell anything are flushed one by one: 64 writers at once took half as long
/// again when each told in its own statement. So one write at a time does, and is told of even if
/// its process ends at once; the others' hints are told together, in a transaction that flushes
/// nothing, which took 4 % longer than telling nothing.
#[derive(Default)]
pub(super) struct Mouth {
    telling: AtomicBool,
    /// Hints that are still to be told, and whether somebody is at it.
    pending: AtomicU8,
}

/// Somebody tells what is pending.
const AT_IT: u8 = 1 << 7;

impl Mouth {
    /// The right to tell hints within a write; none while another one has it, or without hints.
    pub(super) fn turn(&self, hints: &[Hint], tables: &Tables) -> Option<Turn<'_>> {
        if hints.is_empty() || self.telling.swap(true, Ordering::AcqRel) {
            return None;
        }
        Some(Turn { told: notify(tables, hints), telling: &self.telling })
    }

    /// Tells soon, apart from any write.
    pub(super) fn tell(mouth: &Arc<Self>, hints: &[Hint], connections: &Arc<Connections>) {
        let bits = hints.iter().fold(0, |bits, hint| bits | bit(*hint));
        if mouth.pending.fetch_or(bits | AT_IT, Ordering::AcqRel) & AT_IT == 0 {
            tokio::spawn(tell_pending(mouth.clone(), connections.clone()));
        }
    }
}

/// See [`Mouth::turn`].
pub(super) struct Turn<'a> {
    told: String,
    telling: &'a AtomicBool,
}

impl Turn<'_> {
    /// The expression that tells the hints when its transaction is committed.
    pub(super) fn told(&self) -> &str {
        &self.told
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.telling.store(false, Ordering::Release);
    }
}

async fn tell_pending(mouth: Arc<Mouth>, connections: Arc<Connections>) {
    loop {
        let bits = mouth.pending.swap(AT_IT, Ordering::AcqRel) & !AT_IT;
        let hints: Vec<_> = Hint::ALL.into_iter().filter(|hint| bits & bit(*hint) > 0).collect();
        if hints.is_empty() {
            let none =
                mouth.pending.compare_exchange(AT_IT, 0, Ordering::AcqRel, Ordering::Acquire);
            if none.is_ok() {
                return;
            }
            continue;
        }
        let told = notify(&connections.settings.tables, &hints);
        let script = format!("BEGIN; SET LOCAL synchronous_commit = off; SELECT {told}; COMMIT");
        if let Err(trouble) = connections.execute(&script).await {
            // A hint may be lost: who waits looks from time to time.
            tracing::debug!(error = %trouble, "a hint was not told");
        }
    }
}

fn notify(tables: &Tables, hints: &[Hint]) -> String {
    let names: Vec<_> = hints.iter().map(|hint| name(*hint)).collect();
    format!("pg_notify({}, {})", literal(&tables.channel), literal(&names.join(",")))
}

fn name(hint: Hint) -> &'static str {
    match hint {
        Hint::Due => "due",
        Hint::Idle => "idle",
    }
}

fn bit(hint: Hint) -> u8 {
    match hint {
        Hint::Due => 1,
        Hint::Idle => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_write_at_a_time_has_the_turn() {
        let mouth = Mouth::default();
        let tables = Tables::new("public", "flows");
        assert!(mouth.turn(&[], &tables).is_none());
        let first = mouth.turn(&Hint::ALL, &tables).expect("nobody has it");
        assert!(first.told().contains("'due,idle'"), "{}", first.told());
        assert!(mouth.turn(&Hint::ALL, &tables).is_none());
        drop(first);
        assert!(mouth.turn(&[Hint::Due], &tables).is_some());
    }
}
