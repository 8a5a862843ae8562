"""REST: the seed's routes and shapes, the errors, and what HTTP itself asks for."""
from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import http.client
import json
import re
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openapi
import pytest
from harness import ECHO, Daemon, UnixConnection, custom, free_port, never, pipeline, script, wait_for

SEED = {"name": "My Trigger", "pipeline_id": "p", "trigger_type": "custom", "config": {"endpoint": "e"}}
T = "/api/v1/triggers"


def create(d: Daemon, **more: Any) -> dict[str, Any]:
    answer = d.http("POST", T, {**SEED, **more})
    assert answer.status == 201, answer.body
    return answer.json()


# ---- triggers ----


def test_create_and_get(daemon: Daemon) -> None:
    answer = daemon.http("POST", T, {"name": "My Trigger", "pipeline_id": "pipe_abc123", "trigger_type": "file_watch",
                                     "config": {"path": "/data/*.json", "events": ["created"]}, "enabled": True,
                                     "max_concurrent": 3, "cooldown_seconds": 10, "default_inputs": {}})
    assert answer.status == 201 and answer.headers["Location"] == f"{T}/my-trigger"
    made = answer.json()
    shown = daemon.trigger("my-trigger")
    assert {**made, "conditions": []} == {**shown, "conditions": []}  # (its source may have told of itself by now)
    assert {"id", "name", "description", "pipeline_id", "trigger_type", "config", "enabled", "max_concurrent",
            "cooldown_seconds", "default_inputs", "status", "last_triggered_at", "trigger_count", "error_message",
            "created_by", "created_at", "updated_at", "conditions", "generation", "observed_generation", "source"} <= made.keys()
    assert made["config"] == {"path": "/data/*.json", "events": ["created"]}, "what the manifest says, without defaults"
    assert (made["max_concurrent"], made["cooldown_seconds"], made["trigger_count"]) == (3, 10, 0)
    assert made["generation"] == made["observed_generation"] == 1
    files = [p for p in daemon.manifests.rglob("*") if p.is_file()]
    assert len(files) == 1 and "My Trigger" in files[0].read_text()
    (files[0]).write_text(files[0].read_text().replace("My Trigger", "Edited by hand") + "\nid: my-trigger\n")
    wait_for(lambda: daemon.trigger("my-trigger")["name"] == "Edited by hand")


def test_ids(daemon: Daemon) -> None:
    assert [create(daemon)["id"] for _ in range(3)] == ["my-trigger", "my-trigger-2", "my-trigger-3"]
    assert create(daemon, id="own")["id"] == "own"
    daemon.http("POST", T, {**SEED, "id": "own"}).problem(409)
    daemon.http("POST", T, {**SEED, "id": "Not Good"}).problem(422)
    daemon.http("POST", T, {**SEED, "name": "stats"}).problem(422)
    daemon.http("POST", T, {**SEED, "name": "☃"}).problem(422)


def test_lists(daemon: Daemon) -> None:
    for n in range(5):
        create(daemon, name=f"t{n}", pipeline_id="p" if n < 3 else "q", enabled=n != 1)
    create(daemon, name="w", trigger_type="file_watch", config={"path": "/nowhere/*"})

    def ids(query: str) -> set[str]:
        return {t["id"] for t in daemon.get(query)["triggers"]}

    page = daemon.get(f"{T}?page=2&page_size=4")
    assert (page["total"], page["page"], page["page_size"], len(page["triggers"])) == (6, 2, 4, 2)
    assert ids(f"{T}?pipeline_id=q") == ids(f"{T}/pipeline/q") == {"t3", "t4"}
    assert ids(f"{T}?trigger_type=file_watch") == ids(f"{T}/type/file_watch") == {"w"}
    assert ids(f"{T}?enabled_only=true&pipeline_id=p") == {"t0", "t2", "w"}
    assert ids(f"{T}?status=disabled") == {"t1"}
    daemon.http("GET", f"{T}?page=0").problem(400)
    daemon.http("GET", f"{T}?page_size=101").problem(400)
    assert "file_watch" in daemon.http("GET", f"{T}/type/smoke").problem(400)["detail"], "what is known is listed"
    assert "cooldown" in daemon.http("GET", f"{T}/events?decision=smoke").problem(400)["detail"]
    (error,) = daemon.http("GET", f"{T}?status=smoke").problem(400)["errors"]
    assert error["path"] == "status" and error["message"].startswith("expected one of active"), "the place stands in path alone"
    for since in ("2024-01-31T00:00:00+02:00", "2024-01-31T00:00:00%2B02:00", "2024-01-31", "2024-01-31T00:00:00.5Z", "1h30m",
                  "2024-01-31T00:00:00.123456"):
        daemon.get(f"{T}/events?since={since}&until={since}")


def test_put_merges(daemon: Daemon) -> None:
    create(daemon, description="old", max_concurrent=4, default_inputs={"a": 1})
    daemon.post(f"{T}/my-trigger/pause")
    made = daemon.http("PUT", f"{T}/my-trigger", {"name": "Updated Name", "enabled": None, "default_inputs": {"b": 2}}).ok()
    assert (made["id"], made["name"], made["description"], made["max_concurrent"]) == (
        "my-trigger", "Updated Name", "old", 4)
    assert made["default_inputs"] == {"b": 2} and made["enabled"] is True
    assert made["status"] == "paused" and made["generation"] == made["observed_generation"] == 2
    daemon.restart()
    assert daemon.trigger("my-trigger")["name"] == "Updated Name", "a renamed trigger keeps its id"
    assert daemon.get(T)["total"] == 1
    daemon.http("PUT", f"{T}/my-trigger", {"max_concurrent": 0}).problem(422)
    daemon.http("PUT", f"{T}/nowhere", {"name": "x"}).problem(404)


def test_put_keeps_comments(daemon: Daemon) -> None:
    daemon.write("m.yaml", "# about a\nkind: trigger\nid: a\nname: a   # its name\npipeline_id: p\n"
                           "trigger_type: custom\nconfig:\n  endpoint: e\n---\n# about b\n"
                           "name: b\npipeline_id: p\ntrigger_type: custom\nconfig: {endpoint: b}\n")
    wait_for(lambda: daemon.exists("b"))
    daemon.http("PUT", f"{T}/a", {"cooldown_seconds": 3}).ok()
    text = (daemon.manifests / "m.yaml").read_text()
    for comment in ("# about a", "# its name", "# about b"):
        assert comment in text
    assert daemon.trigger("b")["generation"] == 1


def test_delete(daemon: Daemon) -> None:
    daemon.put("p.yaml", ECHO)
    create(daemon)
    event = daemon.wait_event(daemon.emit1("e")["id"])
    answer = daemon.http("DELETE", f"{T}/my-trigger").ok()
    assert answer["success"] is True and answer["message"] and answer["trigger"] is None
    daemon.http("GET", f"{T}/my-trigger").problem(404)
    daemon.http("DELETE", f"{T}/my-trigger").problem(404)
    assert daemon.event(event["id"])["trigger_id"] == "my-trigger", "its events stay"
    assert [e["id"] for e in daemon.get(f"{T}/my-trigger/events")["events"]] == [event["id"]], "and are listed as before"
    daemon.http("GET", f"{T}/never-there/events").problem(404)
    daemon.restart()
    assert daemon.get(T)["total"] == 0


