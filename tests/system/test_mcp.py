"""MCP servers over standard input and output: their notifications as events, their tools as steps."""
from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from harness import ECHO, Daemon, alive, delayed, documents, finished, pipeline, wait_for

FAKE = Path(__file__).with_name("mcp_fake.py")


def run(daemon: Daemon, id: str, **inputs: Any) -> str:
    """The id of a run of this pipeline, just started."""
    return daemon.post(f"/api/v1/pipelines/{id}/run", {"inputs": inputs})["id"]


def server(daemon: Daemon, *behave: str, name: str = "database", **more: Any) -> dict[str, Any]:
    place = daemon.data / f"mcp-{name}"
    place.mkdir(exist_ok=True)
    return {"kind": "mcp_server", "name": name, "command": sys.executable, "args": [str(FAKE), str(place), *behave], **more}


def listener(id: str = "orders", event_type: str = "row_inserted", name: str = "database", **more: Any) -> dict[str, Any]:
    config = {"server_name": name, "event_type": event_type, **more.pop("config", {})}
    return {"name": id, "pipeline_id": "p", "trigger_type": "mcp_event", "config": config, **more}


def connected(daemon: Daemon, id: str = "orders") -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        c = daemon.condition(id, "Connected")
        return c if c.get("status") == "True" else None

    return wait_for(look, what=f"{id} connected")


def failed(daemon: Daemon, id: str = "orders", reason: str | None = None) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        c = daemon.condition(id, "Connected")
        good = c.get("status") == "False" and c["reason"] not in ("Starting",) and reason in (None, c["reason"])
        return c if good else None

    return wait_for(look, what=f"{id} not connected ({reason})")


def say(daemon: Daemon, *messages: dict[str, Any] | str, name: str = "database") -> None:
    with (daemon.data / f"mcp-{name}" / "say").open("a") as f:
        for m in messages:
            f.write((m if isinstance(m, str) else json.dumps({"jsonrpc": "2.0", **m})) + "\n")


def notification(event: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"method": f"notifications/{event}", **({"params": params} if params is not None else {})}


def got(daemon: Daemon, method: str | None = None, name: str = "database") -> list[dict[str, Any]]:
    path = daemon.data / f"mcp-{name}" / "got.jsonl"
    messages = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [m for m in messages if method in (None, m.get("method"))]


def pids(daemon: Daemon, name: str = "database") -> list[int]:
    path = daemon.data / f"mcp-{name}" / "pids"
    return [int(p) for p in path.read_text().split()] if path.exists() else []


def events(daemon: Daemon, id: str = "orders", n: int = 1, **more: str) -> list[dict[str, Any]]:
    """The events of a trigger once there are `n` that are over, the oldest first."""
    def look() -> list[dict[str, Any]]:
        found = daemon.get(f"/api/v1/triggers/{id}/events?page_size=100")["events"]
        return found[::-1] if len(found) >= n and all(e["completed_at"] for e in found) else []

    return wait_for(look, what=f"{n} events of {id}")


@pytest.fixture
def put(daemon: Daemon) -> Any:
    def write(*docs: dict[str, Any]) -> Daemon:
        done = daemon.ctl("apply", daemon.write("mcp.yaml", documents(*docs, ECHO)))
        assert done.returncode == 0, done.stdout + done.stderr
        return daemon

    return write


def test_a_notification_is_an_event(daemon: Daemon, put: Any) -> None:
    """The seed's example."""
    put(server(daemon), listener(config={"filter": {"table": "orders", "status": "pending"},
                                         "input_mapping": {"order_id": "$.id", "customer": "$.customer_id"}}))
    condition = connected(daemon)
    assert "fake 1.2.3 speaks MCP 2025-11-25" in condition["message"]
    assert "since 20" in condition["message"] and "cannot be had again" in condition["message"]
    say(daemon, notification("row_inserted", {"table": "orders", "status": "pending", "id": 7, "customer_id": "c1"}),
        notification("row_inserted", {"table": "orders", "status": "paid", "id": 8, "customer_id": "c1"}),
        notification("row_deleted", {"table": "orders", "status": "pending", "id": 9}))
    [event] = events(daemon)
    assert event["event_type"] == "mcp_row_inserted"
    assert event["event_data"] == {"table": "orders", "status": "pending", "id": 7, "customer_id": "c1"}
    assert (event["resolved_inputs"]["order_id"], event["resolved_inputs"]["customer"]) == (7, "c1")
    assert event["status"] == "completed"


