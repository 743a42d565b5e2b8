//! Hints from other processes: a task that listens to what scripts publish.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt as _, StreamExt as _, future::select, pin_mut};
use redis::aio::PubSub;
use tokio::{
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::servers::Servers;
use crate::store::{Change, Hint, Hinter, Record};

/// How long to wait before listening is tried again, at first and at the most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// How long a connection may be silent before it is asked whether it is still there.
const SILENCE: Duration = Duration::from_secs(15);

/// The letters that stand for what a record or change is to be told of.
pub(super) trait Told {
    fn told(&self) -> String;
}

impl Told for Record {
    fn told(&self) -> String {
        self.hints().map(letter).collect()
    }
}

impl Told for Change {
    fn told(&self) -> String {
        self.hints().map(letter).collect()
    }
}

fn letter(hint: Hint) -> char {
    match hint {
        Hint::Due => 'd',
        Hint::Idle => 'i',
    }
}

/// Listens until it is dropped.
pub(super) struct Listener(JoinHandle<()>);

impl Listener {
    /// Starts to listen, and gives what it hears; none where there is no thread for it.
    pub(super) fn start(servers: Arc<Servers>, channel: String, hinter: Hinter) -> Option<Self> {
        let runtime = servers.runtime().handle().ok()?;
        Some(Self(runtime.spawn(listen(servers, channel, hinter))))
    }

    /// Whether it ended by itself.
    pub(super) fn has_ended(&self) -> bool {
        self.0.is_finished()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn listen(servers: Arc<Servers>, channel: String, hinter: Hinter) {
    let mut pause = PAUSE.0;
    loop {
        match servers.listen(&channel).await {
            Ok(heard) => {
                pause = PAUSE.0;
                // Nobody knows what was said while nobody listened.
                Hint::ALL.into_iter().for_each(|hint| hinter.give(hint));
                hear(heard, &hinter, servers.config().operation_timeout).await;
            }
            Err(trouble) => tracing::debug!(%trouble, "no hints from other processes for now"),
        }
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE.1);
    }
}

/// Gives hints until the connection ends.
async fn hear(heard: PubSub, hinter: &Hinter, patience: Duration) {
    let (mut calls, mut messages) = heard.split();
    loop {
        let silence = sleep(SILENCE).fuse();
        let message = messages.next().fuse();
        pin_mut!(silence, message);
        match select(message, silence).await {
            futures::future::Either::Left((Some(message), _)) => {
                let said = Hint::ALL.into_iter();
                said.filter(|hint| message.get_payload_bytes() == [letter(*hint) as u8])
                    .for_each(|hint| hinter.give(hint));
            }
            futures::future::Either::Left((None, _)) => return,
            futures::future::Either::Right(_) => {
                let answer = timeout(patience, calls.ping::<redis::Value>()).await;
                if !matches!(answer, Ok(Ok(_))) {
                    return;
                }
            }
        }
    }
}
