//! Programs from Debian's packages.

use std::{
    process::{Command, Stdio},
    sync::{Mutex, PoisonError},
};

use anyhow::{Context as _, Result, bail};

use crate::server::{is_root, run};

/// Whether the lists of packages were fetched, which is done once; and apt-get has one caller at a
/// time.
static UPDATED: Mutex<bool> = Mutex::new(false);

/// Installs packages without asking anything: as root, or with a `sudo` that wants no password.
///
/// # Errors
/// When neither is to be had, or this is no Debian; the error says what to install.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    let names = packages.join(" ");
    if !is_there("apt-get") {
        bail!("please install what Debian calls {names}; there is no apt-get that could");
    }
    let mut updated = UPDATED.lock().unwrap_or_else(PoisonError::into_inner);
    let sudo = if is_root() { "" } else { "sudo " };
    let advice = || format!("please install it: {sudo}apt-get install {names}");
    if !*updated {
        apt_get(&["update"]).with_context(advice)?;
        *updated = true;
    }
    apt_get(&[&["install", "-y", "--no-install-recommends"], packages].concat())
        .with_context(advice)
}

fn apt_get(args: &[&str]) -> Result<()> {
    let mut command = Command::new(if is_root() { "env" } else { "sudo" });
    if !is_root() {
        command.args(["-n", "env"]);
    }
    // Asks nothing, and starts no services where there is an init system that heeds a runlevel.
    command.args(["DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1", "apt-get", "-qq"]);
    // Somebody else may be installing something.
    command.args(["-o", "DPkg::Lock::Timeout=300"]).args(args);
    run(&mut command).map(drop)
}

/// Whether a program can be called.
pub(crate) fn is_there(program: &str) -> bool {
    let mut command = Command::new(program);
    command.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok()
}