def test_what_is_said_to_a_server(daemon: Daemon, put: Any) -> None:
    put(server(daemon, subscribe=["file:///a", "file:///b"], log_level="warning", roots=[{"uri": "file:///srv", "name": "srv"}]),
        listener())
    connected(daemon)
    first, second, *rest = got(daemon)
    assert first["method"] == "initialize" and first["params"]["protocolVersion"] == "2025-11-25"
    assert first["params"]["capabilities"] == {"roots": {}}
    assert first["params"]["clientInfo"]["name"] == "triggerd"
    assert second == {"jsonrpc": "2.0", "method": "notifications/initialized"}
    assert [(m["method"], m["params"]) for m in rest] == [
        ("logging/setLevel", {"level": "warning"}), ("resources/subscribe", {"uri": "file:///a"}),
        ("resources/subscribe", {"uri": "file:///b"})]
    say(daemon, {"id": "r", "method": "roots/list"}, {"id": 2, "method": "ping"}, {"id": 3, "method": "sampling/createMessage"})
    wait_for(lambda: len([m for m in got(daemon) if "method" not in m]) == 3)
    answers = {m["id"]: m for m in got(daemon) if "method" not in m}
    assert answers["r"]["result"] == {"roots": [{"uri": "file:///srv", "name": "srv"}]}
    assert answers[2]["result"] == {}
    assert answers[3]["error"]["code"] == -32601
    # Renewed with each connection.
    os.kill(pids(daemon)[-1], signal.SIGKILL)
    wait_for(lambda: len(got(daemon, "resources/subscribe")) == 4)
    assert len(got(daemon, "logging/setLevel")) == 2


def test_tools_are_steps(daemon: Daemon, put: Any) -> None:
    def step(id: str, tool: str, **arguments: Any) -> dict[str, Any]:
        return {"id": id, "mcp": {"server": "database", "tool": tool, "arguments": arguments}}

    steps = [step("s", "echo", a=[1, "{{ $.inputs.n }}"], n="{{ $.inputs.n }}"), step("j", "add", a=1, b=2),
             step("t", "text", text="plain words"), step("p", "progress")]
    put(server(daemon), pipeline("tools", *steps, outputs={s["id"]: f"$.steps.{s['id']}.output" for s in steps}))
    done = finished(daemon, run(daemon, "tools", n=5))
    assert done["status"] == "completed", done
    assert done["outputs"] == {"s": {"a": [1, 5], "n": 5}, "j": {"sum": 3}, "t": {"text": "plain words"},
                               "p": {"text": "done"}}
    told = daemon.ctl("logs", done["id"], "--step", "p")
    assert "1/3: part 1\n2/3: part 2\n3/3: part 3\n" in told.stdout
    assert len(pids(daemon)) == 1


@pytest.mark.parametrize(("tool", "arguments", "error"), [
    ("fail", {"text": "no such row: 7"}, "no such row: 7"),
    ("nonsense", {}, "Unknown tool: nonsense"),
    ("die", {}, "killed by SIGKILL"),
    ("exit", {"code": 9}, "exit code 9: about to go"),
])
def test_a_tool_that_fails(daemon: Daemon, put: Any, tool: str, arguments: dict[str, Any], error: str) -> None:
    put(server(daemon), pipeline("t", {"id": "s", "mcp": {"server": "database", "tool": tool, "arguments": arguments}}))
    done = finished(daemon, run(daemon, "t"))
    assert done["status"] == "failed" and error in done["error_message"], done


