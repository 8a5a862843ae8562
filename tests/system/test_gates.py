"""Gates: every event × trigger ends in exactly one decision, with a reason."""
from __future__ import annotations

import re
from typing import Any

import pytest
from harness import ECHO, Daemon, Gate, custom, never, pipeline, script, wait_for

KEY = {"input_mapping": {"key": "$.n"}}


def decisions(d: Daemon, trigger: str = "t") -> list[str]:
    return [e["decision"] for e in d.events(trigger)]


def held_back(event: dict[str, Any], decision: str) -> None:
    assert (event["status"], event["decision"]) == ("skipped", decision), event
    assert event["reason"], "a decision has a reason"
    assert event["run_id"] is None


def gated(d: Daemon, **trigger: Any) -> Gate:
    """A trigger `t` whose runs wait for the gate."""
    gate = Gate(d.data)
    d.put("m.yaml", pipeline("p", gate.step()), custom("t", config=KEY, **trigger))
    return gate


def test_disabled(daemon: Daemon) -> None:
    daemon.put("m.yaml", ECHO, custom("t", enabled=False))
    assert daemon.trigger("t")["status"] == "disabled"
    answer = daemon.emit("t")
    assert answer["triggered_count"] == 0
    held_back(daemon.event(answer["events"][0]["id"]), "disabled")


def test_paused(daemon: Daemon) -> None:
    daemon.put("m.yaml", ECHO, custom("t"))
    answer = daemon.post("/api/v1/triggers/t/pause")
    assert answer["success"] is True and answer["message"] and answer["trigger"]["status"] == "paused"
    held_back(daemon.event(daemon.emit1("t")["id"]), "paused")
    assert daemon.post("/api/v1/triggers/t/resume")["trigger"]["status"] == "active"
    assert daemon.fire("t")["status"] == "completed"
    assert decisions(daemon) == ["paused", "fired"], "what was held back stays held back"


@pytest.mark.parametrize("restart", [False, True])
def test_paused_and_held(daemon: Daemon, restart: bool) -> None:
    gate = gated(daemon, pause_policy="hold")
    gate.open()
    daemon.post("/api/v1/triggers/t/pause")
    ids = [daemon.emit1("t", {"n": n})["id"] for n in range(3)]
    assert all(daemon.event(i)["status"] == "pending" for i in ids)
    if restart:
        daemon.restart()
    never(lambda: gate.lines(), 0.4)
    daemon.post("/api/v1/triggers/t/resume")
    for i in ids:
        daemon.wait_event(i, "completed")
    assert gate.keys("start") == ["0", "1", "2"]


def test_held_and_discarded(daemon: Daemon) -> None:
    daemon.put("m.yaml", ECHO, custom("t", pause_policy="hold"))
    daemon.post("/api/v1/triggers/t/pause")
    id = daemon.emit1("t")["id"]
    assert daemon.ctl("resume", "t", "--discard").returncode == 0
    assert daemon.wait_event(id, "skipped")["decision"] == "paused"


def test_a_latched_error(daemon: Daemon) -> None:
    daemon.put("m.yaml", pipeline("p", script("exit 3")), custom("t", failure_threshold=2))
    for _ in range(2):
        assert daemon.fire("t")["status"] == "failed"
    wait_for(lambda: daemon.trigger("t")["status"] == "error")
    assert daemon.trigger("t")["error_message"]
    held_back(daemon.event(daemon.emit1("t")["id"]), "error")
    daemon.restart()
    assert daemon.trigger("t")["status"] == "error"
    daemon.put("m.yaml", ECHO, custom("t", failure_threshold=2))
    assert daemon.post("/api/v1/triggers/t/resume")["trigger"]["status"] == "active"
    assert daemon.fire("t")["status"] == "completed"


