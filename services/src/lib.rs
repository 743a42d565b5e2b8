//! Real servers for tests, where there is no container engine: started from the packages of
//! ordinary registries, each on a free loopback port, in a folder of its own, as an unprivileged
//! user, and gone with the test that started it.

mod apt;
mod cache;
pub mod certificates;
mod kind;
mod live;
pub mod mongodb;
pub mod neo4j;
pub mod postgres;
mod process;
pub mod redis;
mod server;

pub use cache::{CACHE_VARIABLE, cache};
pub use kind::{Kind, Service};
pub use live::end_all;
pub use process::Process;
pub use server::{Launch, Server, UNPRIVILEGED, free_port, start_apart};