def test_a_server_that_nobody_declared(daemon: Daemon, put: Any) -> None:
    put(pipeline("t", {"id": "s", "mcp": {"server": "nowhere", "tool": "x"}}), listener(name="nowhere"))
    done = finished(daemon, run(daemon, "t"))
    assert done["status"] == "failed" and 'there is no mcp_server "nowhere"' in done["error_message"]
    assert failed(daemon)["reason"] == "ServerNotFound"
    assert daemon.trigger("orders")["status"] == "error"
    put(listener(name="nowhere"), server(daemon, name="nowhere"))
    connected(daemon)
    assert daemon.trigger("orders")["status"] == "active"


def test_a_call_that_takes_too_long_is_cancelled(daemon: Daemon, put: Any) -> None:
    call = {"server": "database", "tool": "slow", "arguments": {"seconds": 60}}
    put(server(daemon, timeout_seconds=3), pipeline("t", {"id": "s", "mcp": call}))  # and for it to get up
    done = finished(daemon, run(daemon, "t"))
    assert done["status"] == "failed" and "no answer within 3 s" in done["error_message"]
    [cancelled] = wait_for(lambda: got(daemon, "notifications/cancelled"))
    [asked] = got(daemon, "tools/call")
    assert cancelled["params"]["requestId"] == asked["id"]


def test_a_step_that_is_cancelled_tells_the_server(daemon: Daemon, put: Any) -> None:
    call = {"server": "database", "tool": "slow", "arguments": {"seconds": 60}}
    put(server(daemon), pipeline("t", {"id": "s", "mcp": call}))
    begun = run(daemon, "t")
    wait_for(lambda: got(daemon, "tools/call"))
    daemon.post(f"/api/v1/runs/{begun}/cancel")
    assert finished(daemon, begun)["status"] == "cancelled"
    wait_for(lambda: got(daemon, "notifications/cancelled"))


def test_answers_out_of_order_twice_and_among_garbage(daemon: Daemon, put: Any) -> None:
    steps = [{"id": f"s{i}", "mcp": {"server": "database", "tool": "echo", "arguments": {"i": i}}} for i in range(3)]
    put(server(daemon, "late", "dup", "garbage"), listener(),
        pipeline("t", *steps, outputs={s["id"]: f"$.steps.{s['id']}.output" for s in steps}))
    connected(daemon)
    done = finished(daemon, run(daemon, "t"))
    assert done["outputs"] == {f"s{i}": {"i": i} for i in range(3)}
    say(daemon, "garbage", "[]", "{}", '{"jsonrpc": "1.0", "method": "x"}', '{"jsonrpc": "2.0", "method": 5}',
        '{"jsonrpc": "2.0", "id": 1, "result": {}, "error": {}}', "\x00\x01", "{" * 500, notification("row_inserted", {}))
    events(daemon)
    assert "is no message" in daemon.output()
    assert len(pids(daemon)) == 1


def test_a_server_that_dies_comes_back(daemon: Daemon, put: Any) -> None:
    put(server(daemon, "stderr=opening"), listener())
    connected(daemon)
    os.kill(pids(daemon)[-1], signal.SIGKILL)
    condition = failed(daemon)
    assert condition["reason"] == "ServerExited" and "SIGKILL" in condition["message"]
    assert "opening" in condition["message"] and "cannot be had again" in condition["message"]
    assert daemon.trigger("orders")["status"] == "error"
    connected(daemon)
    assert daemon.trigger("orders")["status"] == "active" and len(pids(daemon)) == 2
    say(daemon, notification("row_inserted", {"id": 1}))
    events(daemon)