def test_failures_in_a_row_only(daemon: Daemon) -> None:
    daemon.put("m.yaml", pipeline("p", script('test "$INPUT_OK" = true')),
               custom("t", failure_threshold=2, config={"input_mapping": {"ok": "$.ok"}}))
    for ok in (False, True, False, True, False):
        daemon.fire("t", {"ok": ok})
    assert daemon.trigger("t")["status"] == "active"


def test_loop_blocked(daemon: Daemon) -> None:
    daemon.put("m.yaml", pipeline("p", {"id": "s", "emit": {"endpoint": "t", "data": {}}}), custom("t"))
    root = daemon.emit1("t")["id"]
    event = wait_for(lambda: [e for e in daemon.events("t") if e["decision"] == "loop_blocked"])[0]
    held_back(event, "loop_blocked")
    assert event["root_event_id"] == root and "t" in event["reason"]
    daemon.settle()
    assert decisions(daemon) == ["fired", "loop_blocked"]


def test_allowed_loops_end_at_the_depth(daemon: Daemon) -> None:
    daemon.put("m.yaml", pipeline("p", {"id": "s", "emit": {"endpoint": "t", "data": {}}}), custom("t", allow_loops=True))
    daemon.emit1("t")
    wait_for(lambda: "loop_blocked" in decisions(daemon), 60)
    daemon.settle()
    assert decisions(daemon).count("fired") == pytest.approx(33, abs=1) and decisions(daemon)[-1] == "loop_blocked"


def test_cooldown_skip(daemon: Daemon) -> None:
    daemon.put("m.yaml", ECHO, custom("t", cooldown_seconds=4))
    daemon.fire("t")
    held_back(daemon.event(daemon.emit1("t")["id"]), "cooldown")
    wait_for(lambda: daemon.emit("t")["triggered_count"] == 1)
    assert decisions(daemon).count("fired") == 2


def test_cooldown_survives_a_restart(daemon: Daemon) -> None:
    daemon.put("m.yaml", ECHO, custom("t", cooldown_seconds=600))
    daemon.fire("t")
    daemon.kill9()
    daemon.start()
    held_back(daemon.event(daemon.emit1("t")["id"]), "cooldown")


def test_cooldown_latest(daemon: Daemon) -> None:
    gate = gated(daemon, cooldown_seconds=4, cooldown_policy="latest")
    gate.open()
    ids = [daemon.emit1("t", {"n": n})["id"] for n in range(4)]
    daemon.wait_event(ids[3], "completed")
    daemon.settle()
    assert gate.keys("start") == ["0", "3"]
    assert re.fullmatch(r"waited \d\.\d{3} s \(cooldown\)", daemon.event(ids[3])["reason"])
    for id in ids[1:3]:
        event = daemon.event(id)
        assert event["status"] == "skipped" and event["decision"] in ("cooldown", "debounced", "replaced")


def test_cooldown_queue(daemon: Daemon) -> None:
    gate = gated(daemon, cooldown_seconds=0.5, cooldown_policy="queue")
    gate.open()
    ids = [daemon.emit1("t", {"n": n})["id"] for n in range(4)]
    events = [daemon.wait_event(i, "completed") for i in ids]
    assert gate.keys("start") == ["0", "1", "2", "3"]
    starts = [e["started_at"] for e in events]
    assert starts == sorted(starts) and starts[0] < starts[3]


def test_concurrency_queue(daemon: Daemon) -> None:
    gate = gated(daemon, max_concurrent=2)
    ids = [daemon.emit1("t", {"n": n})["id"] for n in range(6)]
    wait_for(lambda: len(gate.lines("start")) == 2)
    never(lambda: len(gate.lines("start")) > 2, 0.4)
    assert [daemon.event(i)["status"] for i in ids] == ["executing"] * 2 + ["pending"] * 4
    gate.open()
    daemon.settle()
    assert sorted(gate.keys("end")) == list("012345")
    running = peak = 0
    for word, *_ in gate.lines():
        running += 1 if word == "start" else -1
        peak = max(peak, running)
    assert peak == 2


