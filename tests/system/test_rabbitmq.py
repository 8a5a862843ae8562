"""message_queue and publish against a real RabbitMQ."""
from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from amqp import AmqpError
from brokers import Proxy, RabbitMQ, serve
from harness import ECHO, Daemon, Gate, custom, never, pipeline, script, wait_for
from rabbitmq_faults import through_faults

PASSWORD = "carrots-and-hay-4711"


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQ]:
    """One for the tests that leave it running: each has queues of its own."""
    with serve(RabbitMQ, tmp_path_factory.mktemp("rabbitmq"), user="triggerd", password=PASSWORD) as server:
        yield server


@pytest.fixture
def own(tmp_path: Path) -> Iterator[RabbitMQ]:
    """One to be stopped, killed and frozen."""
    with serve(RabbitMQ, tmp_path / "rabbitmq", user="triggerd", password=PASSWORD) as server:
        yield server


@pytest.fixture
def queue(request: pytest.FixtureRequest) -> str:
    """A name that no other test uses."""
    return request.node.name.split("[")[0]


def url(port: int) -> str:
    return f"amqp://triggerd:${{env:RABBIT_PASSWORD}}@127.0.0.1:{port}"


def reading(id: str, port: int, queue: str, pipeline: str = "p", config: dict[str, Any] | None = None,
            **more: Any) -> dict[str, Any]:
    full = {"queue_type": "rabbitmq", "connection_url": url(port), "queue_name": queue, **(config or {})}
    return {"kind": "trigger", "id": id, "name": id, "pipeline_id": pipeline, "trigger_type": "message_queue",
            "config": full, **more}


def start(make_daemon: Callable[..., Daemon], *docs: dict[str, Any], name: str = "d") -> Daemon:
    daemon = make_daemon(name, env={"RABBIT_PASSWORD": PASSWORD})
    daemon.write("m.yaml", *docs)
    return daemon.start()


def connected(daemon: Daemon, id: str, timeout: float = 30) -> None:
    wait_for(lambda: daemon.trigger(id)["status"] == "active" and daemon.condition(id, "Connected")["status"] == "True",
             timeout, f"{id} connected: {daemon.trigger(id)}")


def broken(daemon: Daemon, id: str, timeout: float, reason: str | tuple[str, ...] = ()) -> dict[str, Any]:
    wanted = (reason,) if isinstance(reason, str) else reason

    def look() -> dict[str, Any] | None:
        condition = daemon.condition(id, "Connected")
        shown = daemon.trigger(id)["status"] == "error" and condition["status"] == "False"
        return condition if shown and (not wanted or condition["reason"] in wanted) else None

    found = wait_for(look, timeout, f"{id} in error {wanted}")
    assert found is not None
    return found


# ---- messages as events ----


def test_message_as_event(broker: RabbitMQ, make_daemon: Callable[..., Daemon], queue: str) -> None:
    """Everything that the broker knows of a message; JSON or text or bytes; `declare` makes the queue, durable."""
    daemon = start(make_daemon, reading("t", broker.port, queue, config={"declare": True}, max_concurrent=1), ECHO)
    connected(daemon, "t")
    broker.call("publish", queue, b'{"n": 1}', message_id="m-1", timestamp=1700000000,
                headers={"a": "x", "n": 5, "list": [1, {"b": True}], "raw": b"\xff"}, content_type="application/json")
    broker.call("publish", queue, b"plain", b"\xff\x00", b"")
    first, text, raw, empty = daemon.wait_events(4, "t")
    daemon.settle("t")
    assert first["event_type"] == "message_rabbitmq"
    assert first["event_data"] == {"body": {"n": 1}, "queue": queue, "key": queue, "message_id": "m-1",
                                   "headers": {"a": "x", "n": 5, "list": [1, {"b": True}], "raw": "\ufffd"},
                                   "timestamp": first["event_data"]["timestamp"]}
    assert "2023-11-14T22:13:20" in str(first["event_data"]["timestamp"])
    assert text["event_data"]["body"] == "plain"
    assert raw["event_data"]["body_base64"] == "/wA="
    assert empty["event_data"]["body"] == ""
    wait_for(lambda: broker.call("count", queue) == 0, what="all acknowledged")
    daemon.stop()
    assert broker.call("declare", queue, passive=False) == 0, "durable, and nothing came back"


