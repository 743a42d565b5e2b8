//! PostgreSQL servers.
