//! The MongoDB store against a real server.