def test_large_messages(broker: RabbitMQ, make_daemon: Callable[..., Daemon], queue: str) -> None:
    """Of several frames; larger than an event may be: a failed event with its beginning."""
    broker.call("declare", queue)
    daemon = start(make_daemon, reading("t", broker.port, queue), ECHO)
    broker.call("publish", queue, b"x" * 500_000, b"y" * 2_000_000)
    fits, too_large = daemon.wait_events(2, "t")
    assert daemon.event(fits["id"])["event_data"]["body"] == "x" * 500_000
    assert too_large["status"] == "failed"
    assert "2000000 bytes" in too_large["error_message"]
    wait_for(lambda: broker.call("count", queue) == 0, what="settled")


def test_declare_bind(broker: RabbitMQ, make_daemon: Callable[..., Daemon], queue: str) -> None:
    """A queue is bound to an exchange; without `declare` a missing one is told, and found when it comes."""
    broker.call("exchange", "orders", "topic")
    config = {"declare": True, "queue_arguments": {"x-max-length": 10},
              "bind": {"exchange": "orders", "routing_key": "order.*"}}
    daemon = start(make_daemon, reading("t", broker.port, queue, config=config),
                   reading("late", broker.port, queue + ".late"), ECHO)
    connected(daemon, "t")
    broker.call("publish", "order.new", b"1", exchange="orders")
    [event] = daemon.wait_events(1, "t")
    assert event["event_data"]["key"] == "order.new" and event["event_data"]["queue"] == queue
    with pytest.raises(AmqpError, match="x-max-length"):
        broker.call("declare", queue)
    missing = broken(daemon, "late", 20, "QueueNotFound")
    assert f"'{queue}.late'" in missing["message"]
    broker.call("declare", queue + ".late")
    broker.call("publish", queue + ".late", b"2")
    daemon.wait_events(1, "late")
    connected(daemon, "late")
    # It is deleted under us.
    broker.call("delete", queue + ".late")
    broken(daemon, "late", 20, "QueueNotFound")
    broker.call("delete", queue)
    connected(daemon, "t")
    broker.call("publish", "order.old", b"3", exchange="orders")
    daemon.wait_events(2, "t")


def test_other_arguments(broker: RabbitMQ, make_daemon: Callable[..., Daemon], queue: str) -> None:
    broker.call("declare", queue, {"x-max-length": 5})
    daemon = start(make_daemon, reading("t", broker.port, queue, config={"declare": True}), ECHO)
    found = broken(daemon, "t", 20, "PreconditionFailed")
    assert "x-max-length" in found["message"]


def test_validate(make_daemon: Callable[..., Daemon]) -> None:
    """What RabbitMQ cannot hold is an error of the manifest."""
    daemon = make_daemon()
    long = reading("t", 1, "q" * 256, config={"declare": True, "queue_arguments": {"k" * 256: 1}})
    daemon.write("m.yaml", long, ECHO)
    done = daemon.ctl("validate", daemon.manifests)
    assert done.returncode == 1
    assert "at most 255 bytes" in done.stdout and "config.queue_name" in done.stdout and "config.queue_arguments" in done.stdout
    daemon.write("m.yaml", json.dumps(long).replace("q" * 256, "q" * 255).replace("k" * 256, "k" * 255))
    done = daemon.ctl("validate", daemon.manifests)
    assert "at most 255 bytes" not in done.stdout


# ---- acknowledgement ----


