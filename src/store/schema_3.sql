-- Version 3. Events of one trigger, pipeline, type, status and decision are a group; an event that moves on goes to another one.
-- What a list filters by are columns of the groups, of which there are few: one index serves them all, and in the order of time.
CREATE TABLE event_groups (
    id INTEGER PRIMARY KEY,
    trigger_id TEXT NOT NULL,
    pipeline_id TEXT NOT NULL,
    event_type TEXT NOT NULL,
    status INTEGER NOT NULL,
    decision INTEGER NOT NULL,
    n INTEGER NOT NULL, -- how many events
    UNIQUE (trigger_id, pipeline_id, event_type, status, decision)
) STRICT;

INSERT INTO event_groups (trigger_id, pipeline_id, event_type, status, decision, n)
    SELECT trigger_id, pipeline_id, event_type, status, decision, n FROM counts WHERE kind = 0;
DELETE FROM counts WHERE kind = 0; -- from now on of runs alone

DROP INDEX events_by_trigger;
DROP INDEX events_by_status;
DROP INDEX events_by_decision;
ALTER TABLE events ADD COLUMN group_id INTEGER NOT NULL DEFAULT 0;
UPDATE events SET group_id = (
    SELECT g.id FROM event_groups g
    WHERE g.trigger_id = events.trigger_id AND g.pipeline_id = coalesce(events.pipeline_id, '')
        AND g.event_type = coalesce(events.event_type, '') AND g.status = events.status AND g.decision = events.decision
);
CREATE INDEX events_by_group ON events (group_id, occurred_ms);
