//! A wire between a store and its server, which a test can cut behind a message of its choice.

use std::{
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

/// What a message must hold to be the last one on its wire, and how many such there are to be.
type Last = Arc<Mutex<(&'static str, usize)>>;

/// Passes on what is sent, until it is cut. Its threads end with their connections.
#[derive(Debug)]
pub(crate) struct Proxy {
    port: u16,
    last: Last,
}

impl Proxy {
    /// Listens on a loopback port, and passes on to that other one.
    pub(crate) fn to(server: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let last = Last::default();
        let kept = Arc::downgrade(&last);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Some(last) = kept.upgrade() else { return };
                let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, server)) else {
                    continue;
                };
                let back = (server.try_clone().unwrap(), client.try_clone().unwrap());
                thread::spawn(move || ended(&client, &server, ask(&client, &server, &last)));
                thread::spawn(move || ended(&back.0, &back.1, answer(&back.0, &back.1)));
            }
        });
        Self { port, last }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Passes on so many commands of that name, and cuts the wire of each before it is answered.
    pub(crate) fn cut_behind(&self, command: &'static str, count: usize) {
        *self.last.lock().unwrap() = (command, count);
    }

    /// How many of them are still to come.
    pub(crate) fn to_come(&self) -> usize {
        self.last.lock().unwrap().1
    }
}

/// Passes on messages of the protocol one by one.
fn ask(mut client: &TcpStream, mut server: &TcpStream, last: &Last) -> io::Result<()> {
    loop {
        let mut message = vec![0; 4];
        client.read_exact(&mut message)?;
        let length = u32::from_le_bytes(message[..4].try_into().unwrap()) as usize;
        message.resize(length, 0);
        client.read_exact(&mut message[4..])?;
        let is_last = {
            let mut last = last.lock().unwrap();
            let is_it = last.1 > 0 && is_command(&message, last.0);
            last.1 -= usize::from(is_it);
            is_it
        };
        if is_last {
            // From now on nothing comes back, while the server does what it was asked for.
            client.shutdown(Shutdown::Both)?;
        }
        server.write_all(&message)?;
        if is_last {
            return Ok(());
        }
    }
}

/// Whether it is a command of that name: the first field of its document, behind the header, the
/// flags, the kind of section, the document's length and the field's type.
fn is_command(message: &[u8], name: &str) -> bool {
    const FIELD: usize = 16 + 4 + 1 + 4 + 1;
    message
        .get(FIELD..)
        .is_some_and(|rest| rest.starts_with(name.as_bytes()) && rest.get(name.len()) == Some(&0))
}

fn answer(mut server: &TcpStream, mut client: &TcpStream) -> io::Result<()> {
    io::copy(&mut server, &mut client).map(drop)
}

fn ended(from: &TcpStream, to: &TcpStream, _: io::Result<()>) {
    // What was sent on its way arrives; then there is an end.
    let _ = to.shutdown(Shutdown::Write);
    let _ = from.shutdown(Shutdown::Both);
}