def test_manual_and_prefetch(broker: RabbitMQ, make_daemon: Callable[..., Daemon], queue: str, tmp_path: Path) -> None:
    """Acknowledged when the run has ended and not before; no more than `prefetch` are taken."""
    gate = Gate(tmp_path)
    broker.call("declare", queue)
    broker.call("publish", queue, *[str(i) for i in range(20)])
    daemon = start(make_daemon, reading("t", broker.port, queue, config={"ack_mode": "manual", "prefetch": 5}),
                   pipeline("p", gate.step()))
    wait_for(lambda: broker.call("count", queue) == 15, what="five taken")
    never(lambda: broker.call("count", queue) != 15, 0.5)
    daemon.kill9()
    wait_for(lambda: broker.call("count", queue) == 20, what="all given back")
    gate.open()
    daemon.start()
    wait_for(lambda: len({e["event_data"]["body"] for e in daemon.events("t", status="completed")}) == 20, 40, "all ran")
    wait_for(lambda: broker.call("count", queue) == 0, what="all acknowledged")
    daemon.stop()
    assert broker.call("count", queue) == 0


def test_an_edit_of_how_it_is_read_does_not_reconnect(broker: RabbitMQ, make_daemon: Callable[..., Daemon], queue: str,
                                                      tmp_path: Path) -> None:
    """The connection and its channel stay, and what is unacknowledged on it: nothing is delivered twice."""
    def connections() -> list[str]:
        return [line for line in broker.ctl("list_connections", "pid", "client_properties").splitlines()
                if "triggerd consume t " in line]

    def channels() -> list[str]:
        return broker.ctl("list_channels", "pid").splitlines()

    def put(**config: Any) -> None:
        daemon.put("m.yaml", reading("t", broker.port, queue, config=config, max_concurrent=20), pipeline("p", gate.step()))

    gate = Gate(tmp_path)
    broker.call("declare", queue)
    daemon = start(make_daemon, reading("t", broker.port, queue, config={"ack_mode": "manual", "prefetch": 5}, max_concurrent=20),
                   pipeline("p", gate.step()))
    connected(daemon, "t")
    before, there, said = connections(), channels(), daemon.source_log("t")
    assert len(before) == 1
    broker.call("publish", queue, *[str(i) for i in range(20)])
    daemon.wait_events(5, "t", status="executing")
    put(ack_mode="manual", prefetch=11, max_deliveries=2, on_failure="drop")
    wait_for(lambda: broker.call("count", queue) == 9, what="eleven taken")
    put(ack_mode="manual", prefetch=2)
    never(lambda: broker.call("count", queue) != 9, 0.5)
    put(ack_mode="auto", prefetch=13, batch_size=2, batch_timeout_seconds=0.05)
    wait_for(lambda: broker.call("count", queue) == 0, what="all taken, for what is recorded is acknowledged")
    wait_for(lambda: broker.ctl("list_queues", "name", "messages_unacknowledged").count(f"{queue}\t11") == 1,
             what="what was told as manual is not")
    gate.open()
    wait_for(lambda: broker.ctl("list_queues", "name", "messages_unacknowledged").count(f"{queue}\t0") == 1)
    taken: list[int] = []
    for event in daemon.settle("t"):
        body = event["event_data"]["body"]
        taken += body if isinstance(body, list) else [body]
    assert sorted(taken) == list(range(20))
    assert connections() == before and channels() == there and daemon.source_log("t") == said


def dead_letters(broker: RabbitMQ, queue: str, **arguments: Any) -> str:
    """A queue whose rejected messages go to the one that is named, by the routing key that they had."""
    exchange, dead = queue + ".dlx", queue + ".rejected"
    broker.call("exchange", exchange, "fanout")
    broker.call("declare", dead)
    broker.call("bind", dead, exchange)
    broker.call("declare", queue, {"x-dead-letter-exchange": exchange, **arguments})
    return dead


