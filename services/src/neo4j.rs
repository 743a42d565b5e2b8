//! Neo4j servers.