def test_a_write_is_in_force_when_answered(daemon: Daemon) -> None:
    daemon.put("p.yaml", ECHO)
    for n in range(20):
        create(daemon, name=f"t{n}", config={"endpoint": f"e{n}"})
        assert daemon.emit(f"e{n}")["triggered_count"] == 1
        daemon.http("DELETE", f"{T}/t{n}").ok()
        assert daemon.emit(f"e{n}")["triggered_count"] == 0


def test_read_only_directories(daemon: Daemon) -> None:
    daemon.put("t.yaml", custom("t"))
    daemon.manifests.chmod(0o555)
    try:
        answer = daemon.http("PUT", f"{T}/t", {"name": "x"})
        if answer.status != 200:  # root writes everywhere
            answer.problem(409)
    finally:
        daemon.manifests.chmod(0o755)


def test_etags(daemon: Daemon) -> None:
    create(daemon)
    first = daemon.http("GET", f"{T}/my-trigger").headers["ETag"]
    assert first
    daemon.post(f"{T}/my-trigger/pause")
    assert daemon.http("GET", f"{T}/my-trigger").headers["ETag"] == first, "it covers the manifest, not state"
    daemon.http("PUT", f"{T}/my-trigger", {"name": "one"}, {"If-Match": first}).ok()
    daemon.http("PUT", f"{T}/my-trigger", {"name": "two"}, {"If-Match": first}).problem(412)
    daemon.http("DELETE", f"{T}/my-trigger", headers={"If-Match": first}).problem(412)
    assert daemon.trigger("my-trigger")["name"] == "one"


@pytest.mark.parametrize("tag,matches", [("*", True), ('"0", {}', True), ("{}", True), ("W/{}", False), ('"0"', False),
                                         ("", False), ("nothing", False), ('"', False)])
def test_if_match(daemon: Daemon, tag: str, matches: bool) -> None:
    create(daemon)
    etag = daemon.http("GET", f"{T}/my-trigger").headers["ETag"]
    answer = daemon.http("PUT", f"{T}/my-trigger", {"name": "other"}, {"If-Match": tag.format(etag)})
    assert answer.status == (200 if matches else 412)
    if matches:
        assert answer.headers["ETag"] != etag


def test_edits_at_the_same_time(daemon: Daemon) -> None:
    """Each of several PUTs, with other fields, counts; of those that say what they are based on, one."""
    create(daemon)
    etag = daemon.http("GET", f"{T}/my-trigger").headers["ETag"]
    wishes = [{"description": "d"}, {"max_concurrent": 7}, {"cooldown_seconds": 3}, {"queue_limit": 70}]
    with ThreadPoolExecutor(4) as pool:
        statuses = list(pool.map(lambda w: daemon.http("PUT", f"{T}/my-trigger", w).status, wishes))
        assert statuses == [200] * 4
        trigger = daemon.trigger("my-trigger")
        assert [trigger[k] for w in wishes for k in w] == [v for w in wishes for v in w.values()]
        etag = daemon.http("GET", f"{T}/my-trigger").headers["ETag"]
        statuses = list(pool.map(lambda n: daemon.http("PUT", f"{T}/my-trigger", {"description": str(n)},
                                                       {"If-Match": etag}).status, range(4)))
        assert sorted(statuses) == [200, 412, 412, 412]
    with ThreadPoolExecutor(16) as pool:  # more than would ever be tried again
        statuses = list(pool.map(lambda n: daemon.http("PUT", f"{T}/my-trigger", {"description": str(n)}).status, range(64)))
        assert statuses == [200] * 64


def test_creates_at_the_same_time(daemon: Daemon) -> None:
    """Of one name each gets an id of its own; of one id, one counts."""
    body = {"pipeline_id": "p", "trigger_type": "custom", "config": {"endpoint": "e"}}
    with ThreadPoolExecutor(16) as pool:
        ids = [a.ok()["id"] for a in pool.map(lambda _: daemon.http("POST", T, {"name": "Same", **body}), range(32))]
        assert sorted(ids) == sorted(["same", *(f"same-{n}" for n in range(2, 33))])
        statuses = list(pool.map(lambda _: daemon.http("POST", T, {"name": "x", "id": "x", **body}).status, range(16)))
        assert sorted(statuses) == [201] + [409] * 15
    assert daemon.get(T)["total"] == 33


def test_editing_a_pipeline(daemon: Daemon) -> None:
    daemon.write("p.yaml", "# why it is there\nkind: pipeline\nid: p  # its id\nsteps:\n- id: s\n  exec: {command: [cat]}\n")
    wait_for(lambda: daemon.http("GET", "/api/v1/pipelines/p").status == 200)
    got = daemon.http("GET", "/api/v1/pipelines/p")
    answer = daemon.http("PUT", "/api/v1/pipelines/p", {**got.ok(), "description": "more"}, {"If-Match": got.headers["ETag"]})
    assert answer.ok()["description"] == "more" and answer.ok()["generation"] == 2
    text = (daemon.manifests / "p.yaml").read_text()
    assert text.startswith("# why it is there\nkind: pipeline\nid: p  # its id\n") and "description: more" in text
    daemon.http("PUT", "/api/v1/pipelines/p", {"id": "q"}).problem(422)
    daemon.http("PUT", "/api/v1/pipelines/none", {"description": "x"}).problem(404)
    assert daemon.http("PUT", "/api/v1/pipelines/p", {"kind": "trigger"}).problem(422)["errors"][0]["path"] == "kind"
    assert daemon.http("POST", "/api/v1/pipelines", {"steps": [script("cat")]}).problem(422)["errors"][0]["path"] == "id"
    daemon.http("POST", "/api/v1/pipelines", {"id": "p", "steps": [script("cat")]}).problem(409)
    daemon.http("DELETE", "/api/v1/pipelines/p", headers={"If-Match": got.headers["ETag"]}).problem(412)


def test_stats(daemon: Daemon) -> None:
    daemon.put("m.yaml", ECHO, pipeline("q", script("exit 1")), custom("a"), custom("b", "q"), custom("c"),
               custom("off", enabled=False))
    daemon.fire("a")
    daemon.fire("b")
    daemon.post(f"{T}/c/pause")
    daemon.emit("c")
    stats = daemon.get(f"{T}/stats")
    assert (stats["total_triggers"], stats["active_triggers"], stats["paused_triggers"], stats["error_triggers"]) == (4, 2, 1, 0)
    assert (stats["total_events_24h"], stats["successful_events_24h"], stats["failed_events_24h"],
            stats["skipped_events_24h"]) == (2, 1, 1, 1)
    assert stats["triggers_by_type"] == {"custom": 4}


# ---- other resources ----