@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_poison_requeue(broker: RabbitMQ, make_daemon: Callable[..., Daemon], queue: str, kind: str) -> None:
    """Delivered max_deliveries times, then rejected to the dead-letter exchange with its original bytes; equal bodies are
    counted each for itself."""
    queue += kind
    dead = dead_letters(broker, queue, **{"x-queue-type": kind})
    bodies = [b"poison \xff", b"poison \xff", b'{"good": 1}']
    daemon = start(make_daemon, reading("t", broker.port, queue, config={"ack_mode": "manual", "max_deliveries": 3},
                                        max_concurrent=4),
                   pipeline("p", script('grep -q good')))
    connected(daemon, "t")
    broker.call("publish", queue, *bodies, headers={"origin": "here"})
    wait_for(lambda: broker.call("count", dead) == 2, 30, "rejected")
    found = broker.call("drain", dead)
    assert [m.body for m in found] == bodies[:2]
    assert found[0].properties["headers"]["origin"] == "here"
    events = daemon.settle("t")
    assert len([e for e in events if e["status"] == "completed"]) == 1
    assert len([e for e in events if e["status"] == "failed"]) == 6
    assert broker.call("count", queue) == 0


@pytest.mark.parametrize("how", ["dead_letter", "drop"])
def test_on_failure(broker: RabbitMQ, make_daemon: Callable[..., Daemon], queue: str, how: str) -> None:
    """After the first run that failed for good."""
    queue += how
    dead = dead_letters(broker, queue)
    daemon = start(make_daemon, reading("t", broker.port, queue, config={"ack_mode": "manual", "on_failure": how}),
                   pipeline("p", script("exit 1")))
    connected(daemon, "t")
    broker.call("publish", queue, b"bytes \x01\xfe", message_id="one")
    [event] = daemon.wait_events(1, "t", status="failed")
    assert event["event_data"]["message_id"] == "one"
    if how == "dead_letter":
        wait_for(lambda: broker.call("count", dead) == 1, what="rejected")
        message = broker.call("get", dead)
        assert message.body == b"bytes \x01\xfe" and message.properties["message_id"] == "one"
    else:
        wait_for(lambda: broker.call("count", queue) == 0, what="acknowledged")
        never(lambda: broker.call("count", dead), 0.3)
    daemon.stop()
    assert broker.call("count", queue) == 0


def test_identity(broker: RabbitMQ, make_daemon: Callable[..., Daemon], queue: str) -> None:
    """A message_id makes one event of two deliveries."""
    broker.call("declare", queue)
    daemon = start(make_daemon, reading("t", broker.port, queue), ECHO)
    broker.call("publish", queue, b"a", message_id="same")
    broker.call("publish", queue, b"a", message_id="same")
    broker.call("publish", queue, b"b", message_id="other")
    events = daemon.wait_events(2, "t")
    assert [e["event_data"]["message_id"] for e in events] == ["same", "other"]
    wait_for(lambda: broker.call("count", queue) == 0, what="all acknowledged")
    never(lambda: len(daemon.events("t")) > 2, 0.3)


def test_batches(broker: RabbitMQ, make_daemon: Callable[..., Daemon], queue: str) -> None:
    broker.call("declare", queue)
    broker.call("publish", queue, *[str(i) for i in range(25)])
    daemon = start(make_daemon, reading("t", broker.port, queue, config={"batch_size": 10, "batch_timeout_seconds": 2}), ECHO)
    events = daemon.wait_events(3, "t")
    assert [e["event_data"]["body"] for e in events] == [list(range(10)), list(range(10, 20)), list(range(20, 25))]
    assert events[0]["event_data"]["messages"][3]["key"] == queue
    wait_for(lambda: broker.call("count", queue) == 0, what="all acknowledged")


