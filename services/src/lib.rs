//! Real servers for tests, where there is no container engine: started from the packages of
//! ordinary registries, each on a free loopback port, in a folder of its own, as an unprivileged
//! user, and gone with the test that started it.

mod apt;
mod cache;
pub mod certificates;
#[cfg(feature = "corners")]
mod corner;
mod disk;
mod kind;
mod live;
pub mod mongodb;
pub mod neo4j;
pub mod postgres;
mod process;
pub mod redis;
mod server;

use std::io::Write as _;

pub use cache::{CACHE_VARIABLE, cache};
#[cfg(feature = "corners")]
pub use corner::{Corner, fresh};
pub use disk::SmallDisk;
pub use kind::{Kind, Service};
pub use live::end_all;
pub use process::Process;
pub use server::{Launch, Server, UNPRIVILEGED, free_port, start_apart};

/// Says that a test can't run where it is: past the test harness, which keeps what is printed.
pub fn skip(reason: &str) {
    let _ = std::io::stderr().write_all(format!("SKIPPED: {reason}\n").as_bytes());
}
