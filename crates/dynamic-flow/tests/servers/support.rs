//! Where the servers are.

use std::{env, io::Write as _};

/// The URL of a server that was started for tests, from that variable of the environment.
pub(crate) fn url(variable: &str) -> Option<String> {
    let url = env::var(variable).ok().filter(|url| !url.is_empty());
    if url.is_none() {
        skip(&format!("{variable} is not set; `cargo xtask test` starts the server and sets it"));
    }
    url
}

/// Says that a test can't run where it is: past the test harness, which keeps what is printed.
pub(crate) fn skip(reason: &str) {
    let _ = std::io::stderr().write_all(format!("SKIPPED: {reason}\n").as_bytes());
}

/// A name for a database, schema or prefix of one test's own.
pub(crate) fn fresh() -> String {
    let mut random = [0; 8];
    getrandom::fill(&mut random).unwrap();
    format!("dflow_test_{:016x}", u64::from_le_bytes(random))
}