@pytest.mark.parametrize(("behave", "reason", "words"), [
    ("die", "ServerExited", "exit code 4: cannot open the database"),
    ("hang", "InitializeTimeout", "initialize: no answer within 0.6 s"),
    ("version=2023-01-01", "UnsupportedVersion", "the server speaks MCP 2023-01-01; triggerd speaks 2024-11-05,"),
])
def test_a_server_that_does_not_get_up(daemon: Daemon, put: Any, behave: str, reason: str, words: str) -> None:
    put(server(daemon, behave, **({"timeout_seconds": 0.6} if behave == "hang" else {})), listener())
    condition = failed(daemon, reason=reason)
    assert words in condition["message"]
    wait_for(lambda: len(pids(daemon)) >= 3, what="it is tried again")
    put(server(daemon), listener())
    connected(daemon)
    assert not got(daemon, "notifications/cancelled")


@pytest.mark.parametrize("version", ["2024-11-05", "2025-03-26", "2025-06-18"])
def test_older_versions(daemon: Daemon, put: Any, version: str) -> None:
    put(server(daemon, f"version={version}"), listener())
    assert f"MCP {version}" in connected(daemon)["message"]
    batch = [{"jsonrpc": "2.0", **notification("row_inserted", {"i": i})} for i in range(2)]
    say(daemon, json.dumps(batch), notification("row_inserted", {"i": 2}))
    n = 3 if version == "2025-03-26" else 1
    assert [e["event_data"]["i"] for e in events(daemon, n=n)] == [0, 1, 2][3 - n:]


def test_log_messages_carry_events(daemon: Daemon, put: Any) -> None:
    put(server(daemon), listener(), listener("all", "*"), listener("logs", "message"), listener("typed", "tick"))
    for id in ("orders", "all", "logs", "typed"):
        connected(daemon, id)
    data = {"event": "row_inserted", "table": "orders", "type": "tick"}
    say(daemon, notification("message", {"level": "info", "data": data}),
        notification("message", {"level": "info", "data": {"type": "tick", "n": 1}}),
        notification("message", {"level": "info", "data": "words"}), notification("message", {"level": "info", "data": {"event": 5}}),
        notification("message", {"level": "info", "data": {"event": "message"}}), notification("last"))
    [one] = events(daemon)
    assert one["event_type"] == "mcp_row_inserted" and one["event_data"] == data
    [tick] = events(daemon, "typed")
    assert tick["event_data"] == {"type": "tick", "n": 1}
    assert [e["event_type"] for e in events(daemon, "all", 6)] == ["mcp_message"] * 5 + ["mcp_last"]
    assert [e["event_data"]["data"] for e in events(daemon, "logs", 5)][2:] == ["words", {"event": 5}, {"event": "message"}]


def test_updates_are_read(daemon: Daemon, put: Any) -> None:
    put(server(daemon, subscribe=["file:///a"]), listener(event_type="resources/updated", config={"read": True}),
        listener("plain", "resources/updated"), listener("all", "*", config={"read": True}))
    for id in ("orders", "plain", "all"):
        connected(daemon, id)
    say(daemon, notification("resources/updated", {"uri": "file:///a"}), notification("resources/updated", {"uri": "file:///missing"}))
    read, missing = events(daemon, n=2)
    assert read["event_type"] == "mcp_resources/updated"
    assert read["event_data"] == {"uri": "file:///a", "contents": [{"uri": "file:///a", "text": "what it holds"}]}
    assert missing["event_data"]["uri"] == "file:///missing" and "Resource not found" in missing["event_data"]["read_error"]
    assert [e["event_data"] for e in events(daemon, "plain", 2)] == [{"uri": "file:///a"}, {"uri": "file:///missing"}]
    assert "contents" in events(daemon, "all", 2)[0]["event_data"]


def test_a_subscription_that_is_refused(daemon: Daemon, put: Any) -> None:
    put(server(daemon, "refuse-subscribe=1", subscribe=["file:///a"]), listener(),
        pipeline("t", {"id": "s", "mcp": {"server": "database", "tool": "echo"}}))
    condition = failed(daemon, reason="SubscribeFailed")
    assert "no such resource yet" in condition["message"]
    assert finished(daemon, run(daemon, "t"))["status"] == "completed"
    connected(daemon)
    assert len(pids(daemon)) == 1


