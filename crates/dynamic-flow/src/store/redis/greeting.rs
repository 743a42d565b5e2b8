//! The first words with a server: logging in, and whether it is one that the store can use.
//!
//! They are made here and not by the driver, which does not tell one refusal from another, and
//! misses what a server says before it is asked: that it takes no more clients.

use redis::{Cmd, Value, cmd, parse_redis_value};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::{
    config::RedisConfig,
    reply,
    trouble::{Trouble, Unreached},
};

/// The oldest version with all commands that the store uses; `ZMSCORE` is the newest of them.
const OLDEST: (u32, u32) = (6, 2);
/// No answer to a greeting is longer.
const LONGEST: usize = 64 * 1024;

/// What bytes go through.
pub(super) trait Socket: AsyncRead + AsyncWrite + Send + Sync + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Socket for T {}

/// Logs in and chooses the database; says whether the server belongs to a cluster.
pub(super) async fn greet(
    socket: &mut dyn Socket,
    config: &RedisConfig,
    node: &str,
) -> Result<bool, Trouble> {
    if let Some(password) = &config.password {
        let mut auth = cmd("AUTH");
        if let Some(username) = &config.username {
            auth.arg(username);
        }
        auth.arg(password.expose());
        ask(socket, config, node, &auth).await?;
    }
    let hello = match ask(socket, config, node, &cmd("HELLO")).await {
        Err(Trouble::Refused { code, text, .. }) if code == "ERR" && text.contains("HELLO") => {
            return Err(Trouble::TooOld("5 or older".into()));
        }
        hello => hello?,
    };
    let (mut version, mut mode) = (String::new(), String::new());
    for (name, value) in reply::pairs(hello)? {
        match &*name {
            b"version" => version = reply::text(value)?,
            b"mode" => mode = reply::text(value)?,
            _ => {}
        }
    }
    if !is_new_enough(&version) {
        return Err(Trouble::TooOld(version));
    }
    let in_cluster = mode == "cluster";
    if in_cluster && config.db != 0 {
        return Err(Trouble::ClusterDatabase);
    }
    if config.db != 0 {
        let mut select = cmd("SELECT");
        select.arg(config.db);
        ask(socket, config, node, &select).await?;
    }
    Ok(in_cluster)
}

/// Makes one call and waits for its reply.
async fn ask(
    socket: &mut dyn Socket,
    config: &RedisConfig,
    node: &str,
    command: &Cmd,
) -> Result<Value, Trouble> {
    let failed = |cause| Err(Trouble::Unreached { node: node.into(), cause });
    // Whoever was refused before asking finds the refusal when reading.
    let _ = socket.write_all(&command.get_packed_command()).await;
    let _ = socket.flush().await;
    let mut said = Vec::new();
    loop {
        match socket.read_buf(&mut said).await {
            Ok(0) => return failed(Unreached::Ended("it said nothing".into())),
            Ok(_) => {}
            // That a certificate is missing or not trusted is said only now.
            Err(error) => return failed(Unreached::broke_off(&error, config.tls)),
        }
        if !matches!(said[0], b'+' | b'-' | b':' | b'$' | b'*') || said.len() > LONGEST {
            return failed(Unreached::Greeting);
        }
        // What can't be read is not all there.
        match parse_redis_value(&said) {
            Ok(Value::ServerError(error)) => return Err(Trouble::refused(node, &error)),
            Ok(reply) => return Ok(reply),
            Err(_) => {}
        }
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
        ] {
            assert_eq!(is_new_enough(version), enough, "{version}");
        }
    }
}
