"""A store full of events, without emitting them one by one: the daemon's own database, filled by SQL while it is not running.

One event each 100 ms up to now. Half of them are of trigger t0, the rest of t1 … t99; a pipeline, a type, a status and a decision
are so rare that only a handful of events have them, at the old end of the store, where a scan from the new end comes last.
"""
from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path

# Of each filter of a list one value that nearly all events have, and one that hardly any has.
COMMON = {"trigger_id": "t0", "pipeline_id": "p0", "event_type": "custom_e", "status": "completed", "decision": "fired"}
RARE = {"trigger_id": "t99", "pipeline_id": "rare", "event_type": "test", "status": "cancelled", "decision": "mapping_error"}

PENDING, EXECUTING, COMPLETED, FAILED, SKIPPED, CANCELLED = range(6)


def fill(database: Path, count: int) -> None:
    """`database` was made by a daemon, and has no events."""
    with closing(sqlite3.connect(database, isolation_level=None)) as db:
        columns = [row[1] for row in db.execute("PRAGMA table_info(events)")]
        begin = int(time.time() * 1000) - count * 100
        db.execute("BEGIN")
        db.execute("CREATE TEMP TABLE made AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1) "
                   "SELECT i AS seq, CASE WHEN i <= 1000 AND i % 100 = 99 THEN 't99' WHEN i % 2 = 0 THEN 't0' "
                   "ELSE 't' || (i * 7919 % 98 + 1) END AS trigger_id, "
                   "CASE WHEN i <= 1000 AND i % 100 IN (5, 6) THEN 'rare' WHEN i % 10 < 9 THEN 'p0' ELSE 'p1' END AS pipeline_id, "
                   "CASE WHEN i <= 1000 AND i % 100 IN (7, 8) THEN 'test' ELSE 'custom_e' END AS event_type, "
                   f"CASE WHEN i <= 1000 AND i % 100 IN (9, 10) THEN {CANCELLED} WHEN i <= 1000 AND i % 100 IN (11, 12) THEN {FAILED} "
                   f"WHEN i % 20 = 1 THEN {SKIPPED} WHEN i % 20 = 2 THEN {FAILED} ELSE {COMPLETED} END AS status, "
                   "CASE WHEN i <= 1000 AND i % 100 IN (11, 12) THEN 11 WHEN i % 20 = 1 THEN 7 ELSE 12 END AS decision, "
                   "?2 + i * 100 AS occurred_ms FROM n", (count, begin))
        values = {"seq": "seq", "status": "status", "decision": "decision", "depth": "0", "attempt": "1", "occurred_ms": "occurred_ms",
                  "started_ms": "occurred_ms", "completed_ms": "occurred_ms + 5", "id": "printf('evt_%026d', seq)",
                  "trigger_id": "trigger_id", "pipeline_id": "pipeline_id", "event_type": "event_type",
                  "run_id": "printf('run_%026d', seq)", "data": "'{\"n\":' || seq || '}'",
                  "resolved_inputs": "'{\"n\":' || seq || ',\"_trigger_event\":{\"trigger_id\":\"' || trigger_id || '\"}}'"}
        db.execute("INSERT INTO event_groups (trigger_id, pipeline_id, event_type, status, decision, n) SELECT trigger_id, pipeline_id, "
                   "event_type, status, decision, count(*) FROM made GROUP BY trigger_id, pipeline_id, event_type, status, decision")
        values["group_id"] = ("(SELECT id FROM event_groups g WHERE g.trigger_id = made.trigger_id AND g.pipeline_id = made.pipeline_id AND "
                              "g.event_type = made.event_type AND g.status = made.status AND g.decision = made.decision)")
        db.execute(f"INSERT INTO events SELECT {', '.join(values.get(c, 'NULL') for c in columns)} FROM made")
        db.execute("INSERT INTO event_minutes SELECT occurred_ms / 60000, status, count(*) FROM made GROUP BY 1, 2")
        db.execute("COMMIT")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
