//! A connection to one server, used by many calls at once.

use std::sync::Arc;

use redis::{
    AsyncConnectionConfig, Cmd, RedisConnectionInfo, RedisError, Value,
    aio::{MultiplexedConnection, PubSub},
    cmd,
};
use rustls::ClientConfig;
use tokio::{
    task::JoinHandle,
    time::{Instant, timeout_at},
};

use super::{
    config::{Address, RedisConfig},
    greeting::{Socket, greet},
    tcp,
    trouble::{Trouble, Unreached},
};

/// A connection that many calls share; each waits for its own replies.
pub(super) struct Connection {
    node: String,
    calls: MultiplexedConnection,
    driver: JoinHandle<()>,
    /// Whether the server belongs to a cluster.
    pub(super) in_cluster: bool,
}

impl Connection {
    /// Connects, logs in, and looks whether the server is one that the store can use. From then on
    /// the connection is served by the runtime on which this runs.
    pub(super) async fn dial(
        config: &RedisConfig,
        tls: Option<&Arc<ClientConfig>>,
        address: &Address,
    ) -> Result<Self, Trouble> {
        let node = address.to_string();
        let (socket, in_cluster) = reach(config, tls, address, &node).await?;
        let patient = AsyncConnectionConfig::new().set_response_timeout(None);
        let made = MultiplexedConnection::new_with_config(&greeted(), socket, patient).await;
        let (calls, driver) = made.map_err(|error| Trouble::broken(&node, &error))?;
        Ok(Self { node, calls, driver: tokio::spawn(driver), in_cluster })
    }

    /// Whether the server has not ended it yet, as far as is known.
    pub(super) fn is_open(&self) -> bool {
        !self.driver.is_finished()
    }

    /// Makes calls, one after the other, and gives their replies; a refusal of any is an error.
    /// With `asking`, also at a server that is about to get the slot.
    pub(super) async fn send(&self, commands: &[Cmd], asking: bool) -> Result<Vec<Value>, Trouble> {
        let replies = self.replies(commands, asking).await;
        let replies = replies.map_err(|error| Trouble::broken(&self.node, &error))?;
        let checked = replies.into_iter().map(|reply| match reply {
            Value::ServerError(error) => Err(Trouble::refused(&self.node, &error)),
            reply => Ok(reply),
        });
        checked.collect()
    }

    async fn replies(&self, commands: &[Cmd], asking: bool) -> Result<Vec<Value>, RedisError> {
        let mut calls = self.calls.clone();
        if let ([command], false) = (commands, asking) {
            return calls.send_packed_command(command).await.map(|reply| vec![reply]);
        }
        let mut pipeline = redis::pipe();
        for command in commands {
            if asking {
                pipeline.add_command(cmd("ASKING"));
            }
            pipeline.add_command(command.clone());
        }
        let mut replies = calls.send_packed_commands(&pipeline, 0, pipeline.len()).await?;
        if asking {
            let mut is_reply = [false, true].into_iter().cycle();
            replies.retain(|_| is_reply.next() == Some(true));
        }
        Ok(replies)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// A connection that hears what is published on a channel, and does nothing else.
pub(super) async fn listen(
    config: &RedisConfig,
    tls: Option<&Arc<ClientConfig>>,
    address: &Address,
    channel: &str,
) -> Result<PubSub, Trouble> {
    let node = address.to_string();
    let (socket, _) = reach(config, tls, address, &node).await?;
    let subscribe = async {
        let mut listener = PubSub::new(&greeted(), socket).await?;
        listener.subscribe(channel).await?;
        Ok(listener)
    };
    match tokio::time::timeout(config.connect_timeout, subscribe).await {
        Ok(listener) => listener.map_err(|error| Trouble::broken(&node, &error)),
        Err(_) => Err(unreached(&node, Unreached::Silent(config.connect_timeout))),
    }
}

/// Connects and logs in; says whether the server belongs to a cluster.
async fn reach(
    config: &RedisConfig,
    tls: Option<&Arc<ClientConfig>>,
    address: &Address,
    node: &str,
) -> Result<(Box<dyn Socket>, bool), Trouble> {
    let limit = config.connect_timeout;
    let late = Instant::now() + limit;
    let connect = timeout_at(late, tcp::connect(address)).await;
    let connect = connect.unwrap_or(Err(Unreached::Late(limit)));
    let stream = connect.map_err(|cause| unreached(node, cause))?;
    let greeting = async {
        let secure = tcp::secure(tls, address, stream).await;
        let mut socket = secure.map_err(|cause| unreached(node, cause))?;
        let in_cluster = greet(&mut *socket, config, node).await?;
        Ok((socket, in_cluster))
    };
    let greeting = timeout_at(late, greeting).await;
    greeting.unwrap_or_else(|_| Err(unreached(node, Unreached::Silent(limit))))
}

/// That who has logged in need not do so again.
fn greeted() -> RedisConnectionInfo {
    RedisConnectionInfo::default().set_skip_set_lib_name()
}

fn unreached(node: &str, cause: Unreached) -> Trouble {
    Trouble::Unreached { node: node.into(), cause }
}