def test_secrets_are_never_shown(daemon: Daemon, put: Any) -> None:
    (daemon.manifests / "token").write_text("s3cret-t0ken\n")
    put(server(daemon, "stderr=starting with ${file:token}", env={"TOKEN": "${file:token}", "PLAIN": "literal-word"}), listener(),
        pipeline("t", {"id": "s", "mcp": {"server": "database", "tool": "env"}}),
        pipeline("f", {"id": "s", "mcp": {"server": "database", "tool": "fail", "arguments": {"text": "bad token s3cret-t0ken"}}}))
    connected(daemon)
    say(daemon, notification("row_inserted", {"token": "s3cret-t0ken"}))
    output = finished(daemon, run(daemon, "t"))["outputs"]["out"]
    assert output["TOKEN"] == "***" and output["PLAIN"] == "literal-word"
    assert set(output) >= {"PATH", "HOME", "LANG", "TRIGGERD_NODE_ID"}
    assert "TRIGGERD_SOCKET" not in output and "USER" not in output
    assert "bad token ***" in finished(daemon, run(daemon, "f"))["error_message"]
    events(daemon)
    os.kill(pids(daemon)[-1], signal.SIGKILL)
    failed(daemon)
    shown = json.dumps([daemon.get("/api/v1/mcp_servers"), daemon.get("/api/v1/triggers"), daemon.get("/api/v1/triggers/events"),
                        daemon.get("/api/v1/runs")]) + daemon.output()
    assert "s3cret" not in shown and "${file:token}" in shown
    assert daemon.get("/api/v1/mcp_servers/database")["env"]["PLAIN"] == "***"


def test_one_connection_is_shared_and_kept(daemon: Daemon, put: Any) -> None:
    docs = [server(daemon), listener(), listener("other", "row_deleted"),
            pipeline("t", {"id": "s", "mcp": {"server": "database", "tool": "echo"}})]
    put(*docs)
    connected(daemon)
    connected(daemon, "other")
    finished(daemon, run(daemon, "t"))
    docs[0]["timeout_seconds"] = 20
    docs[1]["cooldown_seconds"] = 0.5
    docs[2]["config"]["event_type"] = "row_changed"
    put(*docs)
    wait_for(lambda: daemon.get("/api/v1/mcp_servers/database")["timeout_seconds"] == 20)
    connected(daemon, "other")
    assert len(pids(daemon)) == 1
    docs[0]["env"] = {"A": "b"}
    put(*docs)
    wait_for(lambda: len(pids(daemon)) == 2)
    connected(daemon)
    first, second = pids(daemon)
    wait_for(lambda: not alive(first))
    daemon.stop()
    assert not alive(second)


def test_a_server_that_does_not_want_to_end(daemon: Daemon, put: Any) -> None:
    put(server(daemon, "ignore-term"), listener())
    connected(daemon)
    [pid] = pids(daemon)
    began = time.monotonic()
    daemon.stop()
    assert not alive(pid)
    assert time.monotonic() - began > 4, "it is asked first"


def test_a_line_may_have_16_mib(daemon: Daemon, put: Any) -> None:
    put(server(daemon), listener())
    connected(daemon)

    def line(size: int) -> str:
        text = json.dumps({"jsonrpc": "2.0", **notification("row_inserted", {"size": size, "x": ""})})
        return text.replace('""', '"' + "y" * (size - len(text)) + '"')

    say(daemon, line((16 << 20) + 1), line(16 << 20))
    [event] = events(daemon)
    assert event["event_data"]["size"] == 16 << 20


@pytest.mark.parametrize(("text", "output"), [("5", 5), ('"words"', "words"), ("null", None), ("", {"text": ""}),
                                              ("[1, 2", {"text": "[1, 2"}), ("12345678901234567890", 12345678901234567890)])
