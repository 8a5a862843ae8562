-- What happened, version 1. Times are Unix milliseconds, 0 when not yet; statuses and decisions are the numbers of the
-- enums in model/event.h, which may grow but never change. Later versions are added as steps to migrate.c.

-- Single values: node_id, touched (a counter whose update is the smallest commit there is).
CREATE TABLE meta (
    key TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- One row an event, in the order of recording. seq and runs.seq come from one counter.
-- The small columns come first, so that a filter does not read past them; what never changes and may be large comes last.
CREATE TABLE events (
    seq INTEGER PRIMARY KEY,
    status INTEGER NOT NULL,
    decision INTEGER NOT NULL,
    depth INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    occurred_ms INTEGER NOT NULL,
    started_ms INTEGER NOT NULL,
    completed_ms INTEGER NOT NULL,
    id TEXT NOT NULL,
    trigger_id TEXT NOT NULL,
    pipeline_id TEXT,
    event_type TEXT,
    run_id TEXT,
    root_event_id TEXT, -- NULL: its own id
    replay_of TEXT,
    chain TEXT,
    concurrency_key TEXT,
    traceparent TEXT,
    reason TEXT,
    error_message TEXT,
    resolved_inputs TEXT,
    data TEXT
) STRICT;

CREATE UNIQUE INDEX events_by_id ON events (id);
CREATE INDEX events_by_trigger ON events (trigger_id);
CREATE INDEX events_by_time ON events (occurred_ms);
CREATE INDEX events_by_status ON events (status); -- also what is open, after a restart
-- All but fired (12): written once for what was held back, and never for what runs, which is updated most.
CREATE INDEX events_by_decision ON events (decision) WHERE decision <> 12;

CREATE TABLE runs (
    seq INTEGER PRIMARY KEY,
    status INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    created_ms INTEGER NOT NULL,
    started_ms INTEGER NOT NULL,
    completed_ms INTEGER NOT NULL,
    text_id INTEGER, -- pipeline_texts.id
    id TEXT NOT NULL,
    event_id TEXT,
    pipeline_id TEXT,
    trigger_id TEXT,
    traceparent TEXT,
    error_message TEXT,
    inputs TEXT,
    outputs TEXT
) STRICT;

CREATE UNIQUE INDEX runs_by_id ON runs (id);
CREATE INDEX runs_by_pipeline ON runs (pipeline_id);
CREATE INDEX runs_by_time ON runs (created_ms);
CREATE INDEX runs_by_text ON runs (text_id);
CREATE INDEX runs_by_status ON runs (status);

-- The pipelines as runs started with them, each text once. Found by hash, told apart by the text itself.
CREATE TABLE pipeline_texts (
    id INTEGER PRIMARY KEY,
    hash INTEGER NOT NULL,
    text TEXT NOT NULL
) STRICT;

CREATE INDEX pipeline_texts_by_hash ON pipeline_texts (hash);

-- The last recorded end of each step of a run.
CREATE TABLE steps (
    run_seq INTEGER NOT NULL,
    step_id TEXT NOT NULL,
    status INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    exit_code INTEGER NOT NULL,
    term_signal INTEGER NOT NULL,
    started_ms INTEGER NOT NULL,
    completed_ms INTEGER NOT NULL,
    error_message TEXT,
    output TEXT,
    PRIMARY KEY (run_seq, step_id)
) STRICT, WITHOUT ROWID;

-- What steps printed: stream 1 is stdout, 2 is stderr. Nothing printed: no row.
CREATE TABLE step_logs (
    run_seq INTEGER NOT NULL,
    step_id TEXT NOT NULL,
    stream INTEGER NOT NULL,
    bytes BLOB NOT NULL,
    PRIMARY KEY (run_seq, step_id, stream)
) STRICT, WITHOUT ROWID;

-- Keys seen within their window.
CREATE TABLE dedup (
    scope TEXT NOT NULL,
    key TEXT NOT NULL,
    value TEXT,
    expires_ms INTEGER NOT NULL,
    PRIMARY KEY (scope, key)
) STRICT, WITHOUT ROWID;

CREATE INDEX dedup_by_expiry ON dedup (expires_ms);

-- State by namespace.
CREATE TABLE kv (
    scope TEXT NOT NULL,
    key BLOB NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (scope, key)
) STRICT, WITHOUT ROWID;

-- How many rows there are of each sort, kept in the transaction that changes them, so that a total costs no scan.
-- kind 0: events, 1: runs (event_type '', decision 0). NULL texts count as ''.
CREATE TABLE counts (
    kind INTEGER NOT NULL,
    trigger_id TEXT NOT NULL,
    pipeline_id TEXT NOT NULL,
    event_type TEXT NOT NULL,
    status INTEGER NOT NULL,
    decision INTEGER NOT NULL,
    n INTEGER NOT NULL,
    PRIMARY KEY (kind, trigger_id, pipeline_id, event_type, status, decision)
) STRICT, WITHOUT ROWID;

-- Events by the minute in which they occurred, for counts over the last hours.
CREATE TABLE event_minutes (
    minute INTEGER NOT NULL,
    status INTEGER NOT NULL,
    n INTEGER NOT NULL,
    PRIMARY KEY (minute, status)
) STRICT, WITHOUT ROWID;
