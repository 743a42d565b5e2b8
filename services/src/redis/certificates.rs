//! An authority of one's own, and what it certifies.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;

use crate::server::{give, run};

/// PEM files of an authority, and of a server and a client that it certifies.
#[derive(Debug, Clone)]
pub struct Certificates {
    /// The authority's certificate.
    pub ca: PathBuf,
    /// The server's, for `localhost` and `127.0.0.1`.
    pub server_cert: PathBuf,
    /// The server's private key.
    pub server_key: PathBuf,
    /// A client's.
    pub client_cert: PathBuf,
    /// The client's private key.
    pub client_key: PathBuf,
}

impl Certificates {
    /// Makes all of them in that folder, for whom servers run as.
    ///
    /// # Errors
    /// When `openssl` fails.
    pub fn make(folder: &Path) -> Result<Self> {
        let file = |name: &str| folder.join(name);
        let made = Self {
            ca: file("ca.pem"),
            server_cert: file("server.pem"),
            server_key: file("server.key"),
            client_cert: file("client.pem"),
            client_key: file("client.key"),
        };
        let ca_key = file("ca.key");
        let mut authority = openssl(&["req", "-x509", "-subj", "/CN=an authority of our own"]);
        authority.args(["-addext", "keyUsage=critical,keyCertSign,cRLSign"]);
        run(new_key(&mut authority, &ca_key).arg("-out").arg(&made.ca))?;
        let names = "subjectAltName=DNS:localhost,IP:127.0.0.1";
        for (subject, cert, key, names) in [
            ("/CN=localhost", &made.server_cert, &made.server_key, names),
            ("/CN=a client", &made.client_cert, &made.client_key, "subjectAltName=DNS:client"),
        ] {
            let mut certify = openssl(&["req", "-x509", "-subj", subject, "-addext", names]);
            certify.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
            certify.arg("-CA").arg(&made.ca).arg("-CAkey").arg(&ca_key);
            run(new_key(&mut certify, key).arg("-out").arg(cert))?;
        }
        for path in fs::read_dir(folder)? {
            give(&path?.path())?;
        }
        Ok(made)
    }
}

fn openssl(words: &[&str]) -> Command {
    let mut command = Command::new("openssl");
    command.args(words).args(["-days", "2", "-batch"]);
    command
}

fn new_key<'a>(command: &'a mut Command, path: &Path) -> &'a mut Command {
    let curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc"];
    command.args(curve).arg("-keyout").arg(path)
}