def test_pipelines_and_runs(daemon: Daemon) -> None:
    answer = daemon.http("POST", "/api/v1/pipelines", {"id": "p", "steps": [script("cat")]})
    assert answer.status == 201 and answer.headers["Location"] == "/api/v1/pipelines/p"
    assert daemon.get("/api/v1/pipelines")["total"] == 1
    started = daemon.http("POST", "/api/v1/pipelines/p/run", {"inputs": {"a": 1}}).ok()
    run = wait_for(lambda: (r := daemon.run(started["id"]))["status"] == "completed" and r)
    assert {"id", "pipeline_id", "event_id", "trigger_id", "status", "inputs", "outputs", "error_message", "steps",
            "attempt", "started_at", "completed_at"} <= run.keys()
    assert run["inputs"] == {"a": 1}
    listed = daemon.get("/api/v1/runs?pipeline_id=p&status=completed")
    assert listed["total"] == 1 and listed["runs"] == [
        {**run, "steps": [{k: v for k, v in step.items() if k != "output"} for step in run["steps"]]}]
    assert daemon.get("/api/v1/runs?pipeline_id=p&status=failed")["total"] == 0
    daemon.http("GET", f"/api/v1/runs/{run['id']}/steps/none/stdout").problem(404)
    daemon.http("POST", "/api/v1/pipelines/none/run", {}).problem(404)
    daemon.http("DELETE", "/api/v1/pipelines/p").ok()
    daemon.http("GET", "/api/v1/pipelines/p").problem(404)


def test_manifests(daemon: Daemon) -> None:
    daemon.write("bad.yaml", "name: 7\n")
    daemon.write("good.yaml", custom("t"))
    wait_for(lambda: daemon.exists("t"))
    listed = daemon.get("/api/v1/manifests")
    assert listed["total"] == 2
    by_name = {m["file"].rsplit("/", 1)[1]: m for m in listed["manifests"]}
    assert by_name["good.yaml"]["errors"] == [] and len(by_name["good.yaml"]["resources"]) == 1
    assert {"line", "column", "path", "message"} <= by_name["bad.yaml"]["errors"][0].keys()


def test_pushed_mcp_events(daemon: Daemon) -> None:
    daemon.put("m.yaml", ECHO, {"kind": "trigger", "id": "t", "name": "t", "pipeline_id": "p", "trigger_type": "mcp_event",
                                "config": {"server_name": "database", "event_type": "row_inserted",
                                           "filter": {"table": "orders"}, "input_mapping": {"order_id": "$.id"}}})
    url = f"{T}/emit/mcp?server_name=database&event_type=row_inserted"
    answer = daemon.post(url, {"table": "orders", "id": 7})
    event = daemon.wait_event(answer["events"][0]["id"], "completed")
    assert event["event_type"] == "mcp_row_inserted" and event["resolved_inputs"]["order_id"] == 7
    assert daemon.post(url, {"table": "users", "id": 7})["triggered_count"] == 0
    assert daemon.post(url.replace("database", "other"), {"table": "orders"})["triggered_count"] == 0


def test_cloudevents(daemon: Daemon) -> None:
    daemon.put("m.yaml", ECHO, custom("t", endpoint="com.example.made"))
    ce = {"specversion": "1.0", "type": "com.example.made", "source": "/s", "id": "1", "data": {"n": 1}}
    url = "/api/v1/cloudevents"
    structured = daemon.http("POST", url, ce, {"Content-Type": "application/cloudevents+json"}).ok()
    assert daemon.wait_event(structured["events"][0]["id"], "completed")["event_data"] == {"n": 1}
    again = daemon.http("POST", url, {"n": 1}, {"ce-specversion": "1.0", "ce-type": "com.example.made", "ce-source": "/s",
                                                "ce-id": "1"}).ok()
    assert again["triggered_count"] == 0, "source and id are its idempotency key"
    batch = [{**ce, "id": "2"}, {**ce, "id": "3"}]
    daemon.http("POST", url, batch, {"Content-Type": "application/cloudevents-batch+json"}).ok()
    daemon.wait_events(3, "t")
    daemon.http("POST", url, {**ce, "type": "no endpoint!"}, {"Content-Type": "application/cloudevents+json"}).problem(422)


def webhook(id: str, **config: Any) -> dict[str, Any]:
    return {"kind": "trigger", "id": id, "name": id, "pipeline_id": "p", "trigger_type": "webhook", "config": config}


def test_webhooks(make_daemon: Any) -> None:
    d: Daemon = make_daemon(env={"HOOK_SECRET": "It's a Secret to Everybody"}).start()
    d.put("m.yaml", ECHO, webhook("plain", path="plain/in"),
          webhook("signed", path="github/push", signature={"scheme": "github", "secret": "${env:HOOK_SECRET}"}))
    answer = d.http("POST", "/hooks/plain/in?a=b", {"x": 1}, {"X-Mine": "v", "Authorization": "Bearer hunter22"})
    assert 200 <= answer.status < 300
    event = d.wait_events(1, "plain")[0]
    data = event["event_data"]
    assert event["event_type"] == "webhook" and data["method"] == "POST" and data["body"] == {"x": 1}
    assert data["query"]["a"] in ("b", ["b"])
    assert {k.lower(): v for k, v in data["headers"].items()}["x-mine"] == "v"
    assert "hunter22" not in json.dumps(event)
    body = b"Hello, World!"
    # The example of GitHub's own documentation.
    mac = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    assert mac == "sha256=" + hmac.new(b"It's a Secret to Everybody", body, hashlib.sha256).hexdigest()
    delivery = {"X-GitHub-Delivery": "1", "Content-Type": "text/plain"}
    good = d.http("POST", "/hooks/github/push", body, {"X-Hub-Signature-256": mac, **delivery})
    assert 200 <= good.status < 300
    d.http("POST", "/hooks/github/push", body, {"X-Hub-Signature-256": mac[:-1] + "0", **delivery}).problem(401)
    d.http("POST", "/hooks/github/push", body, delivery).problem(401)
    d.http("POST", "/hooks/github/push", body, {"X-Hub-Signature-256": mac, **delivery})  # delivered again
    d.settle()
    assert len(d.events("signed")) == 1
    d.http("POST", "/hooks/nowhere", {}).problem(404)
    d.http("DELETE", "/hooks/plain/in").problem(405)


def test_what_a_webhook_gives(daemon: Daemon) -> None:
    daemon.put("m.yaml", ECHO, webhook("t", path="a/b", methods=["POST", "GET"]))
    daemon.put("n.yaml", ECHO, webhook("u", path="a/b", filter={"body": {"n": [1]}}))
    daemon.http("POST", "/hooks/a/b?x=1&x=2&y", b'{"n": 1, "big": 123456789012345678901234567890}').ok()
    events = {e["trigger_id"]: e["event_data"] for e in daemon.wait_events(2)}
    assert events["t"] == events["u"] and events["t"]["query"] == {"x": ["1", "2"], "y": ""}
    assert events["t"]["body"]["big"] == 123456789012345678901234567890
    for body, member, value in ((b"\xff\x00", "body_base64", "/wA="), (b"text", "body", "text"), (b"", "body", None)):
        event = daemon.http("POST", "/hooks/a/b", body).ok()["events"][0]
        assert event["event_data"][member] == value
    assert daemon.http("GET", "/hooks/a/b").ok()["events"][0]["event_data"]["method"] == "GET"
    refused = daemon.http("PUT", "/hooks/a/b", {})
    refused.problem(405)
    assert refused.headers["Allow"] == "GET, POST"
    daemon.http("POST", "/hooks/a/b/c", {}).problem(404)
    daemon.http("POST", "/hooks/", {}).problem(404)


