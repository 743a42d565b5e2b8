//! The stores on servers, each against a real one: the conformance suite, and what can go wrong
//! between here and there.
//!
//! `cargo xtask test` and `cargo xtask services` start the servers and tell by the environment
//! where they are; a test whose server is not there says so.

#[cfg(feature = "mongodb")]
mod mongodb;
#[cfg(feature = "neo4j")]
mod neo4j;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "redis")]
mod redis;
mod support;
mod wire;
