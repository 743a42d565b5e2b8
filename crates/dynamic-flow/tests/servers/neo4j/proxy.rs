//! A way to the server that can be cut, and that remembers what went along it.

use std::{
    net::Ipv4Addr,
    sync::{Arc, Mutex},
};

use dynamic_flow::store::Neo4jConfig;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    task::JoinSet,
};

/// What happens to what is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// The connection is cut when so many more bytes of requests have gone.
    CutRequests(usize),
    /// The connection is cut instead of passing on the answer to so many more bytes of requests.
    CutAnswer(usize),
}

/// Between a store and the server.
pub(crate) struct Proxy {
    port: u16,
    fault: Arc<Mutex<Fault>>,
    sent: Arc<Mutex<Vec<u8>>>,
    _ways: JoinSet<()>,
}

impl Proxy {
    pub(crate) async fn before(config: &Neo4jConfig) -> Self {
        let server: url::Url = config.uri.parse().unwrap();
        let target = (server.host_str().unwrap().to_owned(), server.port().unwrap_or(7687));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (fault, sent) = (Arc::new(Mutex::new(Fault::None)), Arc::default());
        let mut ways = JoinSet::new();
        let shared = (Arc::clone(&fault), Arc::clone(&sent));
        ways.spawn(async move {
            let mut ways = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(&target).await else { continue };
                let (fault, sent) = shared.clone();
                ways.spawn(way(client, server, fault, sent));
            }
        });
        Self { port, fault, sent, _ways: ways }
    }

    /// The same store by this way.
    pub(crate) fn instead(&self, mut config: Neo4jConfig) -> Neo4jConfig {
        config.uri = format!("bolt://127.0.0.1:{}", self.port);
        config
    }

    /// From now on; a cut is made once.
    pub(crate) fn set(&self, fault: Fault) {
        *self.fault.lock().unwrap() = fault;
    }

    /// What was sent to the server since it was asked last.
    pub(crate) fn sent(&self) -> Vec<u8> {
        std::mem::take(&mut *self.sent.lock().unwrap())
    }
}

async fn way(
    client: TcpStream,
    server: TcpStream,
    fault: Arc<Mutex<Fault>>,
    sent: Arc<Mutex<Vec<u8>>>,
) {
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    // Both ends are dropped, and with them the connections, as soon as one way is cut.
    tokio::select! {
        () = requests(from_client, to_server, &fault, &sent) => {}
        () = answers(from_server, to_client, &fault) => {}
    }
}

async fn requests(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    fault: &Mutex<Fault>,
    sent: &Mutex<Vec<u8>>,
) {
    let mut buffer = vec![0; 16 << 10];
    loop {
        let Ok(count @ 1..) = from.read(&mut buffer).await else { return };
        let part = &buffer[..count];
        let cut = {
            let mut fault = fault.lock().unwrap();
            match *fault {
                Fault::CutRequests(left) if left <= count => {
                    *fault = Fault::None;
                    Some(left)
                }
                Fault::CutRequests(left) => {
                    *fault = Fault::CutRequests(left - count);
                    None
                }
                Fault::CutAnswer(left) => {
                    *fault = Fault::CutAnswer(left.saturating_sub(count));
                    None
                }
                Fault::None => None,
            }
        };
        sent.lock().unwrap().extend(part);
        if to.write_all(&part[..cut.unwrap_or(count)]).await.is_err() || cut.is_some() {
            return;
        }
    }
}

async fn answers(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, fault: &Mutex<Fault>) {
    let mut buffer = vec![0; 16 << 10];
    loop {
        let Ok(count @ 1..) = from.read(&mut buffer).await else { return };
        {
            let mut fault = fault.lock().unwrap();
            if *fault == Fault::CutAnswer(0) {
                *fault = Fault::None;
                return;
            }
        }
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
