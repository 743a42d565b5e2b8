-- One row a run, without what is sealed: small, so that changing it and listing it stay cheap.
CREATE TABLE suspended_flows (
    id BLOB NOT NULL PRIMARY KEY,
    revision INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    flow_id TEXT NOT NULL,
    queue TEXT,
    status TEXT NOT NULL,
    waits TEXT NOT NULL,
    metadata TEXT NOT NULL,
    updated_at INTEGER NOT NULL,
    due_at INTEGER,
    attempts INTEGER NOT NULL,
    lease_owner TEXT,
    lease_until INTEGER,
    -- The row of suspended_flow_snapshots.
    snapshot INTEGER NOT NULL,
    -- The items of the inbox have places from the first to before the second.
    inbox_from INTEGER NOT NULL,
    inbox_to INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX suspended_flows_due ON suspended_flows (queue, due_at)
    WHERE queue IS NOT NULL AND due_at IS NOT NULL;
CREATE INDEX suspended_flows_by_status ON suspended_flows (status);
CREATE INDEX suspended_flows_by_flow ON suspended_flows (flow_id, status);

-- Apart, so that a change of a row does not write its snapshot again.
CREATE TABLE suspended_flow_snapshots (
    key INTEGER PRIMARY KEY,
    body BLOB NOT NULL
);

CREATE TABLE suspended_flow_inbox (
    run BLOB NOT NULL,
    place INTEGER NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (run, place)
) WITHOUT ROWID;

-- What queries find runs by: copies of what the columns waits and metadata hold.
CREATE TABLE suspended_flow_waits (
    tool_id TEXT NOT NULL,
    run BLOB NOT NULL,
    place INTEGER NOT NULL,
    expires_at INTEGER,
    PRIMARY KEY (tool_id, run, place)
) WITHOUT ROWID;
CREATE INDEX suspended_flow_waits_expiring ON suspended_flow_waits (expires_at, run)
    WHERE expires_at IS NOT NULL;

CREATE TABLE suspended_flow_metadata (
    name TEXT NOT NULL,
    value BLOB NOT NULL,
    run BLOB NOT NULL,
    PRIMARY KEY (name, value, run)
) WITHOUT ROWID;