def test_pause_resume(broker: RabbitMQ, make_daemon: Callable[..., Daemon], queue: str, tmp_path: Path) -> None:
    """A paused trigger takes nothing, and what it has in work does not let the next consumer have more than prefetch."""
    gate = Gate(tmp_path)
    broker.call("declare", queue)
    broker.call("publish", queue, *[str(i) for i in range(6)])
    daemon = start(make_daemon, reading("t", broker.port, queue, config={"ack_mode": "manual", "prefetch": 4}),
                   pipeline("p", gate.step()))
    wait_for(lambda: broker.call("count", queue) == 2, what="four taken")
    daemon.post("/api/v1/triggers/t/pause")
    daemon.post("/api/v1/triggers/t/resume")
    never(lambda: broker.call("count", queue) < 2, 0.5, "more than prefetch")
    daemon.post("/api/v1/triggers/t/pause")
    gate.open()
    wait_for(lambda: len(daemon.events("t", status="completed")) == 4 or daemon.trigger("t")["status"] == "paused")
    broker.call("publish", queue, *[str(i) for i in range(6, 106)])
    never(lambda: broker.call("count", queue) < 102, 0.5, "took something while paused")
    assert daemon.trigger("t")["status"] == "paused"
    daemon.post("/api/v1/triggers/t/resume")
    wait_for(lambda: broker.call("count", queue) == 0, 60, "all taken")
    wait_for(lambda: len({e["event_data"]["body"] for e in daemon.events("t", status="completed")}) == 106, 60, "all ran")


def test_two_daemons(broker: RabbitMQ, make_daemon: Callable[..., Daemon], queue: str, tmp_path: Path) -> None:
    """They share one queue; what the one that is killed had goes to the other."""
    gate = Gate(tmp_path)
    broker.call("declare", queue)
    docs = [reading("t", broker.port, queue, config={"ack_mode": "manual", "prefetch": 10}), pipeline("p", gate.step())]
    one, two = start(make_daemon, *docs, name="one"), start(make_daemon, *docs, name="two")
    connected(one, "t")
    connected(two, "t")
    broker.call("publish", queue, *[str(i) for i in range(20)])
    wait_for(lambda: len(one.events("t")) == 10 and len(two.events("t")) == 10, what="each has its share")
    one.kill_tree()
    gate.open()
    wait_for(lambda: {e["event_data"]["body"] for e in two.events("t", status="completed")} == set(range(20)), 40, "all ran")
    wait_for(lambda: broker.call("count", queue) == 0, what="all acknowledged")


# ---- faults ----


def test_restarts(own: RabbitMQ, make_daemon: Callable[..., Daemon], queue: str) -> None:
    """The broker goes down, comes back with its data, and without."""
    daemon = start(make_daemon, reading("t", own.port, queue, config={"declare": True}), ECHO)
    connected(daemon, "t")
    own.call("publish", queue, b"1")
    daemon.wait_events(1, "t")
    own.kill()
    broken(daemon, "t", 20)
    refused = broken(daemon, "t", 20, "ConnectionRefused")
    assert f"127.0.0.1:{own.port}" in refused["message"]
    own.start()
    connected(daemon, "t")
    own.call("publish", queue, b"2")
    wait_for(lambda: any(e["event_data"]["body"] == 2 for e in daemon.events("t")), what="goes on")
    own.stop()
    broken(daemon, "t", 20)
    own.wipe()
    own.start()
    connected(daemon, "t")
    own.call("publish", queue, b"3")
    wait_for(lambda: any(e["event_data"]["body"] == 3 for e in daemon.events("t")), what="goes on without data")
    told = [line for line in daemon.output().splitlines() if "ConnectionRefused" in line]
    assert len(told) <= 4, "one line a change of state"


def test_half_open(broker: RabbitMQ, make_daemon: Callable[..., Daemon], queue: str) -> None:
    """A peer that stands still is found within 10 s; a reset at once."""
    broker.call("declare", queue)
    with Proxy(broker.port) as proxy:
        daemon = start(make_daemon, reading("t", proxy.port, queue), ECHO)
        connected(daemon, "t")
        began = time.monotonic()
        proxy.hold()
        found = broken(daemon, "t", 30)
        assert time.monotonic() - began < 16, "10 s, and some more to show it on a busy machine"
        assert found["reason"] in ("ConnectionLost", "NoProgress", "ConnectionTimedOut")
        proxy.flow()
        connected(daemon, "t")
        began = time.monotonic()
        proxy.refuse()
        broken(daemon, "t", 8)
        assert time.monotonic() - began < 8
        proxy.accept()
        connected(daemon, "t")
        broker.call("publish", queue, b"1")
        daemon.wait_events(1, "t")