def test_another_attempt_of_a_delivery(daemon: Daemon) -> None:
    """It is told by its id and its body: each attempt has its own time, trace and way here."""
    key = base64.b64encode(b"k" * 24).decode()
    daemon.put("m.yaml", ECHO, webhook("plain", path="p"),
               webhook("signed", path="s", signature={"scheme": "standard-webhooks", "secret": f"whsec_{key}"}))

    def attempt(path: str, body: bytes, seconds_ago: int, **more: str) -> Any:
        at = str(int(time.time()) - seconds_ago)
        mac = hmac.new(b"k" * 24, b"msg_1." + at.encode() + b"." + body, hashlib.sha256).digest()
        return daemon.http("POST", f"/hooks/{path}", body, {
            "webhook-id": "msg_1", "webhook-timestamp": at, "webhook-signature": "v1," + base64.b64encode(mac).decode(),
            "User-Agent": f"sender/{seconds_ago}", **more})

    for path in ("p", "s"):
        (event,) = attempt(path, b'{"a": 1}', 60).ok()["events"]
        again = attempt(path, b'{"a": 1}', 0, **{"X-Request-Id": "2"}).ok()
        assert again["triggered_count"] == 0 and [e["id"] for e in again["events"]] == [event["id"]]
        attempt(path, b'{"a": 2}', 0).problem(422)


def test_a_webhook_whose_secret_is_missing(daemon: Daemon) -> None:
    daemon.put("m.yaml", ECHO, webhook("t", path="p", signature={"scheme": "hmac-sha256", "secret": "${env:NOT_THERE}"}))
    answer = daemon.http("POST", "/hooks/p", {}, {"X-Signature-256": "0" * 64})
    assert "NOT_THERE" in answer.problem(503)["detail"]
    assert daemon.events("t") == []


def test_unsigned_webhooks_stay_on_loopback(make_daemon: Any) -> None:
    d: Daemon = make_daemon()
    port = free_port()
    configure(d, f"{{token_file: {token(d, 'token', 'secret-0123')}}}").args += ["--listen", f"0.0.0.0:{port}"]
    d.start()
    d.port = port
    d.put("m.yaml", ECHO, webhook("t", path="open"),
          webhook("s", path="signed", signature={"scheme": "hmac-sha256", "secret": "s3cr3t-s3cr3t"}))
    d.http("POST", "/hooks/open", {}, tcp=True).problem(403)
    d.http("POST", "/hooks/open", {}).ok()
    mac = hmac.new(b"s3cr3t-s3cr3t", b"{}", hashlib.sha256).hexdigest()
    d.http("POST", "/hooks/signed", b"{}", {"X-Signature-256": mac}, tcp=True).ok()
    d.http("POST", "/hooks/signed", b"{} ", {"X-Signature-256": mac}, tcp=True).problem(401)
    assert "s3cr3t-s3cr3t" not in json.dumps(d.trigger("s")) and mac not in json.dumps(d.events("s"))


def test_a_webhook_is_not_looked_at(daemon: Daemon) -> None:
    """HEAD is a method like others: who asks whether something is there makes nothing happen."""
    daemon.put("m.yaml", ECHO, webhook("t", path="a", methods=["GET"]))
    head = daemon.http("HEAD", "/hooks/a")
    assert head.status == 405 and head.headers["Allow"] == "GET" and not head.body
    assert daemon.events() == []
    assert daemon.http("GET", "/hooks/a").ok()["triggered_count"] == 1


@pytest.mark.parametrize("config,complaint", [
    ({"path": "a//b"}, "config.path"), ({"path": "/a"}, "config.path"), ({"path": "a/../b"}, "config.path"),
    ({"path": "a b"}, "config.path"), ({}, "config.path: required"), ({"path": "a", "methods": []}, "config.methods"),
    ({"path": "a", "methods": ["TRACE"]}, "config.methods"),
    ({"path": "a", "signature": {"scheme": "github", "secret": ""}}, "config.signature.secret"),
    ({"path": "a", "signature": {"scheme": "github"}}, "config.signature.secret: required"),
    ({"path": "a", "signature": {"scheme": "md5", "secret": "x"}}, "config.signature.scheme"),
    ({"path": "a", "signature": {"scheme": "github", "secret": "x", "header": "Y"}}, "config.signature.header"),
    ({"path": "a", "signature": {"scheme": "hmac-sha256", "secret": "x", "header": "Y Z"}}, "config.signature.header"),
])
def test_webhooks_that_are_wrong(daemon: Daemon, config: dict[str, Any], complaint: str) -> None:
    problem = daemon.http("POST", T, {"name": "w", "pipeline_id": "p", "trigger_type": "webhook", "config": config}).problem(422)
    assert any(f"{e['path']}: {e['message']}".startswith(complaint) for e in problem["errors"]), problem


def test_cloudevents_that_are_wrong(daemon: Daemon) -> None:
    daemon.put("m.yaml", ECHO, custom("t", endpoint="made"))
    good = {"specversion": "1.0", "type": "made", "source": "/s", "id": "1"}
    url, one, many = "/api/v1/cloudevents", {"Content-Type": "application/cloudevents+json"}, {
        "Content-Type": "application/cloudevents-batch+json; charset=utf-8"}
    for name in good:
        problem = daemon.http("POST", url, {k: v for k, v in good.items() if k != name}, one).problem(422)
        assert [e["path"] for e in problem["errors"]] == [name]
    for bytes in ("!", "AA=", 7):
        problem = daemon.http("POST", url, {**good, "data_base64": bytes}, one).problem(422)
        assert [e["path"] for e in problem["errors"]] == ["data_base64"]
    daemon.http("POST", url, {**good, "specversion": "0.3"}, one).problem(422)
    daemon.http("POST", url, {**good, "data": 1, "data_base64": "AA=="}, one).problem(422)
    assert daemon.http("POST", url, [good, {**good, "id": ""}], many).problem(422)["errors"][0]["path"] == "[1].id"
    daemon.http("POST", url, [good], one).problem(422)
    daemon.http("POST", url, good, many).problem(422)
    daemon.http("POST", url, b"{", one).problem(400)
    daemon.http("POST", url, good).problem(415)
    assert daemon.events() == []
    assert daemon.http("POST", url, [], many).ok() == {"triggered_count": 0, "events": []}
    headers = {"ce-specversion": "1.0", "ce-type": "made", "ce-source": "/%C3%A4", "ce-id": "7", "Content-Type": "text/plain"}
    event = daemon.http("POST", url, b"hello", headers).ok()["events"][0]
    assert event["event_data"] == "hello" and event["event_type"] == "custom_made"
    bytes = daemon.http("POST", url, b"\0\xff", {**headers, "ce-id": "8", "Content-Type": "application/octet-stream"}).ok()
    assert bytes["events"][0]["event_data"] == {"data_base64": "AP8="}, "as the structured form of it gives"
    unversioned = {k: v for k, v in headers.items() if k != "ce-specversion"}
    assert daemon.http("POST", url, b"", unversioned).problem(422)["errors"][0]["path"] == "specversion"
    both = daemon.http("POST", url, [good, {**good, "id": "2", "data_base64": "AAE="}], many).ok()
    assert both["triggered_count"] == 2 and [e["event_data"] for e in both["events"]] == [{}, {"data_base64": "AAE="}]
    long = daemon.http("POST", url, [{**good, "id": f"n{n}", "data": n} for n in range(50)], many).ok()
    assert [e["event_data"] for e in long["events"]] == list(range(50)), "in the order of the batch"


