"""pipeline_completed: one pipeline after another, and the ends of chains."""
from __future__ import annotations

import json
from typing import Any

import pytest
from harness import ECHO, Daemon, Gate, custom, never, pipeline, script, wait_for


def after(id: str, source: Any, target: str = "q", **more: Any) -> dict[str, Any]:
    config = {"source_pipeline_id": source, **more.pop("config", {})}
    return {"kind": "trigger", "id": id, "name": id, "pipeline_id": target, "trigger_type": "pipeline_completed",
            "config": config, **more}


Q = {**ECHO, "id": "q"}


def followed(d: Daemon, trigger: str = "next") -> dict[str, Any]:
    """The inputs of the run that followed."""
    event = d.wait_event(d.wait_events(1, trigger)[0]["id"], "completed")
    return d.run(event["run_id"])["outputs"]["out"]


def test_one_after_another(daemon: Daemon) -> None:
    daemon.put("m.yaml", pipeline("p", script('echo \'{"rows": 3}\''), outputs={"n": "$.steps.s.output.rows"}), Q,
               custom("t"), after("next", "p"))
    first = daemon.wait_event(daemon.emit1("t")["id"], "completed")
    event = daemon.wait_event(daemon.wait_events(1, "next")[0]["id"], "completed")
    assert event["event_type"] == "pipeline_completed" and event["root_event_id"] == first["id"]
    data = event["event_data"]
    assert (data["source_pipeline_id"], data["source_run_id"], data["status"]) == ("p", first["run_id"], "success")
    assert data["outputs"] == {"n": 3} and not data["error"]
    inputs = event["resolved_inputs"]
    assert inputs.keys() == {"_trigger_event"}, "outputs are passed only when asked for"


@pytest.mark.parametrize("config, wanted", [
    ({"pass_outputs": True}, {"processed_data": [1], "other": 2}),
    ({"pass_outputs": True, "output_mapping": {"raw_data": "processed_data"}}, {"raw_data": [1]}),
    ({"output_mapping": {"raw_data": "$.processed_data[0]"}}, {"raw_data": 1}),
    ({"pass_outputs": True, "input_mapping": {"other": "$.status"}}, {"processed_data": [1], "other": "success"})])
def test_outputs(daemon: Daemon, config: dict[str, Any], wanted: dict[str, Any]) -> None:
    text = json.dumps({"processed_data": [1], "other": 2})
    daemon.put("m.yaml", pipeline("p", script(f"echo '{text}'"), outputs={"processed_data": "$.steps.s.output.processed_data",
                                                                         "other": "$.steps.s.output.other"}),
               Q, custom("t"), after("next", "p", config=config, default_inputs={"other": 0} if "other" in wanted else {}))
    daemon.emit1("t")
    inputs = followed(daemon)
    del inputs["_trigger_event"]
    assert inputs == wanted


@pytest.mark.parametrize("text, status", [("true", "success"), ("exit 1", "failed"), ("sleep 60", "timed_out")])
def test_statuses(daemon: Daemon, text: str, status: str) -> None:
    limit = {"timeout_seconds": 0.5} if status == "timed_out" else {}
    daemon.put("m.yaml", pipeline("p", script(text), **limit), Q, custom("t"),
               *[after(s, "p", config={"status": s}) for s in ("success", "failed", "any")])
    daemon.emit1("t")
    wanted = {"any", "success" if status == "success" else "failed"}
    for trigger in wanted:
        data = daemon.wait_events(1, trigger)[0]["event_data"]
        assert data["status"] == status
        assert bool(data["error"]) == (status != "success")
    never(lambda: any(daemon.events(t) for t in {"success", "failed"} - wanted), 0.3)


def test_cancelled_runs(daemon: Daemon) -> None:
    gate = Gate(daemon.data)
    daemon.put("m.yaml", pipeline("p", gate.step()), Q, custom("t"),
               *[after(s, "p", config={"status": s}) for s in ("success", "failed", "any")])
    event = daemon.emit1("t")["id"]
    run = wait_for(lambda: gate.lines("start") and daemon.event(event)["run_id"])
    daemon.post(f"/api/v1/runs/{run}/cancel")
    assert daemon.wait_events(1, "any")[0]["event_data"]["status"] == "cancelled"
    assert daemon.events("failed") == daemon.events("success") == []


@pytest.mark.parametrize("source, hit", [(["x", "p"], True), ("p*", True), ("*", True), (["x", "y"], False), ("q?", False)])
def test_lists_and_globs(daemon: Daemon, source: Any, hit: bool) -> None:
    daemon.put("m.yaml", pipeline("p", script("true")), Q, custom("t"), after("next", source))
    daemon.fire("t")
    if hit:  # (what it starts may be held back as a loop: `*` is its own pipeline, too)
        wait_for(lambda: [e for e in daemon.events("next") if e["decision"] == "fired" and e["status"] == "completed"])
    else:
        never(lambda: daemon.events("next"), 0.4)


