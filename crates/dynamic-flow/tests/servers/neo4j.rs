//! The Neo4j store against a real server.
