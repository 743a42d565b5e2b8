//! A certificate authority of one's own, a server's certificate and a client's, made by `openssl`.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use crate::server::run;

/// An authority and what it has signed, as files (PEM) in a folder that goes with the last clone.
#[derive(Debug, Clone)]
pub struct Certificates {
    folder: Arc<TempDir>,
}

/// A certificate and its key.
#[derive(Debug, Clone)]
pub struct Pair {
    /// The certificate.
    pub certificate: PathBuf,
    /// Its key, PKCS #8.
    pub key: PathBuf,
}

impl Certificates {
    /// Makes an authority, a certificate for a server of these names (`DNS:localhost`,
    /// `IP:127.0.0.1`), and one for a client that is called `client`.
    ///
    /// # Errors
    /// When there is no `openssl`, or it does not like a name.
    pub fn new(client: &str, server: &[&str]) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("dflow-certificates-").tempdir()?;
        let it = Self { folder: Arc::new(folder) };
        it.authority()?;
        it.sign("server", "server", &format!("subjectAltName={}", server.join(",")))?;
        it.sign("client", client, "extendedKeyUsage=clientAuth")?;
        Ok(it)
    }

    /// The authority's certificate.
    pub fn ca(&self) -> PathBuf {
        self.path("ca.crt")
    }

    /// The server's.
    pub fn server(&self) -> Pair {
        self.pair("server")
    }

    /// The client's.
    pub fn client(&self) -> Pair {
        self.pair("client")
    }

    fn pair(&self, name: &str) -> Pair {
        Pair {
            certificate: self.path(&format!("{name}.crt")),
            key: self.path(&format!("{name}.key")),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn authority(&self) -> Result<()> {
        openssl(
            self.folder.path(),
            &[
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-days",
                "3650",
                "-subj",
                "/CN=dynamic-flow test authority",
                "-keyout",
                "ca.key",
                "-out",
                "ca.crt",
            ],
        )
    }

    fn sign(&self, name: &str, subject: &str, extension: &str) -> Result<()> {
        let [key, request, certificate, extensions] =
            ["key", "csr", "crt", "ext"].map(|end| format!("{name}.{end}"));
        fs::write(self.path(&extensions), format!("basicConstraints=CA:FALSE\n{extension}\n"))?;
        openssl(
            self.folder.path(),
            &[
                "req",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-subj",
                &format!("/CN={subject}"),
                "-keyout",
                &key,
                "-out",
                &request,
            ],
        )?;
        openssl(
            self.folder.path(),
            &[
                "x509",
                "-req",
                "-days",
                "3650",
                "-CA",
                "ca.crt",
                "-CAkey",
                "ca.key",
                "-CAcreateserial",
                "-in",
                &request,
                "-out",
                &certificate,
                "-extfile",
                &extensions,
            ],
        )?;
        fs::set_permissions(self.path(&key), fs::Permissions::from_mode(0o600))?;
        Ok(())
    }
}

fn openssl(folder: &Path, args: &[&str]) -> Result<()> {
    run(Command::new("openssl").args(args).current_dir(folder))
        .context("certificates for tests are made by `openssl`; is it installed?")
        .map(drop)
}