def test_a_dead_letter_pipeline_does_not_feed_itself(daemon: Daemon) -> None:
    daemon.put("m.yaml", pipeline("p", script("exit 1")), pipeline("q", script("exit 1")), custom("t"),
               after("dead", "*", config={"status": "failed"}))
    daemon.fire("t")
    wait_for(lambda: [e for e in daemon.events("dead") if e["decision"] == "loop_blocked"])
    assert [e["decision"] for e in daemon.settle("dead")] == ["fired", "loop_blocked"]


def test_two_that_call_each_other(daemon: Daemon) -> None:
    daemon.put("m.yaml", pipeline("p", script("true")), pipeline("q", script("true")), custom("t"),
               after("pq", "p", "q"), after("qp", "q", "p"))
    daemon.fire("t")
    blocked = wait_for(lambda: [e for e in daemon.events() if e["decision"] == "loop_blocked"])[0]
    assert "pq" in blocked["reason"] and "qp" in blocked["reason"]
    assert len({e["root_event_id"] for e in daemon.events()}) == 1
    daemon.settle()
    never(lambda: len(daemon.events()) > 4, 0.4)


def test_a_storm_is_an_error(daemon: Daemon) -> None:
    """Each event emits two: with allow_loops only the storm limit holds it."""
    steps = [{"id": f"s{n}", "emit": {"endpoint": "t", "data": {"n": n}}} for n in range(2)]
    daemon.put("m.yaml", pipeline("p", *steps, outputs={}), custom("t", allow_loops=True, storm_limit=50, max_concurrent=50))
    daemon.emit1("t")
    wait_for(lambda: daemon.trigger("t")["status"] == "error", 60)
    assert daemon.trigger("t")["error_message"]
    assert daemon.http("GET", "/healthz").status == 200


def test_completions_from_outside(daemon: Daemon) -> None:
    daemon.put("m.yaml", Q, after("next", "elsewhere", config={"pass_outputs": True}))
    body = {"run_id": "any text: 7", "status": "success", "outputs": {"x": 1}}
    first = daemon.http("POST", "/api/v1/pipelines/elsewhere/completed", body).ok()
    assert followed(daemon)["x"] == 1
    again = daemon.http("POST", "/api/v1/pipelines/elsewhere/completed", body).ok()
    assert first["triggered_count"] == 1 and again["triggered_count"] == 0
    assert [e["id"] for e in again["events"]] == [e["id"] for e in first["events"]], "what it was the first time"
    again = daemon.http("POST", "/api/v1/pipelines/elsewhere/completed", {**body, "outputs": {"x": 2}}).ok()
    assert [e["id"] for e in again["events"]] == [e["id"] for e in first["events"]], "a run ends once, whatever is told later"
    never(lambda: len(daemon.events("next")) > 1, 0.4)
    daemon.http("POST", "/api/v1/pipelines/elsewhere/completed", {**body, "run_id": "other"}).ok()
    daemon.wait_events(2, "next")
    event = daemon.http("POST", "/api/v1/pipelines/elsewhere/completed",
                        {**body, "run_id": "third", "status": "completed"}).ok()["events"][0]
    assert event["event_data"]["status"] == "success"
    daemon.http("POST", "/api/v1/pipelines/elsewhere/completed", {**body, "status": "splendid"}).problem(422)


def test_a_completion_is_not_lost_in_a_crash(daemon: Daemon) -> None:
    """The end of a run and the events of those that wait for it are one."""
    gate = Gate(daemon.data)
    daemon.put("m.yaml", pipeline("p", gate.step()), Q, custom("t", max_concurrent=20), after("next", "p", max_concurrent=20))
    for _ in range(10):
        daemon.emit1("t")
    wait_for(lambda: len(gate.lines("start")) == 10)
    gate.open()
    wait_for(lambda: daemon.get("/api/v1/runs?pipeline_id=p&status=completed")["total"] >= 1)
    daemon.kill9()
    daemon.start()
    daemon.wait_events(10, "next", 30)
    daemon.settle()
    assert len({e["event_data"]["source_run_id"] for e in daemon.events("next")}) == 10


def test_a_full_queue_does_not_block_a_chain(daemon: Daemon) -> None:
    gate = Gate(daemon.data)
    daemon.put("m.yaml", pipeline("p", script("true")), pipeline("q", gate.step()), custom("t", max_concurrent=10),
               after("next", "p", queue_limit=1))
    for _ in range(6):
        daemon.emit1("t")
    daemon.wait_events(6, "next")
    gate.open()
    assert all(e["status"] == "completed" for e in daemon.settle("next"))
