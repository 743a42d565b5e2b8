//! A connection to one server: made, greeted, and used by many calls at once.

use std::{future::Future, sync::Arc, time::Duration};

use redis::{
    AsyncConnectionConfig, Cmd, RedisConnectionInfo, RedisError, Value,
    aio::{MultiplexedConnection, PubSub},
    cmd,
};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::JoinHandle,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::{
    config::{Address, RedisConfig},
    reply,
    trouble::{Trouble, Unreached},
};

/// The oldest version with all commands that the store uses (ZMSCORE is the newest).
const OLDEST: (u32, u32) = (6, 2);

/// A connection that many calls share; each waits for its own replies.
pub(super) struct Connection {
    node: String,
    calls: MultiplexedConnection,
    driver: JoinHandle<()>,
    /// Whether the server belongs to a cluster.
    pub(super) in_cluster: bool,
}

/// What a server says of itself.
struct Greeting {
    version: String,
    mode: String,
}

trait Socket: AsyncRead + AsyncWrite + Send + Sync + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Socket for T {}

impl Connection {
    /// Connects, logs in, and looks whether the server is one that the store can use.
    pub(super) async fn dial(
        config: &RedisConfig,
        tls: Option<&Arc<ClientConfig>>,
        address: &Address,
    ) -> Result<Self, Trouble> {
        let node = address.to_string();
        let socket = reached(&node, tcp(config.connect_timeout, address)).await?;
        let silent = || Unreached::Silent(config.connect_timeout);
        let greet = async {
            let socket = reached(&node, secure(tls, address, socket)).await?;
            // Logging in is made below, where refusals are told apart.
            let nobody = RedisConnectionInfo::default().set_skip_set_lib_name();
            let patient = AsyncConnectionConfig::new().set_response_timeout(None);
            let made = MultiplexedConnection::new_with_config(&nobody, socket, patient).await;
            let (calls, driver) =
                made.map_err(|error| unreached(&node, no_greeting(tls, &error)))?;
            let driver = tokio::spawn(driver);
            let mut connection = Self { node: node.clone(), calls, driver, in_cluster: false };
            connection.greet(config, tls).await?;
            Ok(connection)
        };
        match timeout(config.connect_timeout, greet).await {
            Ok(connection) => connection,
            Err(_) => Err(unreached(&node, silent())),
        }
    }

    async fn greet(
        &mut self,
        config: &RedisConfig,
        tls: Option<&Arc<ClientConfig>>,
    ) -> Result<(), Trouble> {
        let mut commands = Vec::new();
        if let Some(password) = &config.password {
            let mut auth = cmd("AUTH");
            if let Some(username) = &config.username {
                auth.arg(username);
            }
            auth.arg(password.expose());
            commands.push(auth);
        }
        commands.push(cmd("HELLO"));
        let mut replies = self
            .send_raw(&commands, false)
            .await
            .map_err(|error| unreached(&self.node, no_greeting(tls, &error)))?;
        let hello = replies.pop().ok_or(Trouble::Confused)?;
        // What went wrong first is the reason.
        for reply in replies {
            self.checked(reply)?;
        }
        let greeting = match self.checked(hello) {
            Err(Trouble::Refused { code, text, .. }) if code == "ERR" && text.contains("HELLO") => {
                return Err(Trouble::TooOld("5 or older".into()));
            }
            hello => Greeting::read(hello?)?,
        };
        if !is_new_enough(&greeting.version) {
            return Err(Trouble::TooOld(greeting.version));
        }
        self.in_cluster = greeting.mode == "cluster";
        if config.db == 0 {
            return Ok(());
        }
        if self.in_cluster {
            return Err(Trouble::ClusterDatabase);
        }
        let mut select = cmd("SELECT");
        select.arg(config.db);
        self.send(&[select], false).await.map(drop)
    }

    /// Whether the server has not ended it yet, as far as is known.
    pub(super) fn is_open(&self) -> bool {
        !self.driver.is_finished()
    }

    /// Makes calls, one after the other, and gives their replies; a refusal of any is an error.
    pub(super) async fn send(&self, commands: &[Cmd], asking: bool) -> Result<Vec<Value>, Trouble> {
        let replies = self.send_raw(commands, asking).await;
        let replies = replies.map_err(|error| Trouble::broken(&self.node, &error))?;
        replies.into_iter().map(|reply| self.checked(reply)).collect()
    }

