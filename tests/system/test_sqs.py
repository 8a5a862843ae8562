"""message_queue and publish with what speaks as SQS does (moto): requests of its JSON protocol, signed; visibility,
redrive, and whatever fails in between."""
from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from brokers import Proxy, Sqs, serve
from harness import ECHO, Daemon, Gate, never, pipeline, script, wait_for
from sqs_faults import through_faults

SECRET = "s3cr/et+key=of9"


@pytest.fixture
def sqs(tmp_path: Path) -> Iterator[Sqs]:
    with serve(Sqs, tmp_path / "sqs") as server:
        yield server


def queue(id: str, endpoint: str, name: str = "jobs", **config: Any) -> dict[str, Any]:
    trigger = {k: config.pop(k) for k in ("max_concurrent", "enabled") if k in config}
    return {"kind": "trigger", "id": id, "name": id, "pipeline_id": "p", "trigger_type": "message_queue",
            "config": {"queue_type": "sqs", "connection_url": f"sqs://AKIATEST:{SECRET}@{Sqs.region}",
                       "endpoint_url": endpoint, "queue_name": name, **config}, **trigger}


def connected(d: Daemon, id: str = "t") -> bool:
    return d.condition(id, "Connected").get("status") == "True"


def start(d: Daemon, *docs: dict[str, Any]) -> None:
    d.put("m.yaml", *docs)
    wait_for(lambda: connected(d), what="connected")


def failed(d: Daemon, reason: str) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        c = d.condition("t", "Connected")
        return c if c.get("status") == "False" and c["reason"] == reason else None

    found: dict[str, Any] = wait_for(look, what=reason)
    return found


def test_messages(daemon: Daemon, sqs: Sqs) -> None:
    url = sqs.queue("jobs", VisibilityTimeout="2")
    start(daemon, ECHO, queue("t", sqs.url))
    id = sqs.send(url, '{"n": 12345678901234567890}',
                  MessageAttributes={"kind": {"DataType": "String", "StringValue": "é"}})
    sqs.send(url, "no json")
    events = daemon.wait_events(2, "t")
    data = next(e["event_data"] for e in events if isinstance(e["event_data"]["body"], dict))
    assert events[0]["event_type"] == "message_sqs"
    assert data.pop("timestamp").endswith("Z")
    assert data == {"body": {"n": 12345678901234567890}, "queue": "jobs", "headers": {"kind": "é"}, "message_id": id}
    wait_for(lambda: sqs.count(url) == (0, 0), what="deleted")


def test_many_come_once_each(daemon: Daemon, sqs: Sqs) -> None:
    url = sqs.queue("jobs", VisibilityTimeout="2")
    for i in range(12):
        sqs.call("SendMessageBatch", QueueUrl=url,
                 Entries=[{"Id": f"m{k}", "MessageBody": str(i * 10 + k)} for k in range(10)])
    start(daemon, ECHO, queue("t", sqs.url, prefetch=25, max_concurrent=20))
    events = daemon.wait_events(120, "t")
    assert sorted(e["event_data"]["body"] for e in events) == list(range(120))
    wait_for(lambda: sqs.count(url) == (0, 0), what="deleted")


def test_a_run_keeps_its_message(daemon: Daemon, sqs: Sqs, tmp_path: Path) -> None:
    """Hidden while the run lasts, longer than its visibility time-out; at most prefetch are taken; deleted at the end."""
    url, gate = sqs.queue("jobs"), Gate(tmp_path)
    for i in range(4):
        sqs.send(url, str(i))
    start(daemon, pipeline("p", gate.step()), queue("t", sqs.url, ack_mode="manual", prefetch=2, max_concurrent=2,
                                                    visibility_timeout_seconds=3))
    daemon.wait_events(2, "t", status="executing")
    begun = time.monotonic()
    while time.monotonic() - begun < 7:  # two time-outs
        assert sqs.count(url) == (2, 2)
        time.sleep(0.1)
    gate.open()
    daemon.wait_events(4, "t", status="completed")
    wait_for(lambda: sqs.count(url) == (0, 0), what="deleted")
    assert daemon.trigger("t")["trigger_count"] == 4