def test_concurrency_skip(daemon: Daemon) -> None:
    gate = gated(daemon, concurrency_policy="skip")
    daemon.emit1("t", {"n": 0})
    wait_for(lambda: gate.lines("start"))
    held_back(daemon.event(daemon.emit1("t", {"n": 1})["id"]), "concurrency")
    gate.open()
    daemon.settle()
    assert daemon.fire("t", {"n": 2})["status"] == "completed"
    assert gate.keys("start") == ["0", "2"]


def test_concurrency_replace(daemon: Daemon) -> None:
    gate = gated(daemon, concurrency_policy="replace")
    old = daemon.emit1("t", {"n": 0})["id"]
    wait_for(lambda: gate.lines("start"))
    new = daemon.emit1("t", {"n": 1})["id"]
    event = daemon.wait_event(old, "cancelled")
    assert event["decision"] == "replaced" and daemon.run(event["run_id"])["status"] == "cancelled"
    wait_for(lambda: len(gate.lines("start")) == 2)
    gate.open()
    daemon.wait_event(new, "completed")
    assert gate.keys("end") == ["1"]


def test_a_concurrency_key(daemon: Daemon) -> None:
    gate = Gate(daemon.data)
    daemon.put("m.yaml", pipeline("p", gate.step()), custom("t", concurrency_key="$.customer", config={
        "input_mapping": {"key": "$.customer"}}))
    for customer in ("a", "a", "b", "b", "c"):
        daemon.emit1("t", {"customer": customer})
    wait_for(lambda: len(gate.lines("start")) == 3)
    never(lambda: len(gate.lines("start")) > 3, 0.3)
    assert sorted(gate.keys("start")) == ["a", "b", "c"]
    gate.open()
    assert len(daemon.settle()) == 5 and sorted(gate.keys("end")) == ["a", "a", "b", "b", "c"]


def test_queue_full(daemon: Daemon) -> None:
    gate = gated(daemon, queue_limit=2)
    accepted = 0
    while (answer := daemon.http("POST", "/api/v1/triggers/emit", {"endpoint": "t", "data": {"n": 0}})).status == 200:
        accepted += 1
        assert accepted <= 3, "queue_limit 2 and one running"
    answer.problem(429)
    assert accepted >= 2
    gate.open()
    assert len(daemon.settle()) == accepted
    assert daemon.emit("t", {"n": 1})["triggered_count"] == 1


def test_a_pipelines_own_limit(daemon: Daemon) -> None:
    gate = Gate(daemon.data)
    daemon.put("m.yaml", pipeline("p", gate.step(), max_concurrent=1), custom("a", max_concurrent=5),
               custom("b", max_concurrent=5))
    for id in ("a", "b", "a", "b"):
        daemon.emit1(id)
    wait_for(lambda: gate.lines("start"))
    never(lambda: len(gate.lines("start")) > 1, 0.4)
    gate.open()
    daemon.settle()
    assert [line[0] for line in gate.lines()] == ["start", "end"] * 4


def test_the_count_does_not_drift(daemon: Daemon) -> None:
    """Cancels, failures, time-outs and a kill in between: the slot comes back each time."""
    gate = Gate(daemon.data)
    daemon.put("m.yaml", pipeline("p", gate.step(timeout_seconds=0.5)), custom("t", config=KEY))
    daemon.wait_event(daemon.emit1("t", {"n": 0})["id"], "failed")
    run = wait_for(lambda e=daemon.emit1("t", {"n": 1})["id"]: daemon.event(e)["run_id"])
    daemon.post(f"/api/v1/runs/{run}/cancel")
    wait_for(lambda: daemon.run(run)["status"] in ("cancelled", "timed_out"))
    daemon.emit1("t", {"n": 2})
    daemon.kill9()
    daemon.start()
    daemon.settle()
    gate.open()
    assert daemon.fire("t", {"n": 3})["status"] == "completed"


