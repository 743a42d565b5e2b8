//! Whether somebody between us and a server can read what is sent, or take the server's place.

use std::net::IpAddr;

/// What keeps a connection from whoever is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wire {
    /// TLS, and the server proves that it is the one that was meant.
    Verified,
    /// TLS, with whoever answers.
    #[cfg(any(feature = "postgres", feature = "mongodb"))]
    Unverified,
    /// Nothing.
    Clear,
}

impl Wire {
    /// What there is to say of connections to these hosts, with what to do about it: nothing where
    /// all of them are this very machine.
    pub(crate) fn warning<H: AsRef<str>>(
        self,
        hosts: impl IntoIterator<Item = H>,
        remedy: &str,
    ) -> Option<String> {
        let risk = match self {
            Self::Verified => return None,
            #[cfg(any(feature = "postgres", feature = "mongodb"))]
            Self::Unverified => {
                "The connection crosses a network to a server that need not prove which one it is: \
                 whoever is in between can take its place"
            }
            Self::Clear => {
                "The connection crosses a network unencrypted: whoever is in between can read and \
                 change what is sent"
            }
        };
        let crosses = hosts.into_iter().any(|host| !is_local(host.as_ref()));
        crosses.then(|| format!("{risk}; {remedy}."))
    }
}

/// Whether a host is this machine, as far as its name tells; nothing is looked up. A path is that of
/// a socket.
fn is_local(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = host.parse::<IpAddr>() {
        return address.to_canonical().is_loopback();
    }
    let name = host.trim_end_matches('.').to_ascii_lowercase();
    name.starts_with('/') || name == "localhost" || name.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::is_sentence;

    #[test]
    fn what_does_not_leave_the_machine_is_known_by_its_name() {
        for (host, is_here) in [
            ("localhost", true),
            ("LocalHost.", true),
            ("db.localhost", true),
            ("127.0.0.1", true),
            ("127.8.9.1", true),
            ("::1", true),
            ("[::1]", true),
            ("::ffff:127.0.0.1", true),
            ("/run/postgresql", true),
            ("localhost.example.org", false),
            ("notlocalhost", false),
            ("db", false),
            ("10.0.0.1", false),
            ("0.0.0.0", false),
            ("128.0.0.1", false),
            ("[2001:db8::1]", false),
            ("::ffff:10.0.0.1", false),
            ("", false),
        ] {
            assert_eq!(is_local(host), is_here, "{host:?}");
        }
    }

    #[test]
    fn one_host_elsewhere_is_enough_to_warn_of_what_is_not_verified() {
        let told = |wire: Wire, hosts: &[&str]| wire.warning(hosts, "set this");
        assert_eq!(told(Wire::Verified, &["a"]), None);
        assert_eq!(told(Wire::Clear, &["localhost", "::1"]), None);
        let clear = told(Wire::Clear, &["localhost", "a"]).unwrap();
        assert!(clear.contains("unencrypted") && clear.ends_with("; set this."), "{clear}");
        assert!(is_sentence(&clear), "{clear}");
    }

    #[test]
    #[cfg(any(feature = "postgres", feature = "mongodb"))]
    fn encryption_alone_is_told_from_none() {
        assert_eq!(Wire::Unverified.warning(["127.0.0.1"], "set this"), None);
        let told = Wire::Unverified.warning(["a"], "set this").unwrap();
        assert!(told.contains("prove which one") && !told.contains("unencrypted"), "{told}");
        assert!(is_sentence(&told), "{told}");
    }
}
