//! A server that says of itself what a test wants it to say, and does nothing else.

use std::{
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    thread,
};

use mongodb::bson::{Document, doc};

/// Says `hello` as it is told, and refuses all else. Its threads end with their connections.
#[derive(Debug)]
pub(crate) struct Fake {
    port: u16,
}

impl Fake {
    /// A server whose `hello` has these fields beside those that all have.
    pub(crate) fn that_says(fields: Document) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut hello = doc! {
            "ok": 1, "helloOk": true, "maxBsonObjectSize": 16_777_216, "minWireVersion": 0,
            "maxMessageSizeBytes": 48_000_000, "maxWriteBatchSize": 100_000,
            "logicalSessionTimeoutMinutes": 30,
            "hosts": [format!("127.0.0.1:{port}")], "me": format!("127.0.0.1:{port}"),
        };
        hello.extend(fields);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let hello = hello.clone();
                thread::spawn(move || serve(&client, &hello));
            }
        });
        Self { port }
    }

    pub(crate) fn url(&self) -> String {
        format!("mongodb://127.0.0.1:{}/flows", self.port)
    }
}

fn serve(mut client: &TcpStream, hello: &Document) -> io::Result<()> {
    loop {
        let mut head = [0; 16];
        client.read_exact(&mut head)?;
        let number = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().unwrap());
        let mut body = vec![0; number(0) as usize - head.len()];
        client.read_exact(&mut body)?;
        let (asked, code) = (number(4), number(12));
        let text = String::from_utf8_lossy(&body).to_lowercase();
        let said = if text.contains("hello") || text.contains("ismaster") {
            hello.clone()
        } else {
            doc! { "ok": 0, "code": 10107, "codeName": "NotWritablePrimary", "errmsg": "no" }
        };
        let said = said.to_vec().unwrap();
        // The first message of a connection is of the old kind, and so is its answer.
        let (kind, front): (u32, &[u8]) = match code {
            2004 => (1, &[8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]),
            _ => (2013, &[0, 0, 0, 0, 0]),
        };
        let length = (head.len() + front.len() + said.len()) as u32;
        let head = [length, 1, asked, kind].map(u32::to_le_bytes).concat();
        client.write_all(&[&head, front, &said].concat())?;
    }
}
