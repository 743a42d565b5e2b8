//! MongoDB servers.
