//! The Redis store against a real server.
