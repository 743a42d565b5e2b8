//! The way to a server: names, TCP, TLS.

use std::{io, sync::Arc};

use rustls::{ClientConfig, pki_types::ServerName};
use tokio::net::{TcpStream, lookup_host};
use tokio_rustls::TlsConnector;

use super::{config::Address, greeting::Socket, trouble::Unreached};

pub(super) async fn connect(address: &Address) -> Result<TcpStream, Unreached> {
    let found = lookup_host((address.host.as_str(), address.port)).await;
    let found: Vec<_> = found.map_err(|error| Unreached::Name(error.to_string()))?.collect();
    let failed = |error: io::Error| Unreached::Io(error.to_string(), error.kind());
    let stream = TcpStream::connect(&*found).await.map_err(failed)?;
    stream.set_nodelay(true).map_err(failed)?;
    Ok(stream)
}

pub(super) async fn secure(
    tls: Option<&Arc<ClientConfig>>,
    address: &Address,
    stream: TcpStream,
) -> Result<Box<dyn Socket>, Unreached> {
    let Some(tls) = tls else { return Ok(Box::new(stream)) };
    let name = ServerName::try_from(address.host.clone())
        .map_err(|error| Unreached::Tls(error.to_string()))?;
    let stream = TlsConnector::from(tls.clone()).connect(name, stream).await;
    stream.map(|stream| Box::new(stream) as _).map_err(|error| Unreached::broke_off(&error, true))
}