def test_a_stream_of_events(daemon: Daemon) -> None:
    daemon.put("m.yaml", ECHO, custom("t"))

    def listen(last: str | None = None) -> http.client.HTTPResponse:
        connection = UnixConnection(daemon.socket, 10)
        connection.request("GET", "/api/v1/events/stream", headers={"Last-Event-ID": last} if last else {})
        answer = connection.getresponse()
        assert answer.headers.get_content_type() == "text/event-stream"
        return answer

    def messages(answer: http.client.HTTPResponse, event: str, status: str) -> list[tuple[str, dict[str, Any]]]:
        got, id, data = [], "", ""
        while True:
            line = answer.readline().decode().rstrip("\n")
            if line.startswith("id:"):
                id = line[3:].strip()
            elif line.startswith("data:"):
                data += line[5:]
            elif not line and data:
                got.append((id, json.loads(data)))
                data = ""
                if (got[-1][1]["id"], got[-1][1]["status"]) == (event, status):
                    return got

    stream = listen()
    first = daemon.emit1("t", {"n": 1})["id"]
    seen = messages(stream, first, "completed")
    statuses = [e["status"] for _, e in seen]
    assert statuses[-2:] == ["executing", "completed"] and len({i for i, _ in seen}) == len(seen)
    stream.close()
    second = daemon.emit1("t", {"n": 2})["id"]
    daemon.wait_event(second, "completed")
    resumed = messages(listen(last=seen[-1][0]), second, "completed")
    assert {e["id"] for _, e in resumed} == {second}, "what came after, and nothing of before"


# ---- errors ----


@pytest.mark.parametrize("body, status", [
    ("{", 400), ("", 400), ('{"a": 1} x', 400), ('{"a": 01}', 400), ('{"a": 1, "a": 2}', 400), ('{"a": "\\u0000"}', 400),
    (b'{"a": "\xff"}', 400), ("[" * 200 + "]" * 200, 400), ("[]", 422), ("{}", 422), ('{"endpoint": "a b"}', 422),
    ('{"endpoint": 7}', 422), ('{"endpoint": "e", "date": {}}', 422)])
def test_bad_bodies(daemon: Daemon, body: str | bytes, status: int) -> None:
    problem = daemon.http("POST", f"{T}/emit", body).problem(status)
    assert problem["errors"] and {"path", "message"} <= problem["errors"][0].keys()


def test_bad_triggers(daemon: Daemon) -> None:
    problem = daemon.http("POST", T, {**SEED, "max_concurrent": 0, "config": {"endpoint": "e", "filtre": {}}}).problem(422)
    paths = {e["path"] for e in problem["errors"]}
    assert "max_concurrent" in paths and any("filtre" in e["path"] + e["message"] for e in problem["errors"])
    assert any("filter" in e["message"] for e in problem["errors"]), "the nearest key"
    assert list(daemon.manifests.iterdir()) == []


@pytest.mark.parametrize("length", range(190, 206))
def test_long_names_are_cut_between_characters(daemon: Daemon, length: int) -> None:
    """What is told of them is UTF-8 all the same."""
    for name in ("x" + "☃" * length, "x" * length + "☃☃"):
        problem = daemon.http("POST", T, {**SEED, "config": {"endpoint": "e", name: {name: 1}}, name: 1}).problem(422)
        assert any(e["path"].startswith("config.x") for e in problem["errors"])
    daemon.http("POST", "/api/v1/pipelines", {"id": "p", "inputs": {"type": "☃" * length}, "steps": [
        script("cat"), {"id": "h", "http": {"url": "☃" * length, "headers": {"a": "x{{ " + "☃" * length + " [ }}"}}}]}).problem(422)


@pytest.mark.parametrize("method, path, status", [
    ("GET", "/nowhere", 404), ("GET", "/api/v1/nowhere", 404), ("GET", f"{T}/none", 404), ("PUT", T, 405),
    ("DELETE", "/healthz", 405), ("GET", f"{T}/emit", 405), ("GET", f"{T}/events/evt_00000000000000000000000000", 404),
    ("GET", "/api/v1/runs/run_x", 404), ("POST", f"{T}/none/pause", 404), ("POST", f"{T}/none/test", 404),
    ("PATCH", f"{T}/none", 405), ("GET", f"{T}/events?status=odd", 400), ("GET", f"{T}/events?since=noon", 400),
    ("GET", "/api/v1/../../etc/passwd", 404), ("GET", "/%00", 404), ("GET", f"{T}/%2e%2e%2fx", 404)])
def test_errors(daemon: Daemon, method: str, path: str, status: int) -> None:
    answer = daemon.http(method, path, {} if method in ("POST", "PUT", "PATCH") else None)
    if status == 404 and answer.status == 400:
        return  # as bad a path may be called a bad request
    answer.problem(status)
    if status == 405:
        allowed = answer.headers["Allow"].split(", ")
        assert method not in allowed and ("GET" in allowed) == ("HEAD" in allowed)
        assert (daemon.http("HEAD", path).status != 405) == ("HEAD" in allowed)


@pytest.mark.parametrize("path", [T, f"{T}/emit", "/api/v1/pipelines", "/api/v1/pipelines/p/run",
                                  "/api/v1/pipelines/p/completed", "/api/v1/events/replay", "/api/v1/manifests"])
def test_a_body_that_is_no_object(daemon: Daemon, path: str) -> None:
    for body in ("null", "[null, null]", '"x"', "1", "true", "[{}]"):
        daemon.http("POST", path, body).problem(422)


def test_media_types(daemon: Daemon) -> None:
    body = {"endpoint": "e", "data": {}}
    daemon.http("POST", f"{T}/emit", body, {"Content-Type": "text/plain"}).problem(415)
    daemon.http("POST", f"{T}/emit", body, {"Content-Type": "application/x-www-form-urlencoded"}).problem(415)
    daemon.http("POST", f"{T}/emit", body, {"Content-Type": "application/json; charset=utf-8"}).ok()