def test_what_waits_is_cancelled_by_its_run(daemon: Daemon) -> None:
    """The answer, the event and the run agree at once, and still after a restart."""
    gate = Gate(daemon.data)
    daemon.put("m.yaml", pipeline("p", gate.step()), custom("t", cooldown_policy="queue"))
    first, waits = daemon.emit1("t", {"n": 0}), daemon.emit1("t", {"n": 1})
    run = waits["run_id"]
    assert daemon.run(run)["status"] == "pending"
    told = daemon.post(f"/api/v1/runs/{run}/cancel")
    assert daemon.event(waits["id"])["status"] == "cancelled" and daemon.run(run) == told
    assert told["status"] == "cancelled" and told["inputs"] == waits["resolved_inputs"] and told["started_at"] is None
    assert [step["status"] for step in told["steps"]] == ["pending"] and told["error_message"] == "cancelled by request"
    assert [r["id"] for r in daemon.get("/api/v1/runs?status=cancelled")["runs"]] == [run]
    daemon.http("POST", f"/api/v1/runs/{run}/cancel").problem(409)
    gate.open()
    daemon.wait_event(first["id"], "completed")
    daemon.restart()
    assert daemon.run(run) == told and len(gate.lines("start")) == 1


def test_a_missing_pipeline(daemon: Daemon) -> None:
    daemon.put("t.yaml", custom("t", pipeline="nowhere"))
    event = daemon.wait_event(daemon.emit1("t")["id"], "failed")
    assert 'pipeline "nowhere" not found' in event["error_message"]
    assert daemon.trigger("t")["status"] == "active"
    assert daemon.condition("t", "PipelineFound")["status"] == "False"
    daemon.put("p.yaml", {**ECHO, "id": "nowhere"})
    wait_for(lambda: daemon.condition("t", "PipelineFound")["status"] == "True")
    assert daemon.fire("t")["status"] == "completed"


def test_the_test_route(daemon: Daemon) -> None:
    daemon.put("m.yaml", ECHO, custom("t", enabled=False, config={"filter": {"a": 1}}))
    answer = daemon.http("POST", "/api/v1/triggers/t/test", {"a": 2}).ok()
    event = daemon.wait_event(answer["id"], "completed")
    assert event["event_type"] == "test" and event["event_data"] == {"a": 2}
    daemon.post("/api/v1/triggers/t/pause")
    held_back(daemon.event(daemon.post("/api/v1/triggers/t/test", {})["id"]), "paused")


def test_dry_runs(daemon: Daemon) -> None:
    daemon.put("m.yaml", ECHO, custom("t", cooldown_seconds=600, config={"filter": {"n": [{"exists": True}]}, **KEY}))

    def dry(data: Any) -> Any:
        return daemon.post("/api/v1/triggers/t/test?dry_run=true", data)

    fine = dry({"n": 1})
    assert fine["decision"] == "fired" and fine["resolved_inputs"]["key"] == 1
    assert dry({})["decision"] == "filtered"
    daemon.fire("t", {"n": 1})
    assert dry({"n": 1})["decision"] == "cooldown"
    daemon.post("/api/v1/triggers/t/pause")
    assert dry({"n": 1})["decision"] == "paused"
    assert dry({})["decision"] == "filtered", "the filter comes first"
    assert len(daemon.events()) == 1


def test_switched_off(make_daemon: Any) -> None:
    d: Daemon = make_daemon(env={"FLOWMASON_TRIGGERS_ENABLED": "No"}).start()
    d.put("m.yaml", ECHO, custom("t"))
    d.http("POST", "/api/v1/triggers/emit", {"endpoint": "t", "data": {}}).problem(503)
    assert d.condition("t", "Disabled")["status"] == "True"
    assert d.events() == []


def test_switched_off_wrongly(make_daemon: Any) -> None:
    d: Daemon = make_daemon(env={"FLOWMASON_TRIGGERS_ENABLED": "maybe"})
    d.spawn()
    assert d.wait(20) != 0
    assert "FLOWMASON_TRIGGERS_ENABLED" in d.output() and "maybe" in d.output()
