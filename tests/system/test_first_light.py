"""The whole way once, by each door: a file or an emit becomes an event, the event a run, the run an output."""
from __future__ import annotations

import re
import socket

import pytest

from harness import ECHO, PATIENCE, Daemon, Gate, alive, custom, file_watch, pipeline, wait_for


def test_a_file_runs_its_pipeline(daemon: Daemon) -> None:
    daemon.put("m.yaml", ECHO, file_watch("w", daemon.data / "*.csv",
                                          config={"input_mapping": {"file_path": "$.path", "how": "$.event"}}))
    path = daemon.data / "a.csv"
    path.write_text("1,2\n")
    event = daemon.wait_events(1)[0]
    event = daemon.wait_event(event["id"], "completed")
    assert (event["event_type"], event["trigger_id"], event["pipeline_id"]) == ("file_created", "w", "p")
    assert (event["decision"], event["attempt"], event["error_message"]) == ("fired", 1, None)
    data = event["event_data"]
    assert (data["path"], data["event"], data["name"]) == (str(path), "created", "a.csv")
    assert (data["dir"], data["size"], data["is_dir"]) == (str(daemon.data), 4, False)
    run = daemon.run(event["run_id"])
    assert (run["status"], run["event_id"], run["trigger_id"], run["attempt"]) == ("completed", event["id"], "w", 1)
    inputs = run["outputs"]["out"]
    assert (inputs["file_path"], inputs["how"]) == (str(path), "created")
    assert inputs == run["inputs"] == event["resolved_inputs"]
    trigger = daemon.trigger("w")
    assert trigger["trigger_count"] == 1 and trigger["status"] == "active"
    assert trigger["last_triggered_at"] >= event["occurred_at"][:19]


def test_an_emit_runs_its_pipeline(daemon: Daemon) -> None:
    daemon.put("m.yaml", ECHO, custom("t", default_inputs={"mode": "batch", "id": 0},
                                      config={"input_mapping": {"id": "$.user.id"}}))
    answer = daemon.emit("t", {"user": {"id": 42}})
    assert answer["triggered_count"] == 1
    event = daemon.wait_event(answer["events"][0]["id"], "completed")
    assert re.fullmatch(r"evt_[0-9A-HJKMNP-TV-Z]{26}", event["id"], re.IGNORECASE)
    assert re.fullmatch(r"run_[0-9A-HJKMNP-TV-Z]{26}", event["run_id"], re.IGNORECASE)
    assert event["event_type"] == "custom_t" and event["event_data"] == {"user": {"id": 42}}
    assert event["root_event_id"] == event["id"] and event["replay_of"] is None
    assert event["occurred_at"] <= event["started_at"] <= event["completed_at"]
    metadata = event["resolved_inputs"].pop("_trigger_event")
    assert event["resolved_inputs"] == {"mode": "batch", "id": 42}
    assert metadata.pop("timestamp") == event["occurred_at"]
    assert metadata == {"trigger_id": "t", "trigger_name": "t", "event_id": event["id"], "event_type": "custom_t",
                        "data": {"user": {"id": 42}}}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", event["occurred_at"])


def test_an_emit_nobody_waits_for(daemon: Daemon) -> None:
    assert daemon.emit("nobody", {}) == {"triggered_count": 0, "events": []}


@pytest.mark.parametrize("abstract", [False, True])
def test_a_service_manager_is_told(daemon: Daemon, abstract: bool) -> None:
    name = f"@triggerd-{daemon.root}" if abstract else str(daemon.root / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(name.replace("@", "\0", 1))
        manager.settimeout(PATIENCE)
        daemon.stop()
        daemon.env["NOTIFY_SOCKET"] = name
        daemon.start()
        assert manager.recv(100) == b"READY=1"
        daemon.stop()
        assert manager.recv(100) == b"STOPPING=1"


def test_listing_events(daemon: Daemon) -> None:
    daemon.put("m.yaml", ECHO, custom("t"), custom("u"))
    ids = [daemon.emit1("t", {"n": n})["id"] for n in range(5)]
    daemon.settle()
    daemon.wait_event(daemon.emit1("u")["id"], "completed")
    page = daemon.get("/api/v1/triggers/events?page=2&page_size=2")
    assert (page["total"], page["page"], page["page_size"]) == (6, 2, 2)
    assert [e["id"] for e in page["events"]] == [ids[3], ids[2]]  # newest first; page 1 is u's and ids[4]
    assert daemon.get("/api/v1/triggers/events")["page_size"] == 50
    assert [e["id"] for e in daemon.events("t")] == ids
    assert daemon.get("/api/v1/triggers/events?status=failed")["total"] == 0
    assert daemon.get("/api/v1/triggers/events?status=completed&pipeline_id=p")["total"] == 6
    since = daemon.event(ids[3])["occurred_at"]
    assert {e["id"] for e in daemon.events(since=since)} >= {ids[3], ids[4]}
    assert ids[0] not in {e["id"] for e in daemon.events(since=since)} or daemon.event(ids[0])["occurred_at"] == since
    assert daemon.get("/api/v1/triggers/events?until=2001-01-01T00:00:00Z")["total"] == 0


def test_a_kill_loses_nothing(daemon: Daemon) -> None:
    gate = Gate(daemon.data)
    daemon.put("m.yaml", pipeline("p", gate.step()), custom("t", config={"input_mapping": {"key": "$.n"}}))
    ids = [daemon.emit1("t", {"n": n})["id"] for n in range(3)]
    wait_for(lambda: gate.lines("start"), what="the first run")
    pid = int(gate.lines("start")[0][3])
    daemon.kill9()
    daemon.start()
    wait_for(lambda: len(gate.lines("start")) == 2, what="the first run's second attempt")
    assert not alive(pid), "the first attempt still runs"
    assert gate.lines("start")[1][:3] == ["start", "0", "2"]
    gate.open()
    events = daemon.settle()
    assert [(e["id"], e["status"], e["attempt"]) for e in events] == [
        (ids[0], "completed", 2), (ids[1], "completed", 1), (ids[2], "completed", 1)]
    assert gate.keys("end") == ["0", "1", "2"]
    assert daemon.trigger("t")["trigger_count"] == 3


def test_state_survives_a_restart(daemon: Daemon) -> None:
    daemon.put("m.yaml", ECHO, custom("t"))
    daemon.fire("t")
    daemon.post("/api/v1/triggers/t/pause")
    before = daemon.trigger("t")
    daemon.restart()
    after = daemon.trigger("t")
    assert after["status"] == "paused"
    for key in ("trigger_count", "created_at", "last_triggered_at", "generation"):
        assert after[key] == before[key], key
    assert len(daemon.events()) == 1
