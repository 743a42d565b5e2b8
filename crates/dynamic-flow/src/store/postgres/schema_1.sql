-- One row a run: what is sealed, and the few plain columns that queries need.
CREATE TABLE {flows} (
    id uuid NOT NULL,
    revision bigint NOT NULL,
    epoch bigint NOT NULL,
    updated_at bigint NOT NULL,
    due_at bigint,
    lease_until bigint,
    attempts bigint NOT NULL,
    inbox_len integer NOT NULL,
    flow_id text COLLATE "C" NOT NULL,
    queue text COLLATE "C",
    status text COLLATE "C" NOT NULL,
    lease_owner text COLLATE "C",
    -- Not jsonb, which would make 1e16, a number with a fraction, a whole one.
    waits json NOT NULL,
    metadata json NOT NULL,
    state bytea NOT NULL,
    inbox bytea[] NOT NULL,
    CONSTRAINT {name:_pkey} PRIMARY KEY (id)
);

-- What is sealed is compressed already. Where it makes a row longer than 2 KB it is kept apart, and
-- not written again with it.
ALTER TABLE {flows}
    ALTER COLUMN state SET STORAGE EXTERNAL,
    ALTER COLUMN inbox SET STORAGE EXTERNAL;

CREATE INDEX {name:_due} ON {flows} (queue, due_at)
    WHERE queue IS NOT NULL AND due_at IS NOT NULL;
CREATE INDEX {name:_by_status} ON {flows} (status, id);
CREATE INDEX {name:_by_flow} ON {flows} (flow_id, status, id);

-- What queries find runs by: copies of what the columns waits and metadata hold. None is unique,
-- because a statement that replaces rows does it in no order.
CREATE TABLE {waits} (
    run uuid NOT NULL,
    expires_at bigint,
    tool_id text COLLATE "C" NOT NULL
);
CREATE INDEX {name:_waits_of_run} ON {waits} (run);
CREATE INDEX {name:_waits_by_tool} ON {waits} (tool_id, run, expires_at);
CREATE INDEX {name:_waits_expiring} ON {waits} (expires_at, run) WHERE expires_at IS NOT NULL;

CREATE TABLE {metadata} (
    run uuid NOT NULL,
    -- Name and value in one, so that the planner knows how many runs have both.
    entry text COLLATE "C" NOT NULL
);
CREATE INDEX {name:_metadata_of_run} ON {metadata} (run);
CREATE INDEX {name:_metadata_by_entry} ON {metadata} (entry, run);