    /// With `asking`, also at a server that is about to get the slot.
    async fn send_raw(&self, commands: &[Cmd], asking: bool) -> Result<Vec<Value>, RedisError> {
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
            let mut place = 0;
            replies.retain(|_| {
                place += 1;
                place % 2 == 0
            });
        }
        Ok(replies)
    }

    fn checked(&self, reply: Value) -> Result<Value, Trouble> {
        match reply {
            Value::ServerError(error) => Err(Trouble::refused(&self.node, &error)),
            reply => Ok(reply),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// A connection that hears what is published, and does nothing else.
pub(super) async fn listen(
    config: &RedisConfig,
    tls: Option<&Arc<ClientConfig>>,
    address: &Address,
    channel: &str,
) -> Result<PubSub, Trouble> {
    let node = address.to_string();
    let socket = reached(&node, tcp(config.connect_timeout, address)).await?;
    let subscribe = async {
        let socket = reached(&node, secure(tls, address, socket)).await?;
        let mut who = RedisConnectionInfo::default().set_skip_set_lib_name();
        if let Some(username) = &config.username {
            who = who.set_username(username);
        }
        if let Some(password) = &config.password {
            who = who.set_password(password.expose());
        }
        let broken = |error| Trouble::broken(&node, &error);
        let mut listener = PubSub::new(&who, socket).await.map_err(broken)?;
        listener.subscribe(channel).await.map_err(broken)?;
        Ok(listener)
    };
    match timeout(config.connect_timeout, subscribe).await {
        Ok(listener) => listener,
        Err(_) => Err(unreached(&node, Unreached::Silent(config.connect_timeout))),
    }
}

async fn tcp(limit: Duration, address: &Address) -> Result<TcpStream, Unreached> {
    let connect = async {
        let found = tokio::net::lookup_host((address.host.as_str(), address.port)).await;
        let found: Vec<_> = found.map_err(|error| Unreached::Name(error.to_string()))?.collect();
        let io = |error: std::io::Error| Unreached::Io(error.to_string(), error.kind());
        let stream = TcpStream::connect(&*found).await.map_err(io)?;
        stream.set_nodelay(true).map_err(io)?;
        Ok(stream)
    };
    timeout(limit, connect).await.unwrap_or(Err(Unreached::Late(limit)))
}

async fn secure(
    tls: Option<&Arc<ClientConfig>>,
    address: &Address,
    stream: TcpStream,
) -> Result<Box<dyn Socket>, Unreached> {
    let Some(tls) = tls else { return Ok(Box::new(stream)) };
    let refused = |error: &dyn std::fmt::Display| Unreached::Tls(error.to_string());
    let name = ServerName::try_from(address.host.clone()).map_err(|error| refused(&error))?;
    let stream = TlsConnector::from(tls.clone()).connect(name, stream).await;
    stream.map(|stream| Box::new(stream) as _).map_err(|error| refused(&error))
}

async fn reached<T>(
    node: &str,
    step: impl Future<Output = Result<T, Unreached>>,
) -> Result<T, Trouble> {
    step.await.map_err(|cause| unreached(node, cause))
}

fn unreached(node: &str, cause: Unreached) -> Trouble {
    Trouble::Unreached { node: node.into(), cause }
}

/// Why the first call got no answer. That a certificate is missing is told only then.
fn no_greeting(tls: Option<&Arc<ClientConfig>>, error: &RedisError) -> Unreached {
    match tls {
        Some(_) => Unreached::Tls(error.to_string()),
        None => Unreached::Greeting,
    }
}

impl Greeting {
    fn read(hello: Value) -> Result<Self, Trouble> {
        let mut greeting = Self { version: String::new(), mode: String::new() };
        for (name, value) in reply::pairs(hello)? {
            match &*name {
                b"version" => greeting.version = reply::text(value)?,
                b"mode" => greeting.mode = reply::text(value)?,
                _ => {}
            }
        }
        Ok(greeting)
    }
}

fn is_new_enough(version: &str) -> bool {
    let mut numbers = version.split('.').map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= OLDEST
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_version_is_6_2() {
        for (version, enough) in [
            ("5.0.14", false),
            ("6.0.20", false),
            ("6.2.0", true),
            ("7.0.15", true),
            ("8.0.0-rc1", true),
            ("10.1", true),
            ("", false),
            ("255.255.255", true),
        ] {
            assert_eq!(is_new_enough(version), enough, "{version}");
        }
    }
}