def test_large_bodies(daemon: Daemon) -> None:
    daemon.put("m.yaml", ECHO, custom("e"))
    daemon.http("POST", f"{T}/emit", {"endpoint": "e", "data": "x" * (1 << 20)}).problem(413)
    event = daemon.emit1("e", "x" * 900000)
    assert len(daemon.wait_event(event["id"])["event_data"]) == 900000
    # One that announces too much is refused before it is sent.
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(30)
        s.connect(str(daemon.socket))
        s.sendall(b"POST /api/v1/triggers/emit HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                  b"Content-Length: 99999999999\r\n\r\n")
        assert b" 413 " in s.recv(4096)


def test_raw_requests(daemon: Daemon) -> None:
    """Broken, slow and pipelined clients harm nobody."""
    def talk(*parts: bytes) -> bytes:
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(20)
            s.connect(str(daemon.socket))
            for part in parts:
                s.sendall(part)
                time.sleep(0.05)
            s.shutdown(socket.SHUT_WR)
            got = b""
            try:
                while chunk := s.recv(65536):
                    got += chunk
            except OSError:
                pass
            return got

    get = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    assert talk(get[:7], get[7:20], get[20:]).startswith(b"HTTP/1.1 200")
    assert talk(get * 3).count(b"HTTP/1.1 200") == 3
    assert b" 200 " not in talk(b"\x16\x03\x01\x02\x00\x01\x00")
    # The library's own words are ours too: one head, and a problem that says the same status.
    for status, request in ((414, b"GET /" + b"a" * 20000), (431, b"GET / HTTP/1.1\r\nX-Long: " + b"a" * 20000),
                            (400, b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n"),
                            (413, b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n"),
                            (400, b"POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n\r\n"),
                            (400, b"GET /x HTTP/1.1\r\nno colon\r\n\r\n"), (505, b"GET /x HTTP/7.1\r\nHost: x\r\n\r\n")):
        head, _, answer = talk(request).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 %d " % status) and b"application/problem+json" in head, head
        assert json.loads(answer)["status"] == status
    body = b'{"endpoint": "e", "data": {}}'
    chunked = (b"POST /api/v1/triggers/emit HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
               b"Transfer-Encoding: chunked\r\n\r\n" + b"".join(b"1\r\n%c\r\n" % c for c in body) + b"0\r\n\r\n")
    assert b" 200 " in talk(chunked)
    idle = [socket.socket(socket.AF_UNIX) for _ in range(100)]
    try:
        for s in idle:
            s.connect(str(daemon.socket))
            s.sendall(b"GET /he")
        assert daemon.http("GET", "/healthz").status == 200
    finally:
        for s in idle:
            s.close()


FORGED = b"GET /api/v1/status HTTP/1.1\r\nHost: x\r\n\r\n"  # what a smuggler would have answered
POST = b"POST /api/v1/triggers/emit HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


@pytest.mark.parametrize("request_text", [
    POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n", POST + b"Content-Length: 5, 6\r\n\r\n",
    POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", POST + b"Content-Length: +5\r\n\r\n",
    POST + b"Content-Length: 0x5\r\n\r\n", POST + b"Content-Length:\r\n\r\n",
    POST + b"Transfer-Encoding: chunked\r\n\r\n5;x\r\n{\"e\":1\r\n0\r\n\r\n",
    POST + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n", POST + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
    POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\nxx0\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-A: b\r\n folded\r\n\r\n", b"GET /healthz HTTP/1.1\r\nHost: x\r\n Host: y\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nHost:\r\n\tx\r\n\r\n", b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-A: b\r\n \r\nX-B: c\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", b"GET /healthz HTTP/1.1\r\n\r\n",
    b"GET /healthz extra HTTP/1.1\r\nHost: x\r\n\r\n"])
def test_no_smuggling(daemon: Daemon, request_text: bytes) -> None:
    """A request whose end two readers could see at different places is refused, and nothing after it is read."""
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(30)
        s.connect(str(daemon.socket))
        s.sendall(request_text + FORGED)
        s.shutdown(socket.SHUT_WR)
        got = b""
        with contextlib.suppress(ConnectionError):
            while chunk := s.recv(65536):
                got += chunk
    assert got.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 413 ")), got[:300]
    assert len(re.findall(rb"HTTP/1\.1 \d", got)) == 1 and b"state_dir" not in got, got
    assert daemon.http("GET", "/healthz").status == 200


def test_headers_of_every_form(daemon: Daemon) -> None:
    """No value, many blanks, tabs, many of one name: all of one line is taken."""
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(30)
        s.connect(str(daemon.socket))
        s.sendall(b"GET /healthz HTTP/1.1\r\nHost:x\r\nX-A:\r\nX-B: \t  b  \t\r\nX-C: \r\nX-A: 2\r\nX-D: a b, \tc\r\n\r\n")
        assert s.recv(4096).startswith(b"HTTP/1.1 200 ")


def test_many_clients_at_once(daemon: Daemon) -> None:
    connections = [UnixConnection(daemon.socket, 20) for _ in range(200)]
    for c in connections:
        c.request("GET", "/healthz")
    assert {c.getresponse().status for c in connections} == {200}
    for c in connections:
        c.close()


# ---- over TCP: who may ask ----


def test_browsers(make_daemon: Any) -> None:
    d: Daemon = make_daemon(listen=True).start()
    own = f"127.0.0.1:{d.port}"
    body = {"endpoint": "e", "data": {}}

    def ask(**headers: str) -> int:
        return d.http("POST", f"{T}/emit", body, headers, tcp=True).status

    assert ask() == 200
    assert ask(Origin=f"http://{own}") == 200 and ask(Host=f"localhost:{d.port}") == 200
    assert ask(Origin="https://evil.example") == 403
    assert ask(Origin="null") == 403
    assert ask(Host="evil.example") in (400, 403, 421), "a name that was made to point here"
    assert d.http("GET", T, headers={"Host": "evil.example"}, tcp=True).status in (400, 403, 421)
    assert d.http("POST", f"{T}/emit", body, {"Host": "any"}).status == 200, "the unix socket takes any"


def test_other_addresses_need_a_token(make_daemon: Any) -> None:
    d: Daemon = make_daemon()
    d.args += ["--listen", "0.0.0.0:0"]
    d.spawn()
    assert d.wait() != 0
    assert "token" in d.output()


def test_tokens(make_daemon: Any) -> None:
    d: Daemon = make_daemon(listen=True)
    lines = []
    for scope in ("read", "emit", "admin"):
        file = d.root / scope
        file.write_text(f"{scope}-token-0123456789\n")
        file.chmod(0o600)
        lines.append(f"{{name: {scope}, file: {file}, scopes: [{scope}]}}")
    (d.root / "triggerd.yaml").write_text(f"api: {{tokens: [{', '.join(lines)}]}}\n")
    d.args += ["--config", str(d.root / "triggerd.yaml")]
    d.start()
    requests = {"read": ("GET", T, None), "emit": ("POST", f"{T}/emit", {"endpoint": "e", "data": {}}),
                "admin": ("POST", T, SEED)}
    for scope in requests:
        for wanted, (method, path, body) in requests.items():
            status = d.http(method, path, body, {"Authorization": f"Bearer {scope}-token-0123456789"}, tcp=True).status
            assert (status < 300 or status == 409) == (scope == wanted or scope == "admin"), (scope, wanted, status)
            assert status != 401
    url = {"TRIGGERD_SOCKET": f"http://127.0.0.1:{d.port}", "TRIGGERD_TOKEN": "emit-token-0123456789"}
    done = d.ctl("emit", "f", env=url)
    assert (done.returncode, done.stderr) == (
        0, 'nothing fired: nobody listens at "f", or filters turned it away\n'), "it may not look who listens"
    for authorization in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic " + base64.b64encode(
            b"a:admin-token-0123456789").decode()}):
        answer = d.http("GET", T, headers=authorization, tcp=True)
        answer.problem(401)
        assert "Bearer" in answer.headers["WWW-Authenticate"]