def test_text_that_is_json_is_parsed(daemon: Daemon, put: Any, text: str, output: Any) -> None:
    put(server(daemon), pipeline("t", {"id": "s", "mcp": {"server": "database", "tool": "text", "arguments": {"text": text}}}))
    assert finished(daemon, run(daemon, "t"))["outputs"]["out"] == output


def test_large_messages(daemon: Daemon, put: Any) -> None:
    put(server(daemon), listener(),
        pipeline("t", {"id": "s", "mcp": {"server": "database", "tool": "huge", "arguments": {"bytes": 10 << 20}}}, outputs={}))
    connected(daemon)
    assert finished(daemon, run(daemon, "t"))["status"] == "completed"
    say(daemon, notification("row_inserted", {"x": "y" * (17 << 20)}), notification("row_inserted", {"id": 2}))
    [event] = events(daemon)
    assert event["event_data"] == {"id": 2}
    assert "more than 16 MiB" in daemon.output()
    assert len(pids(daemon)) == 1


def test_a_host_hands_in_events(daemon: Daemon, put: Any) -> None:
    put(listener(name="elsewhere"), listener("all", "*", name="elsewhere"), listener("deaf", name="others"))
    answer = daemon.http("POST", "/api/v1/triggers/emit/mcp?server_name=elsewhere&event_type=row_inserted", {"id": 12345678901234567890}).ok()
    assert answer["triggered_count"] == 2
    assert {e["trigger_id"] for e in answer["events"]} == {"orders", "all"}
    [event] = events(daemon)
    assert event["event_type"] == "mcp_row_inserted" and event["event_data"] == {"id": 12345678901234567890}
    again = [daemon.http("POST", "/api/v1/triggers/emit/mcp?server_name=elsewhere&event_type=row_inserted", {"id": 1},
                         {"Idempotency-Key": "k"}).ok() for _ in range(2)]
    assert [a["triggered_count"] for a in again] == [2, 0]
    assert daemon.http("POST", "/api/v1/triggers/emit/mcp?server_name=nobody&event_type=x", {}).ok()["triggered_count"] == 0
    problem = daemon.http("POST", "/api/v1/triggers/emit/mcp?server_name=elsewhere", {}).problem(422)
    assert problem["errors"] == [{"path": "event_type", "message": "required, but missing"}]


def test_a_queue_that_is_full_slows_the_server_down(daemon: Daemon, put: Any) -> None:
    """Nothing that it sent is lost while the engine does not take it."""
    put(server(daemon), listener(queue_limit=20))
    connected(daemon)
    say(daemon, *(notification("row_inserted", {"i": i}) for i in range(300)))
    assert wait_for(lambda: daemon.get("/api/v1/triggers/orders")["trigger_count"] == 300, 60)
    seen = [e["event_data"]["i"] for page in (1, 2, 3) for e in daemon.get(f"/api/v1/triggers/orders/events?page_size=100&page={page}")["events"]]
    assert seen[::-1] == list(range(300))


@pytest.mark.skipif(not shutil.which("strace"), reason="no strace")
def test_what_was_read_is_recorded_before_a_stop(daemon: Daemon, put: Any) -> None:
    """More than one transaction bears, and a disk that takes its time: the stop waits for what has come."""
    put(server(daemon), listener(pause_policy="hold"))
    connected(daemon)
    daemon.post("/api/v1/triggers/orders/pause")
    with delayed(daemon.pid, "fdatasync", "300ms"):
        say(daemon, *(notification("row_inserted", {"n": n}) for n in range(900)), "that was all")
        wait_for(lambda: "that was all" in daemon.output(), what="the last line was read")
        daemon.signal()
        daemon.wait()
    daemon.start()
    assert [e["event_data"]["n"] for e in daemon.events("orders")] == list(range(900))