def test_wrong_password(broker: RabbitMQ, make_daemon: Callable[..., Daemon], queue: str) -> None:
    """It is told as what it is, and never shown."""
    broker.call("declare", queue)
    secret = "wrong-as-can-be-123"
    daemon = make_daemon(env={"RABBIT_PASSWORD": secret}, listen=True)
    literal = reading("u", broker.port, queue)
    literal["config"]["connection_url"] = f"amqp://triggerd:{secret}@127.0.0.1:{broker.port}"
    step = {"id": "s", "publish": {"queue_type": "rabbitmq", "connection_url": url(broker.port), "queue_name": queue,
                                   "body": "x"}}
    daemon.write("m.yaml", reading("t", broker.port, queue, "q"), literal, custom("c", "q"), pipeline("q", step), ECHO)
    daemon.start()
    for id in "tu":
        broken(daemon, id, 30, "AuthenticationFailed")
    event = daemon.wait_event(daemon.emit1("c")["id"], "failed")
    assert queue in event["error_message"]
    shown = [json.dumps(daemon.get(f"/api/v1/{path}")) for path in
             ("triggers", "triggers/t", "triggers/u", "triggers/events", "pipelines/q", f"runs/{event['run_id']}")]
    shown += [daemon.ctl(*words).stdout + daemon.ctl(*words).stderr for words in
              (["get", "triggers"], ["describe", "trigger", "u"], ["get", "events"], ["doctor"])]
    daemon.stop()
    for text in [*shown, daemon.output()]:
        assert secret not in text


def test_no_such_vhost(broker: RabbitMQ, make_daemon: Callable[..., Daemon], queue: str) -> None:
    t = reading("t", broker.port, queue)
    t["config"]["connection_url"] += "/nowhere"
    daemon = start(make_daemon, t, ECHO)
    found = broken(daemon, "t", 20, "NotAllowed")
    assert "nowhere" in found["message"]


def test_no_rabbitmq(make_daemon: Callable[..., Daemon], queue: str) -> None:
    """A server that speaks something else, and one that says nothing at all."""
    import socket
    import threading

    with socket.socket() as other, socket.socket() as silent:
        for s in (other, silent):
            s.bind(("127.0.0.1", 0))
            s.listen()

        def answer() -> None:
            while True:
                try:
                    c, _ = other.accept()
                except OSError:
                    return
                c.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                c.close()

        threading.Thread(target=answer, daemon=True).start()
        daemon = start(make_daemon, reading("o", other.getsockname()[1], queue), reading("s", silent.getsockname()[1], queue),
                       ECHO)
        broken(daemon, "o", 20, ("ProtocolError", "ConnectionLost"))
        broken(daemon, "s", 30, "ConnectionTimedOut")
        daemon.stop()


# ---- publishing ----


def publishing(port: int, **what: Any) -> dict[str, Any]:
    return {"id": "s", "publish": {"queue_type": "rabbitmq", "connection_url": url(port), **what}}


