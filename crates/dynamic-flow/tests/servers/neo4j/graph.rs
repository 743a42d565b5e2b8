//! What the graph around the runs is, and what can be asked of it.
