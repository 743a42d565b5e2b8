//! A wire between a store and its server that a test can cut.

use std::{
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

/// Passes on what is sent, until it is cut. Its threads end with their connections.
#[derive(Debug)]
pub(crate) struct Proxy {
    port: u16,
    wires: Arc<Mutex<Vec<TcpStream>>>,
}

impl Proxy {
    /// Listens on a loopback port, and passes on to that other one.
    pub(crate) fn to(server: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let wires: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
        let kept = Arc::downgrade(&wires);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Some(wires) = kept.upgrade() else { return };
                let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, server)) else {
                    continue;
                };
                let both = [client.try_clone().unwrap(), server.try_clone().unwrap()];
                wires.lock().unwrap().extend(both);
                let back = (server.try_clone().unwrap(), client.try_clone().unwrap());
                thread::spawn(move || pass(client, server));
                thread::spawn(move || pass(back.0, back.1));
            }
        });
        Self { port, wires }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Cuts all connections of this moment.
    pub(crate) fn cut(&self) {
        for wire in self.wires.lock().unwrap().drain(..) {
            let _ = wire.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.cut();
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = [0; 16 * 1024];
    let mut copy = || -> io::Result<()> {
        loop {
            let count = from.read(&mut buffer)?;
            if count == 0 {
                return Ok(());
            }
            to.write_all(&buffer[..count])?;
        }
    };
    let _ = copy();
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}