def test_publish(broker: RabbitMQ, make_daemon: Callable[..., Daemon], queue: str) -> None:
    """Persistent, with id and headers; confirmed: it is there when the step has ended."""
    broker.call("declare", queue)
    broker.call("exchange", "news")
    broker.call("bind", queue, "news", "k.1")
    docs = []
    for id, what in {"q": {"queue_name": "{{ $.inputs.queue }}", "body": {"n": "{{ $.inputs.n }}"},
                           "headers": {"from": "{{ $.inputs.n }}"}, "message_id": "id-{{ $.inputs.n }}"},
                     "e": {"exchange": "news", "routing_key": "k.{{ $.inputs.n }}", "body": "as it is"}}.items():
        docs += [custom(id, id, input_mapping={"n": "$.n", "queue": "$.queue"}), pipeline(id, publishing(broker.port, **what))]
    daemon = start(make_daemon, *docs)
    done = daemon.wait_event(daemon.emit1("q", {"n": 1, "queue": queue})["id"], "completed")
    message = broker.call("get", queue)
    assert json.loads(message.body) == {"n": 1}
    assert message.properties["delivery_mode"] == 2 and message.properties["message_id"] == "id-1"
    assert message.properties["headers"]["from"] == "1" and "traceparent" in message.properties["headers"]
    assert daemon.run_of(done)["outputs"]["out"] == {"queue": queue, "message_id": "id-1"}
    daemon.wait_event(daemon.emit1("e", {"n": 1})["id"], "completed")
    message = broker.call("get", queue)
    assert message.body == b"as it is" and message.exchange == "news" and message.routing_key == "k.1"
    assert message.properties["message_id"], "run and step by default"
    # Nobody would get it.
    for endpoint, data, words in [("q", {"n": 1, "queue": "nosuch"}, ["nosuch"]), ("e", {"n": 2}, ["news", "k.2"])]:
        failed = daemon.wait_event(daemon.emit1(endpoint, data)["id"], "failed")
        assert all(word in failed["error_message"] for word in words)
    daemon.wait_event(daemon.emit1("q", {"n": 3, "queue": queue})["id"], "completed")
    assert broker.call("count", queue) == 1


def test_publish_missing_exchange(broker: RabbitMQ, make_daemon: Callable[..., Daemon], queue: str) -> None:
    """It takes down what is under way to that exchange, and nothing else."""
    broker.call("declare", queue)
    daemon = start(make_daemon, custom("c", "p", max_concurrent=50), custom("x", "x", max_concurrent=50),
                   pipeline("p", publishing(broker.port, queue_name=queue, body="1")),
                   pipeline("x", publishing(broker.port, exchange="nowhere", body="1")))
    ids = [(e, daemon.emit1(e)["id"]) for _ in range(20) for e in "cx"]
    for endpoint, id in ids:
        event = daemon.wait_event(id, "failed" if endpoint == "x" else "completed")
        assert endpoint == "c" or "nowhere" in event["error_message"]
    assert broker.call("count", queue) == 20


def test_publish_refused(broker: RabbitMQ, make_daemon: Callable[..., Daemon], queue: str) -> None:
    """No broker: at once, with the queue's name. A full queue: its refusal. Afterwards it works again."""
    broker.call("declare", queue, {"x-max-length": 1, "x-overflow": "reject-publish"})
    with Proxy(broker.port) as proxy:
        daemon = start(make_daemon, custom("c", "p"), pipeline("p", publishing(proxy.port, queue_name=queue, body="1")))
        proxy.refuse()
        began = time.monotonic()
        event = daemon.wait_event(daemon.emit1("c")["id"], "failed")
        assert time.monotonic() - began < 10
        assert queue in event["error_message"] and "refused" in event["error_message"].lower()
        proxy.accept()
        daemon.wait_event(daemon.emit1("c")["id"], "completed")
        event = daemon.wait_event(daemon.emit1("c")["id"], "failed")
        assert "did not take" in event["error_message"]
        assert broker.call("count", queue) == 1
        # Half-open: what is under way fails when the peer is known to be gone.
        proxy.hold()
        daemon.wait_event(daemon.emit1("c")["id"], "failed", 20)
        proxy.flow()
        broker.call("purge", queue)
        daemon.wait_event(daemon.emit1("c")["id"], "completed")


