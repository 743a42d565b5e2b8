//! Which server of a cluster has which slots.

use redis::Value;

use super::{config::Address, reply, trouble::Trouble};

/// Where the slots are.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Topology {
    /// One server has all of them.
    Alone(Address),
    /// Ranges of slots, first and last, and the master that has them.
    Cluster(Vec<(u16, u16, Address)>),
}

impl Topology {
    /// Reads what `CLUSTER SLOTS` says, as told by that server.
    pub(super) fn read(reply: Value, told_by: &Address) -> Result<Self, Trouble> {
        let mut ranges = Vec::new();
        for range in reply::list(reply)? {
            let mut parts = reply::list(range)?.into_iter();
            let mut number = || {
                let part = parts.next().ok_or(Trouble::Confused)?;
                u16::try_from(reply::int(&part)?).map_err(|_| Trouble::Confused)
            };
            let (first, last) = (number()?, number()?);
            let master = parts.next().ok_or(Trouble::Confused)?;
            ranges.push((first, last, address(master, told_by)?));
        }
        Ok(Self::Cluster(ranges))
    }

    /// The server that has a slot, if any has.
    pub(super) fn owner(&self, slot: u16) -> Option<&Address> {
        match self {
            Self::Alone(address) => Some(address),
            Self::Cluster(ranges) => {
                let range = ranges.iter().find(|(first, last, _)| (*first..=*last).contains(&slot));
                range.map(|(_, _, address)| address)
            }
        }
    }

    /// All servers that have slots.
    pub(super) fn masters(&self) -> Vec<Address> {
        match self {
            Self::Alone(address) => vec![address.clone()],
            Self::Cluster(ranges) => {
                let mut masters = Vec::new();
                for (_, _, address) in ranges {
                    if !masters.contains(address) {
                        masters.push(address.clone());
                    }
                }
                masters
            }
        }
    }

    pub(super) fn is_cluster(&self) -> bool {
        matches!(self, Self::Cluster(_))
    }
}

/// A server, as others call it: host, port, and what is of no interest here.
fn address(node: Value, told_by: &Address) -> Result<Address, Trouble> {
    let mut parts = reply::list(node)?.into_iter();
    let host = parts.next().ok_or(Trouble::Confused)?;
    let port = reply::int(&parts.next().ok_or(Trouble::Confused)?)?;
    let port = u16::try_from(port).map_err(|_| Trouble::Confused)?;
    let host = match reply::maybe_bytes(host)? {
        Some(host) => String::from_utf8(host).map_err(|_| Trouble::Confused)?,
        None => String::new(),
    };
    Ok(known(host, port, told_by))
}

/// A server that does not know its own name is where it was reached.
fn known(host: String, port: u16, told_by: &Address) -> Address {
    match host.as_str() {
        "" | "?" => Address { host: told_by.host.clone(), port },
        _ => Address { host, port },
    }
}

/// A server's word that the keys are elsewhere.
#[derive(Debug, PartialEq)]
pub(super) enum Redirect {
    /// They have moved for good.
    Moved(Address),
    /// They are moving, and these have arrived.
    Ask(Address),
}

impl Redirect {
    /// Reads it from a refusal, as told by that server; none if it is another one.
    pub(super) fn read(trouble: &Trouble, told_by: &Address) -> Option<Self> {
        let Trouble::Refused { code, text, .. } = trouble else { return None };
        let redirect = match code.as_str() {
            "MOVED" => Self::Moved,
            "ASK" => Self::Ask,
            _ => return None,
        };
        // `3999 127.0.0.1:6381`, and IPv6 addresses come without brackets.
        let (host, port) = text.split_whitespace().nth(1)?.rsplit_once(':')?;
        Some(redirect(known(host.into(), port.parse().ok()?, told_by)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(host: &str, port: u16) -> Address {
        Address { host: host.into(), port }
    }

    #[test]
    fn slots_have_owners() {
        let text = |text: &str| Value::BulkString(text.into());
        let node = |host: Value, port| Value::Array(vec![host, Value::Int(port), text("id")]);
        let range = |first, last, master| {
            let replica = node(text("replica"), 9);
            Value::Array(vec![Value::Int(first), Value::Int(last), master, replica])
        };
        let reply = Value::Array(vec![
            range(0, 100, node(text("a"), 1)),
            range(101, 200, node(Value::Nil, 2)),
            range(300, 300, node(text("a"), 1)),
        ]);
        let topology = Topology::read(reply, &at("me", 7)).unwrap();
        assert_eq!(topology.owner(100), Some(&at("a", 1)));
        assert_eq!(topology.owner(101), Some(&at("me", 2)));
        assert_eq!(topology.owner(201), None);
        assert_eq!(topology.masters(), [at("a", 1), at("me", 2)]);
        assert!(Topology::read(Value::Okay, &at("me", 7)).is_err());
    }

    #[test]
    fn redirects_are_followed() {
        let refused = |code: &str, text: &str| Trouble::Refused {
            node: "n".into(),
            code: code.into(),
            text: text.into(),
        };
        let read = |code, text| Redirect::read(&refused(code, text), &at("me", 7));
        assert_eq!(read("MOVED", "3999 a:1"), Some(Redirect::Moved(at("a", 1))));
        assert_eq!(read("ASK", "3999 ::1:2"), Some(Redirect::Ask(at("::1", 2))));
        assert_eq!(read("MOVED", "3999 :3"), Some(Redirect::Moved(at("me", 3))));
        assert_eq!(read("MOVED", "3999"), None);
        assert_eq!(read("ERR", "3999 a:1"), None);
    }
}