def configure(d: Daemon, api: str) -> Daemon:
    (d.root / "triggerd.yaml").write_text(f"api: {api}\n")
    d.args += ["--config", str(d.root / "triggerd.yaml")]
    return d


def test_the_longest_body_is_a_setting(make_daemon: Any) -> None:
    for most in (1024, 4194304):
        d: Daemon = configure(make_daemon(str(most)), f"{{max_body_bytes: {most}}}").start()
        d.put("m.yaml", pipeline("p", script("cat > /dev/null")), custom("e"))
        text = "x" * (most - len(json.dumps({"endpoint": "e", "data": ""})))
        d.http("POST", f"{T}/emit", {"endpoint": "e", "data": text + "x"}).problem(413)
        event = d.http("POST", f"{T}/emit", {"endpoint": "e", "data": text}).ok()["events"][0]
        event = d.wait_event(event["id"])
        assert event["event_data"] == text and event["status"] == "completed"


def token(d: Daemon, name: str, text: str) -> str:
    file = d.root / name
    file.write_text(text)
    return str(file)


@pytest.mark.parametrize("text", ["", "\n", "x" * 5000])
def test_a_token_that_is_none(make_daemon: Any, text: str) -> None:
    d: Daemon = make_daemon()
    configure(d, f"{{token_file: {token(d, 'token', text)}}}")
    d.spawn()
    assert d.wait() == 1
    assert "expected a token of 1 to 4096 bytes" in d.output()


def test_tokens_that_are_the_same(make_daemon: Any) -> None:
    d: Daemon = make_daemon()
    a, b = token(d, "a", "same"), token(d, "b", "same\n")
    configure(d, f"{{tokens: [{{name: a, file: {a}, scopes: [read]}}, {{name: b, file: {b}, scopes: [admin]}}]}}")
    d.spawn()
    assert d.wait() == 1
    assert 'tokens "a" and "b" are the same' in d.output()


@pytest.mark.parametrize("api,complaint", [
    ("{tokens: [{name: a, scopes: [read]}]}", "api.tokens[0].file"),
    ("{tokens: [{name: a, file: /f, scopes: [write]}]}", "admin"),
    ("{tokens: {name: a}}", "a list of objects"),
    ("{tokens: [a]}", "api.tokens[0]: expected an object"),
    ("{token: a}", "tokens"),
    ("{max_body_bytes: 1023}", "api.max_body_bytes: expected an integer"),
    ("{manifest_dir: /elsewhere}", "api.manifest_dir: expected one of the manifest directories"),
])
def test_settings_of_the_api(make_daemon: Any, api: str, complaint: str) -> None:
    d = configure(make_daemon(), api)
    d.spawn()
    assert d.wait() == 1
    assert complaint in d.output()


def test_a_token_file_is_read_again_at_sighup(make_daemon: Any) -> None:
    d: Daemon = make_daemon(listen=True)
    configure(d, f"{{token_file: {token(d, 'token', 'first')}}}").start()

    def ask(text: str) -> int:
        return d.http("GET", T, headers={"Authorization": f"bearer {text}"}, tcp=True).status

    assert (ask("first"), ask("second")) == (200, 401)
    assert d.http("GET", "/healthz", tcp=True).status == 200, "health needs no token"
    assert d.http("GET", "/metrics", tcp=True).status == 401
    assert d.http("GET", "/nothing", tcp=True).status == 401, "who may not look is not told what there is"
    assert d.http("GET", T).status == 200, "the unix socket needs none"
    token(d, "token", "second\n")
    d.signal(signal.SIGHUP)
    wait_for(lambda: ask("second") == 200)
    assert ask("first") == 401
    token(d, "token", "")
    d.signal(signal.SIGHUP)
    wait_for(lambda: "the tokens of before stay" in d.output())
    assert ask("second") == 200


def test_names_of_a_proxy(make_daemon: Any) -> None:
    d: Daemon = make_daemon(listen=True)
    configure(d, "{hosts: [Triggers.example.org]}").start()

    def ask(**headers: str) -> int:
        return d.http("GET", T, headers=headers, tcp=True).status

    assert ask(Host="triggers.example.org") == ask(Host="TRIGGERS.example.org:443") == 200
    assert ask(Origin="https://triggers.example.org") == 200
    assert ask(Host="triggers.example.org.evil.example") == ask(Host="triggers.example.org@evil.example") == 403
    assert ask(Origin="https://triggers.example.org.evil.example") == ask(Origin="file://triggers.example.org") == 403
    assert ask(Host="[::1]") == ask(Host="127.9.9.9:80") == 200
    assert ask(Host="10.0.0.1") == ask(Host="[fe80::1]") == ask(Host="[::1") == ask(Host="") == 403


def test_every_address_with_a_token(make_daemon: Any) -> None:
    d: Daemon = make_daemon()
    port = free_port()
    configure(d, f"{{token_file: {token(d, 'token', 'secret-0123')}}}").args += ["--listen", f"0.0.0.0:{port}"]
    d.start()
    d.port = port
    assert "tokens travel in the clear" in d.output()
    given = {"Authorization": "Bearer secret-0123"}
    assert d.http("GET", T, headers={"Host": "192.0.2.7", **given}, tcp=True).status == 200, "one of its addresses"
    assert d.http("GET", T, headers={"Host": "evil.example", **given}, tcp=True).status == 403
    assert d.http("GET", T, headers={"Host": "192.0.2.7"}, tcp=True).status == 401


def test_where_created_triggers_go(make_daemon: Any) -> None:
    d: Daemon = make_daemon()
    (d.manifests / "api").mkdir()
    configure(d, f"{{manifest_dir: {d.manifests}/api}}").start()
    create(d)
    assert [p.name for p in (d.manifests / "api").iterdir()] == ["my-trigger.yaml"]


# ---- what is beside ----


def test_health(daemon: Daemon) -> None:
    assert daemon.http("GET", "/healthz").status == daemon.http("GET", "/readyz").status == 200


