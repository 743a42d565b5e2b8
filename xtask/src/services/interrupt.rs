//! Ctrl-C, and other wishes that this program end.

use std::{process, thread};

use anyhow::Result;
use dynamic_flow_services::end_all;
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};

/// From now on, a signal ends the servers of this process before it ends the process, which says
/// that as its last word.
pub(super) fn end_all_on_signal(last: &'static str) -> Result<()> {
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM])?;
    thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            eprintln!("\nxtask: ends the servers that it started");
            end_all();
            if !last.is_empty() {
                eprintln!("xtask: {last}");
            }
            process::exit(128 + signal);
        }
    });
    Ok(())
}
