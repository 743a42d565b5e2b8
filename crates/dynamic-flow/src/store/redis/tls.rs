//! TLS to the servers: whom to trust, and what to show.

use std::{fs, path::Path, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use super::{config::RedisConfig, trouble::Unreached};

/// What a connection needs for TLS, from the files of the configuration.
///
/// Names its cryptography itself: a process in which two kinds are linked has no default, and
/// asking for it would panic.
pub(super) fn client(config: &RedisConfig) -> Result<Arc<ClientConfig>, Unreached> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Unreached::Tls(error.to_string()))?
        .with_root_certificates(roots(config.tls_ca.as_deref())?);
    let (Some(cert), Some(key)) = (&config.tls_cert, &config.tls_key) else {
        return Ok(Arc::new(builder.with_no_client_auth()));
    };
    let chain = certificates("tls_cert", cert)?;
    let bytes = read("tls_key", key)?;
    let key =
        PrivateKeyDer::from_pem_slice(&bytes).map_err(|_| no_use("tls_key", "no private key"))?;
    let client = builder.with_client_auth_cert(chain, key);
    client.map(Arc::new).map_err(|error| no_use("tls_key", error.to_string()))
}

fn roots(ca: Option<&Path>) -> Result<RootCertStore, Unreached> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(path) => {
            for certificate in certificates("tls_ca", path)? {
                roots.add(certificate).map_err(|error| no_use("tls_ca", error.to_string()))?;
            }
        }
        None => {
            // A few odd ones among the system's are none of our business.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                return Err(Unreached::Tls(
                    "the system trusts no authority; configure tls_ca".into(),
                ));
            }
        }
    }
    Ok(roots)
}

fn certificates(
    what: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, Unreached> {
    let bytes = read(what, path)?;
    let certificates = CertificateDer::pem_slice_iter(&bytes)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| no_use(what, error.to_string()))?;
    if certificates.is_empty() {
        return Err(no_use(what, "no certificate"));
    }
    Ok(certificates)
}

fn read(what: &'static str, path: &Path) -> Result<Vec<u8>, Unreached> {
    fs::read(path).map_err(|error| no_use(what, format!("{}: {error}", path.display())))
}

fn no_use(what: &'static str, why: impl Into<String>) -> Unreached {
    Unreached::File { what, why: why.into() }
}