def test_metrics(daemon: Daemon) -> None:
    daemon.put("m.yaml", ECHO, custom("t"))
    daemon.fire("t")
    answer = daemon.http("GET", "/metrics")
    assert answer.headers.get_content_type() == "text/plain"
    text = answer.body.decode()
    assert daemon.metric("triggerd_decisions_total", trigger="t", decision="fired") == 1
    assert daemon.metric("triggerd_runs_total", pipeline="p", status="completed") == 1
    for name in ("triggerd_event_to_start_seconds", "triggerd_run_seconds", "triggerd_store_commit_seconds"):
        assert f"# TYPE {name} histogram" in text and daemon.metric(f"{name}_count") >= 1
        assert re.search(rf'{name}_bucket{{[^}}]*le="\+Inf"', text)
    assert daemon.metric("triggerd_manifest_errors") == 0
    (daemon.manifests / "bad.yaml").write_text("x: 1\n")
    wait_for(lambda: daemon.metric("triggerd_manifest_errors") == len(daemon.errors()) > 0)
    for name in ("triggerd_queue_depth", "process_resident_memory_bytes", "process_open_fds"):
        assert f"# TYPE {name} gauge" in text
    assert text.endswith("\n")
    names = re.findall(r"^# TYPE (\S+)", text, re.MULTILINE)
    assert len(names) == len(set(names)) and set(names) == set(re.findall(r"^# HELP (\S+)", text, re.MULTILINE))


@pytest.mark.skipif(openapi.jsonschema is None, reason="no jsonschema: see tests/install-deps.sh")
def test_openapi(daemon: Daemon) -> None:
    api = daemon.get("/openapi.json")
    assert api["openapi"].startswith("3.1")
    paths = {re.sub(r"\{[^}]+\}", "{}", p) for p in api["paths"]}
    assert {T, f"{T}/{{}}", f"{T}/emit", f"{T}/events", f"{T}/{{}}/events", f"{T}/stats", "/api/v1/runs/{}", "/healthz",
            "/api/v1/pipelines/{}/run", "/metrics"} <= paths

    def references(node: Any) -> list[str]:
        if isinstance(node, dict):
            return [node[k] for k in node if k == "$ref"] + [r for v in node.values() for r in references(v)]
        return [r for v in node for r in references(v)] if isinstance(node, list) else []

    for reference in set(references(api)):
        target = api
        for part in reference.removeprefix("#/").split("/"):
            target = target[part]

    def keywords(node: Any, schema: bool) -> set[str]:
        """Of all schemas; names of members are none."""
        if isinstance(node, list):
            return {k for v in node for k in keywords(v, schema)}
        if not isinstance(node, dict):
            return set()
        found = set(node) if schema else set()
        for key, value in node.items():
            if key == "schemas" or (schema and key == "properties"):
                found |= {k for v in value.values() for k in keywords(v, True)}
            elif key not in ("default", "example", "enum"):
                found |= keywords(value, schema or key == "schema")
        return found

    assert keywords(api, False) <= {"type", "format", "description", "properties", "required", "additionalProperties",
                                    "items", "enum", "anyOf", "allOf", "$ref", "minimum", "maximum", "minLength",
                                    "maxLength", "minItems", "maxItems", "minProperties", "maxProperties", "pattern",
                                    "default"}, "what 3.0 can say too"
    types = re.findall(r'"type":\s*(\[|"null")', json.dumps(api))
    assert not types, "3.0 has no lists of types, and no type null"
    for schema in api["components"]["schemas"].values():
        openapi.jsonschema.Draft202012Validator.check_schema(schema)


@pytest.mark.skipif(openapi.jsonschema is None, reason="no jsonschema: see tests/install-deps.sh")
def test_the_description_catches_a_lie(daemon: Daemon) -> None:
    told = openapi.Description(daemon.get("/openapi.json"))
    answer = daemon.http("GET", "/api/v1/status")
    told.check("GET", "/api/v1/status", 200, answer.headers, answer.body)
    shown = answer.json()
    for lie in ({**shown, "pid": "1"}, {**shown, "more": 1}, {k: v for k, v in shown.items() if k != "ready"}):
        with pytest.raises(AssertionError):
            told.check("GET", "/api/v1/status", 200, answer.headers, json.dumps(lie).encode())
    for method, path, status in (("GET", "/api/v1/status", 409), ("GET", "/api/v1/nothing", 200),
                                 ("DELETE", "/api/v1/status", 200)):
        with pytest.raises(AssertionError):
            told.check(method, path, status, answer.headers, answer.body)


def test_trace_context(daemon: Daemon) -> None:
    daemon.put("m.yaml", pipeline("p", script('echo "\\"$TRACEPARENT\\""')), custom("t"))
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    event = daemon.emit1("t", {}, traceparent=f"00-{trace}-00f067aa0ba902b7-01")
    assert trace in daemon.run_of(event)["outputs"]["out"]
    made = daemon.run_of(daemon.emit1("t"))["outputs"]["out"]
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", made) and trace not in made


TRACE = "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7"


@pytest.mark.parametrize("given,taken", [
    (f"00-{TRACE}-01", True), (f"cc-{TRACE}-00-and-more", True), (f"cc-{TRACE}-00", True), (f"ff-{TRACE}-01", False),
    (f"00-{TRACE}-01-more", False), (f"cc-{TRACE}-01more", False), (f"00-{TRACE.upper()}-01", False),
    (f"00-{'0' * 32}-00f067aa0ba902b7-01", False), (f"00-{TRACE[:33]}{'0' * 16}-01", False), (f"00-{TRACE}", False),
    (f"00_{TRACE}-01", False), ("", False), (f"00-{TRACE}-01\r\nX-Evil: 1", False),
])
def test_what_is_a_trace(daemon: Daemon, given: str, taken: bool) -> None:
    """Whatever way it comes in; what is none is as if it were not there."""
    daemon.put("m.yaml", pipeline("p", script('echo "\\"$TRACEPARENT\\""')), custom("t", max_concurrent=9),
               {"name": "a", "id": "a", "pipeline_id": "p", "trigger_type": "pipeline_completed", "max_concurrent": 9,
                "config": {"source_pipeline_id": "else"}})
    event = {"specversion": "1.0", "type": "t", "source": "/", "id": "1", "traceparent": given}
    answers = [daemon.http("POST", "/api/v1/cloudevents", event, {"Content-Type": "application/cloudevents+json"})]
    if "\n" not in given:
        headers = {"traceparent": given}
        answers += [daemon.http("POST", f"{T}/emit", {"endpoint": "t"}, headers), daemon.http("POST", f"{T}/t/test", {}, headers),
                    daemon.http("POST", "/api/v1/pipelines/else/completed", {"run_id": "1", "status": "success"}, headers)]
    made = [e for a in answers for e in a.ok().get("events", [a.json()])]
    assert len(made) == len(answers)
    for e in made:
        shown = daemon.run_of(e)["outputs"]["out"]
        assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", shown) and (shown[3:52] == TRACE) == taken


def test_a_slow_reader_stops_nobody(daemon: Daemon) -> None:
    daemon.put("m.yaml", ECHO, custom("t", max_concurrent=10))
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(str(daemon.socket))
        s.sendall(b"GET /api/v1/events/stream HTTP/1.1\r\nHost: x\r\n\r\n")
        for _ in range(200):  # some MiB that nobody reads
            daemon.emit1("t", "x" * 20000)
        assert all(e["status"] == "completed" for e in daemon.settle(timeout=120))
    never(lambda: daemon.http("GET", "/healthz").status != 200, 0.2)