def test_publish_out_of_memory(own: RabbitMQ, make_daemon: Callable[..., Daemon], queue: str) -> None:
    """A broker that takes nothing for want of memory fails the step, and says so."""
    own.call("declare", queue)
    daemon = start(make_daemon, custom("c", "p"), pipeline("p", publishing(own.port, queue_name=queue, body="1")))
    own.ctl("set_vm_memory_high_watermark", "absolute", "1")
    event = daemon.wait_event(daemon.emit1("c")["id"], "failed", 30)
    assert "memory" in event["error_message"]
    own.ctl("set_vm_memory_high_watermark", "0.9")
    wait_for(lambda: daemon.wait_event(daemon.emit1("c")["id"])["status"] == "completed", 30, "takes messages again")


# ---- TLS ----


def certificates(folder: Path) -> Path:
    """An authority, and certificates of it for the server and a client named triggerd."""
    folder.mkdir()

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], check=True, capture_output=True, cwd=folder)

    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test authority", "-keyout", "ca.key",
            "-out", "ca.pem")
    for name, subject in (("server", "localhost"), ("client", "triggerd")):
        (folder / "ext").write_text("subjectAltName=DNS:localhost\n")
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={subject}", "-keyout", f"{name}.key", "-out", "csr")
        openssl("x509", "-req", "-in", "csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-days", "2", "-extfile", "ext", "-out",
                f"{name}.pem")
        (folder / f"{name}.key").chmod(0o644)
    return folder


def test_tls(tmp_path: Path, make_daemon: Callable[..., Daemon], queue: str) -> None:
    """The server is known by its authority, and we by a certificate: also in place of a password."""
    pem = certificates(tmp_path / "pem")
    options = {"certificates": pem, "client_certificates": True, "plugins": ("rabbitmq_auth_mechanism_ssl",)}
    settings = ["auth_mechanisms.1 = PLAIN", "auth_mechanisms.2 = EXTERNAL", "ssl_cert_login_from = common_name"]
    with serve(RabbitMQ, tmp_path / "rabbitmq", *settings, user="triggerd", password=PASSWORD, **options) as server:
        server.call("declare", queue)
        ca, cert = {"ca_file": str(pem / "ca.pem")}, {"cert_file": str(pem / "client.pem"), "key_file": str(pem / "client.key")}
        cases = {"password": (f"triggerd:{PASSWORD}@", {**ca, **cert}, None), "external": ("", {**ca, **cert}, None),
                 "strange": ("", cert, "TLSFailed"), "bare": (f"triggerd:{PASSWORD}@", ca, ("TLSFailed", "ConnectionLost")),
                 "careless": ("", {**cert, "verify": False}, None)}
        docs = []
        for id, (who, tls, _) in cases.items():
            t = reading(id, 0, queue, config={"tls": tls, "prefetch": len(docs) + 1})
            t["config"]["connection_url"] = f"amqps://{who}localhost:{server.tls_port}"
            docs.append(t)
        step = publishing(0, queue_name=queue, body="x" * 300_000, tls={**ca, **cert})
        step["publish"]["connection_url"] = f"amqps://localhost:{server.tls_port}"
        daemon = start(make_daemon, *docs, custom("c", "s"), pipeline("s", step), ECHO)
        for id, (_, _, reason) in cases.items():
            if reason:
                broken(daemon, id, 20, reason)
            else:
                connected(daemon, id)
        daemon.wait_event(daemon.emit1("c")["id"], "completed")
        wait_for(lambda: sum(len(daemon.events(id)) for id in cases) == 1, what="one of them has it")


@pytest.mark.parametrize("ids,ack", [(True, "auto"), (False, "manual")])
def test_faults(tmp_path: Path, ids: bool, ack: str) -> None:
    """In short what rabbitmq_faults.py does at length: nothing is lost, and what has an id makes one event."""
    if not RabbitMQ.installed():
        pytest.skip("rabbitmq is not installed (tests/install-brokers.sh)")
    found = through_faults(tmp_path, 1000, cuts=4, broker_kills=1, daemon_kills=2, ids=ids, ack=ack)
    assert found["lost"] == found["strange"] == found["left_at_stop"] == 0, found
    assert not ids or found["doubles"] == 0, found