def test_dead_letters_are_left_to_the_redrive_policy(daemon: Daemon, sqs: Sqs) -> None:
    dead = sqs.queue("dead")
    arn = sqs.call("GetQueueAttributes", QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    url = sqs.queue("jobs", RedrivePolicy=f'{{"deadLetterTargetArn": "{arn}", "maxReceiveCount": 2}}')
    start(daemon, pipeline("p", script("exit 3")), queue("t", sqs.url, ack_mode="manual", on_failure="dead_letter"))
    sqs.send(url, "x \N{SNOWMAN}")
    wait_for(lambda: sqs.count(dead)[0] == 1, what="redriven")
    got = sqs.call("ReceiveMessage", QueueUrl=dead)["Messages"][0]
    assert got["Body"] == "x \N{SNOWMAN}"
    daemon.wait_events(2, "t", status="failed")


def test_poison_is_deleted_where_there_is_no_redrive_policy(daemon: Daemon, sqs: Sqs) -> None:
    url = sqs.queue("jobs")
    start(daemon, pipeline("p", script("exit 3")), queue("t", sqs.url, ack_mode="manual", max_deliveries=3))
    sqs.send(url, "x")
    events = daemon.wait_events(3, "t", status="failed")
    assert {e["event_data"]["body"] for e in events} == {"x"}
    wait_for(lambda: sqs.count(url) == (0, 0), what="deleted")


def test_publish(daemon: Daemon, sqs: Sqs) -> None:
    def publish(id: str, name: str, **more: Any) -> dict[str, Any]:
        return {"id": id, "publish": {"queue_type": "sqs", "connection_url": f"sqs://AKIATEST:{SECRET}@{Sqs.region}",
                                      "endpoint_url": sqs.url, "queue_name": name, "body": {"n": "{{ $.inputs.n }}"}, **more}}

    url, fifo = sqs.queue("jobs"), sqs.queue("line.fifo", FifoQueue="true")
    daemon.put("p.yaml", pipeline("p", publish("a", "jobs", headers={"kind": "k{{ $.inputs.n }}"}),
                                  publish("b", "line.fifo", key="g", message_id="once"),
                                  {**publish("c", "line.fifo", key="g", message_id="once"), "needs": ["b"]}),
               pipeline("q", publish("a", "nowhere")))
    run = daemon.post("/api/v1/pipelines/p/run", {"inputs": {"n": 1}})
    assert wait_for(lambda: (r := daemon.run(run["id"]))["status"] not in ("pending", "running") and r)["status"] == "completed"
    got = sqs.call("ReceiveMessage", QueueUrl=url, MessageAttributeNames=["All"])["Messages"][0]
    assert got["Body"] == '{"n":1}' and got["MessageAttributes"]["kind"]["StringValue"] == "k1"
    assert got["MessageAttributes"]["traceparent"]["StringValue"].startswith("00-")
    assert sum(sqs.count(fifo)) == 1  # the same id is the same message
    run = daemon.post("/api/v1/pipelines/q/run", {"inputs": {"n": 1}})
    ended = wait_for(lambda: (r := daemon.run(run["id"]))["status"] == "failed" and r)
    assert "nowhere" in ended["error_message"] and "QueueDoesNotExist" in ended["error_message"]
    sqs.kill()
    begun = time.monotonic()
    run = daemon.post("/api/v1/pipelines/p/run", {"inputs": {"n": 1}})
    wait_for(lambda: daemon.run(run["id"])["status"] == "failed")
    assert time.monotonic() - begun < 10


def test_failures_show_and_pass(daemon: Daemon, sqs: Sqs) -> None:
    """A queue that is not there, a service that is gone, one that says nothing: each a reason, and back by itself."""
    daemon.put("m.yaml", ECHO, queue("t", sqs.url))
    assert "jobs" in failed(daemon, "QueueNotFound")["message"]
    assert daemon.trigger("t")["status"] == "error"
    url = sqs.queue("jobs")
    wait_for(lambda: connected(daemon), what="connected")
    assert daemon.trigger("t")["status"] == "active"
    sqs.kill()
    wait_for(lambda: not connected(daemon), what="noticed")
    failed(daemon, "ConnectionRefused")
    sqs.start()  # without its data
    failed(daemon, "QueueNotFound")
    url = sqs.queue("jobs", VisibilityTimeout="2")  # it may yet give a message to a call that was given up
    wait_for(lambda: connected(daemon), what="connected")
    sqs.freeze()
    failed(daemon, "Timeout")
    sqs.thaw()
    wait_for(lambda: connected(daemon), what="connected again")
    sqs.send(url, "1")
    daemon.wait_events(1, "t")
    assert SECRET not in daemon.output()


def test_disconnects_lose_nothing(daemon: Daemon, sqs: Sqs) -> None:
    url = sqs.queue("jobs", VisibilityTimeout="2")
    with Proxy(sqs.port) as proxy:
        start(daemon, ECHO, queue("t", f"http://127.0.0.1:{proxy.port}", max_concurrent=20))
        for i in range(60):
            sqs.send(url, str(i))
            if i % 12 == 5:
                proxy.cut()
        wait_for(lambda: sqs.count(url) == (0, 0), 120, what="deleted")
    daemon.settle("t")
    assert sorted(e["event_data"]["body"] for e in daemon.wait_events(60, "t")) == list(range(60))


def test_a_stop_gives_back_at_once(daemon: Daemon, sqs: Sqs, tmp_path: Path) -> None:
    url, gate = sqs.queue("jobs", VisibilityTimeout="600"), Gate(tmp_path)
    doc = queue("t", sqs.url, ack_mode="manual", max_concurrent=1)
    start(daemon, pipeline("p", gate.step()), doc)
    for i in range(3):
        sqs.send(url, str(i))
    daemon.wait_events(1, "t", status="executing")
    wait_for(lambda: sqs.count(url) == (0, 3), what="taken")
    daemon.put("m.yaml", pipeline("p", gate.step()), {**doc, "enabled": False})
    wait_for(lambda: sqs.count(url) == (3, 0), what="given back")


def test_an_edit_of_how_it_is_read_gives_nothing_back(daemon: Daemon, sqs: Sqs, tmp_path: Path) -> None:
    """What is in flight stays hidden, by the new time from then on, and is deleted when its run has ended."""
    def put(**config: Any) -> None:
        daemon.put("m.yaml", pipeline("p", gate.step()), queue("t", sqs.url, max_concurrent=10, **config))

    url, gate = sqs.queue("jobs"), Gate(tmp_path)
    put(ack_mode="manual", prefetch=2, visibility_timeout_seconds=600)
    wait_for(lambda: connected(daemon))
    said, since = daemon.source_log("t"), daemon.condition("t", "Connected")["last_transition_time"]
    for i in range(6):
        sqs.send(url, str(i))
    daemon.wait_events(2, "t", status="executing")
    put(ack_mode="manual", prefetch=3, visibility_timeout_seconds=1, on_failure="drop")
    daemon.wait_events(3, "t", status="executing")
    never(lambda: sqs.count(url) != (3, 3), 3)
    put(ack_mode="auto", prefetch=20, batch_size=3, batch_timeout_seconds=60)
    daemon.wait_events(4, "t", status="executing")
    wait_for(lambda: sqs.count(url) == (0, 3), what="what was recorded since is deleted, what was told as manual is not")
    gate.open()
    events = daemon.wait_events(4, "t", status="completed")
    wait_for(lambda: sqs.count(url) == (0, 0), what="deleted")
    taken: list[int] = []
    for event in events:
        body = event["event_data"]["body"]
        taken += body if isinstance(body, list) else [body]
    assert sorted(taken) == list(range(6)) and len(daemon.events("t")) == 4
    assert daemon.source_log("t") == said and daemon.condition("t", "Connected")["last_transition_time"] == since


@pytest.mark.parametrize("ack", ["auto", "manual"])
def test_through_faults(tmp_path: Path, ack: str) -> None:
    """Cut connections and a killed daemon lose nothing, and make nothing two events."""
    found = through_faults(tmp_path, 300, cuts=4, daemon_kills=2, ack=ack, seed=3)
    assert found["lost"] == found["strange"] == found["doubles"] == 0, found
