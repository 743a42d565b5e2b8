//! The scripts: each is atomic on the keys of one partition.

use std::{sync::LazyLock, time::Duration};

use redis::{Cmd, Value, cmd};

use super::{
    servers::{Effect, Servers},
    trouble::Trouble,
};

/// A script that servers keep by its digest, once they have seen it.
pub(super) struct Script {
    code: &'static str,
    digest: LazyLock<String>,
}

macro_rules! script {
    ($name:ident, $file:literal) => {
        pub(super) static $name: Script = {
            const CODE: &str =
                concat!(include_str!("lua/common.lua"), "\n", include_str!(concat!("lua/", $file)));
            Script {
                code: CODE,
                digest: LazyLock::new(|| redis::Script::new(CODE).get_hash().to_owned()),
            }
        };
    };
}

script!(INSERT, "insert.lua");
script!(UPDATE, "update.lua");
script!(DELETE, "delete.lua");
script!(RENEW, "renew.lua");
script!(CLAIM, "claim.lua");
script!(CLEAN, "clean.lua");
script!(WINDOW, "window.lua");
script!(PROBE, "probe.lua");

impl Script {
    /// Runs the script at the server that has the slot. If it writes, it is acknowledged when as
    /// many replicas as configured have confirmed it.
    pub(super) async fn run(
        &self,
        servers: &Servers,
        effect: Effect,
        slot: u16,
        keys: &[&str],
        arguments: &[&[u8]],
    ) -> Result<Value, Trouble> {
        let call = |verb, script| {
            let mut call = cmd(verb);
            call.arg(script).arg(keys.len()).arg(keys).arg(arguments);
            call
        };
        match self.send(servers, effect, slot, call("EVALSHA", self.digest.as_str())).await {
            // It has certainly not run; this makes the server keep it, too.
            Err(trouble) if trouble.code() == Some("NOSCRIPT") => {
                self.send(servers, effect, slot, call("EVAL", self.code)).await
            }
            result => result,
        }
    }

    async fn send(
        &self,
        servers: &Servers,
        effect: Effect,
        slot: u16,
        call: Cmd,
    ) -> Result<Value, Trouble> {
        let wanted = servers.config().wait_replicas;
        if effect == Effect::Read || wanted == 0 {
            return servers.one(effect, slot, call).await;
        }
        let mut wait = cmd("WAIT");
        wait.arg(wanted).arg(patience(servers.config().operation_timeout));
        let replies = servers.send(effect, slot, &[call, wait]).await?;
        let [reply, Value::Int(got)] =
            <[Value; 2]>::try_from(replies).map_err(|_| Trouble::Confused)?
        else {
            return Err(Trouble::Confused);
        };
        let got = u32::try_from(got).unwrap_or(0);
        // Whatever the script said: it may rest on a write of others that is not safe either.
        if got < wanted {
            return Err(Trouble::Replicas { wanted, got });
        }
        Ok(reply)
    }
}

/// How many milliseconds replicas are waited for: short enough that who waits hears of it, even if
/// the script has to be sent again. None at all would be for ever.
fn patience(operation_timeout: Duration) -> u64 {
    u64::try_from((operation_timeout / 4).as_millis()).unwrap_or(u64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_are_never_waited_for_without_an_end() {
        assert_eq!(patience(Duration::from_secs(4)), 1000);
        assert_eq!(patience(Duration::from_millis(3)), 1);
    }

    #[test]
    fn nothing_is_pasted_into_a_script() {
        let all = [&INSERT, &UPDATE, &DELETE, &RENEW, &CLAIM, &CLEAN, &WINDOW, &PROBE];
        for script in all {
            assert!(!script.code.contains("flow:suspended"));
            assert_eq!(script.digest.len(), 40);
        }
    }
}
