"""message_queue and publish with Apache Kafka itself."""
from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from brokers import Kafka, Proxy, serve
from harness import Daemon, Gate, never, pipeline, script, wait_for
from kafka_faults import through_faults

SLOW = 60.0


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    with serve(Kafka, tmp_path_factory.mktemp("kafka")) as server:
        yield server


@pytest.fixture
def topic(kafka: Kafka, request: pytest.FixtureRequest) -> str:
    name = request.node.name.replace("[", "-").replace("]", "")
    kafka.client().create(name, 2)
    return name


def trigger(id: str, topic: str, port: int, more: dict[str, Any] | None = None, **top: Any) -> dict[str, Any]:
    return {"id": id, "name": id, "trigger_type": "message_queue", "pipeline_id": "p", **top,
            "config": {"queue_type": "kafka", "connection_url": f"kafka://127.0.0.1:{port}", "queue_name": topic,
                       "start": "earliest", **(more or {})}}


def connected(d: Daemon, id: str) -> bool:
    return d.condition(id, "Connected")["status"] == "True"


def reason(d: Daemon, id: str) -> str:
    c = d.condition(id, "Connected")
    return c["reason"] if c["status"] == "False" else ""


def start(daemon: Daemon, *triggers: dict[str, Any], steps: tuple[dict[str, Any], ...] = ()) -> None:
    daemon.put("m.yaml", pipeline("p", *(steps or (script("true"),))), *triggers)


def fill(kafka: Kafka, topic: str, first: int, last: int, partition: int = -1) -> None:
    for i in range(first, last):
        kafka.client().produce(topic, str(i), partition=partition)
    kafka.client().flush()


def bodies(d: Daemon) -> Counter[int]:
    return Counter(e["event_data"]["body"] for e in d.events())


def test_messages_are_events(daemon: Daemon, kafka: Kafka, topic: str) -> None:
    c = kafka.client()
    c.produce(topic, '{"order": 12345678901234567890}', key=b"k1", partition=1, headers={"kind": b"new", "raw": b"\xff"})
    c.flush()
    start(daemon, trigger("t", topic, kafka.port))
    event = daemon.wait_events(1, "t", SLOW)[0]
    data = event["event_data"]
    assert event["event_type"] == "message_kafka"
    assert data["body"] == {"order": 12345678901234567890}
    assert data["queue"] == topic and data["key"] == "k1"
    assert (data["partition"], data["offset"]) == (1, 0)
    assert data["headers"] == {"kind": "new", "raw_base64": "/w=="}
    assert data["timestamp"]
    wait_for(lambda: connected(daemon, "t"), SLOW)
    assert daemon.trigger("t")["status"] == "active"


def test_latest_begins_when_the_trigger_does(daemon: Daemon, kafka: Kafka, topic: str) -> None:
    fill(kafka, topic, 0, 10)
    start(daemon, trigger("t", topic, kafka.port, {"start": "latest"}))
    wait_for(lambda: connected(daemon, "t"), SLOW)
    never(lambda: daemon.events("t"), 2, "what was there before")
    fill(kafka, topic, 10, 12)
    daemon.wait_events(2, "t", SLOW)
    daemon.stop()
    # What comes meanwhile is not passed over, in no partition.
    fill(kafka, topic, 12, 14, 0)
    fill(kafka, topic, 14, 16, 1)
    daemon.start()
    daemon.wait_events(6, "t", SLOW)
    assert bodies(daemon) == Counter(range(10, 16))


def test_a_kill_loses_and_doubles_nothing(daemon: Daemon, kafka: Kafka, topic: str) -> None:
    start(daemon, trigger("t", topic, kafka.port))
    wait_for(lambda: connected(daemon, "t"), SLOW)
    for k in range(3):
        fill(kafka, topic, k * 200, k * 200 + 200)
        wait_for(lambda k=k: len(bodies(daemon)) > k * 200, SLOW)
        daemon.kill9()
        daemon.start()
    wait_for(lambda: len(bodies(daemon)) == 600, SLOW)
    assert bodies(daemon) == Counter(range(600))


def test_manual_redelivers_then_buries(daemon: Daemon, kafka: Kafka, topic: str) -> None:
    c = kafka.client()
    c.create(f"{topic}.dead")
    c.produce(topic, b"poison \xff", key=b"\x00key", partition=0, headers={"a": b"\xfe"})
    c.produce(topic, "1", partition=0)
    c.flush()
    start(daemon, trigger("t", topic, kafka.port, {"ack_mode": "manual", "max_deliveries": 3}),
          steps=(script('read -r line || :; case "$line" in *body_base64*) exit 1;; esac'),))
    wait_for(lambda: c.ends(f"{topic}.dead", 0)[1] == 1, SLOW, "the poison message is dead")
    dead = c.read(f"{topic}.dead")[0]
    assert (dead.value, dead.key, dead.headers) == (b"poison \xff", b"\x00key", [("a", b"\xfe")])
    daemon.wait_events(4, "t", SLOW)
    assert Counter(e["status"] for e in daemon.settle("t")) == {"failed": 3, "completed": 1}
    # All is committed: a next life has nothing to do.
    wait_for(lambda: daemon.metric("triggerd_source_lag", trigger="t") == 0, SLOW)
    daemon.restart()
    wait_for(lambda: connected(daemon, "t"), SLOW)
    never(lambda: len(daemon.events("t")) > 4, 2)


def test_dead_letter_at_once_and_a_missing_topic_for_it(daemon: Daemon, kafka: Kafka, topic: str) -> None:
    fill(kafka, topic, 0, 1)
    start(daemon, trigger("t", topic, kafka.port, {"ack_mode": "manual", "on_failure": "dead_letter",
                                                   "dead_letter_queue": f"{topic}.later"}), steps=(script("exit 1"),))
    wait_for(lambda: reason(daemon, "t") == "QueueNotFound", SLOW)
    assert f"{topic}.later" in daemon.condition("t", "Connected")["message"]
    kafka.client().create(f"{topic}.later")
    wait_for(lambda: kafka.client().ends(f"{topic}.later", 0)[1] == 1, SLOW)
    wait_for(lambda: connected(daemon, "t"), SLOW)
    assert len(daemon.events("t")) == 1


def test_a_missing_topic_is_told_and_read_whole_once_there(daemon: Daemon, kafka: Kafka) -> None:
    start(daemon, trigger("t", "not.there", kafka.port, {"start": "latest"}))
    wait_for(lambda: reason(daemon, "t") == "QueueNotFound", SLOW)
    assert "not.there" in daemon.condition("t", "Connected")["message"]
    assert daemon.trigger("t")["status"] == "error"
    kafka.client().create("not.there", 3)
    fill(kafka, "not.there", 0, 30)
    wait_for(lambda: connected(daemon, "t"), SLOW)
    daemon.wait_events(30, "t", SLOW)
    # Deleted and made anew: other messages at the same offsets are no duplicates.
    kafka.client().delete("not.there")
    wait_for(lambda: reason(daemon, "t") == "QueueNotFound", SLOW)
    kafka.client().create("not.there", 3)
    fill(kafka, "not.there", 30, 60)
    wait_for(lambda: len(bodies(daemon)) == 60, SLOW)
    assert bodies(daemon) == Counter(range(60))


def test_a_broker_that_goes_and_comes(daemon: Daemon, tmp_path: Path) -> None:
    with serve(Kafka, tmp_path / "own") as own:
        own.client().create("orders", 2)
        start(daemon, trigger("t", "orders", own.port))
        wait_for(lambda: connected(daemon, "t"), SLOW)
        own.kill()
        wait_for(lambda: reason(daemon, "t") == "ConnectionRefused", SLOW)
        assert daemon.trigger("t")["status"] == "error"
        own.start()
        wait_for(lambda: connected(daemon, "t"), SLOW)
        fill(own, "orders", 0, 10)
        daemon.wait_events(10, "t", SLOW)
        # Without its data.
        own.restart(kill=True, wipe=True)
        own.client().create("orders", 2)
        fill(own, "orders", 10, 20)
        wait_for(lambda: len(bodies(daemon)) == 20, 2 * SLOW)
        lines = [line for line in daemon.output().splitlines() if "ConnectionRefused" in line or "refused" in line]
        assert len(lines) <= 4, lines


def test_a_silent_broker_is_found(daemon: Daemon, tmp_path: Path) -> None:
    server = Kafka(tmp_path / "own")
    if not Kafka.installed():
        pytest.skip("kafka is not installed (tests/install-brokers.sh)")
    with Proxy(server.port) as proxy:
        server.advertised = proxy.port
        try:
            server.start()
            start(daemon, trigger("t", "orders", proxy.port))
            server.client().create("orders", 2)
            fill(server, "orders", 0, 5)
            daemon.wait_events(5, "t", SLOW)
            wait_for(lambda: connected(daemon, "t"), SLOW)
            proxy.hold()
            wait_for(lambda: reason(daemon, "t"), 20, "the silence is told")
            proxy.cut()
            proxy.flow()
            wait_for(lambda: connected(daemon, "t"), SLOW)
            fill(server, "orders", 5, 10)
            wait_for(lambda: len(bodies(daemon)) == 10, SLOW)
            for k in range(1, 6):
                fill(server, "orders", k * 10, k * 10 + 10)
                proxy.cut()
            wait_for(lambda: len(bodies(daemon)) == 60, SLOW)
            assert bodies(daemon) == Counter(range(60))
        finally:
            server.close()


def test_two_daemons_share_a_topic(daemon: Daemon, kafka: Kafka, topic: str, tmp_path: Path) -> None:
    other = Daemon(tmp_path / "other")

    def each_has_a_partition() -> bool:
        fill(kafka, topic, -1, 0, 0)
        fill(kafka, topic, -1, 0, 1)
        return bool(other.events())

    def numbered(*daemons: Daemon) -> Counter[int]:
        return Counter(i for d in daemons for i in bodies(d).elements() if i >= 0)

    try:
        for d in (daemon, other.start()):
            start(d, trigger("t", topic, kafka.port, {"consumer_group": topic, "options": {"session.timeout.ms": 20000}}))
            wait_for(lambda d=d: connected(d, "t"), SLOW)
        # Whoever was first has given one of its two away before the other reads it; from then on none moves.
        wait_for(each_has_a_partition, SLOW)
        fill(kafka, topic, 0, 100, 0)
        fill(kafka, topic, 100, 200, 1)
        wait_for(lambda: len(numbered(daemon, other)) == 200, SLOW)
        assert numbered(daemon, other) == Counter(range(200))
        assert sorted(len(numbered(d)) for d in (daemon, other)) == [100, 100]
        seen = numbered(other)
        other.kill9()
        fill(kafka, topic, 200, 250, 0)
        fill(kafka, topic, 250, 300, 1)
        wait_for(lambda: len(numbered(daemon) + seen) == 300, SLOW)
    finally:
        other.close()


def test_a_paused_trigger_stays_in_its_group(daemon: Daemon, kafka: Kafka, topic: str) -> None:
    start(daemon, trigger("t", topic, kafka.port))
    wait_for(lambda: connected(daemon, "t"), SLOW)
    daemon.post("/api/v1/triggers/t/pause")
    fill(kafka, topic, 0, 20)
    never(lambda: daemon.events("t"), 3)
    daemon.post("/api/v1/triggers/t/resume")
    daemon.wait_events(20, "t", SLOW)


def test_an_edit_of_how_it_is_read_does_not_rejoin(daemon: Daemon, kafka: Kafka, topic: str, tmp_path: Path) -> None:
    """Its member of the group stays, and with it what is in flight."""
    def put(**config: Any) -> None:
        start(daemon, trigger("t", topic, kafka.port, {"dead_letter_queue": f"{topic}.dead", **config}, max_concurrent=20),
              steps=(gate.step(),))

    c, gate = kafka.client(), Gate(tmp_path)
    put(ack_mode="manual", prefetch=2)
    wait_for(lambda: connected(daemon, "t"), SLOW)
    fill(kafka, topic, 0, 10, 0)
    daemon.wait_events(2, "t", SLOW, status="executing")
    before, said = c.members("triggerd-t"), daemon.source_log("t")
    assert len(before) == 1
    put(ack_mode="manual", prefetch=4, max_deliveries=9, on_failure="dead_letter", start="latest")
    daemon.wait_events(4, "t", SLOW, status="executing")
    never(lambda: len(daemon.events("t")) != 4, 0.5)
    put(ack_mode="auto", prefetch=100, batch_size=3, batch_timeout_seconds=0.1)
    daemon.wait_events(6, "t", SLOW, status="executing")
    gate.open()
    taken: list[int] = []
    for event in daemon.settle("t", SLOW):
        body = event["event_data"]["body"]
        taken += body if isinstance(body, list) else [body]
    assert sorted(taken) == list(range(10)) and len(daemon.events("t")) == 6
    wait_for(lambda: daemon.metric("triggerd_source_lag", trigger="t") == 0, SLOW)
    assert c.members("triggerd-t") == before and daemon.source_log("t") == said


def certificate(root: Path) -> tuple[Path, Path]:
    """One for 127.0.0.1, and that with its key."""
    root.mkdir(parents=True)
    cert, key, both = root / "cert.pem", root / "key.pem", root / "both.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1", "-addext",
                    "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", cert], check=True, capture_output=True)
    both.write_bytes(key.read_bytes() + cert.read_bytes())
    return cert, both


def test_tls_and_a_wrong_password(daemon: Daemon, tmp_path: Path) -> None:
    cert, both = certificate(tmp_path / "tls")
    with serve(Kafka, tmp_path / "own", password="correct-horse", tls=both) as own:
        own.client().create("orders")
        fill(own, "orders", 0, 1)
        password = daemon.root / "manifests" / "password"
        password.write_text("wrong-battery-staple\n")
        security = {"protocol": "sasl_ssl", "mechanism": "PLAIN", "username": "app", "password": "${file:password}"}
        start(daemon, trigger("t", "orders", own.port, {"security": security, "tls": {"ca_file": str(cert)}}),
              trigger("stranger", "orders", own.port, {"security": security}))
        wait_for(lambda: reason(daemon, "t") == "AuthenticationFailed", SLOW)
        wait_for(lambda: reason(daemon, "stranger") == "TLSFailed", SLOW)
        everything = daemon.output() + str(daemon.get("/api/v1/triggers")) + str(daemon.trigger("t"))
        assert "wrong-battery" not in everything
        password.write_text("correct-horse\n")
        daemon.post("/api/v1/triggers/t/resume")
        daemon.wait_events(1, "t", SLOW)
        assert "correct-horse" not in daemon.output() + str(daemon.trigger("t"))


def publish(topic: str, port: int, **more: Any) -> dict[str, Any]:
    return {"id": "s", "publish": {"queue_type": "kafka", "connection_url": f"kafka://127.0.0.1:{port}", "queue_name": topic,
                                   **more}}


def ran(d: Daemon, step: dict[str, Any], inputs: Any = None) -> dict[str, Any]:
    d.put("pub.yaml", pipeline("pub", step))
    run = d.post("/api/v1/pipelines/pub/run", {"inputs": inputs or {}})
    return wait_for(lambda: (r := d.run(run["id"]))["status"] in ("completed", "failed") and r, SLOW)


def test_publish(daemon: Daemon, kafka: Kafka, topic: str) -> None:
    run = ran(daemon, publish(topic, kafka.port, key="{{ $.inputs.who }}", body={"n": "{{ $.inputs.n }}"}, headers={"h": "v"}),
              {"who": "me", "n": 7})
    assert run["status"] == "completed", run
    found = kafka.client().read(topic, 2)
    assert [(r.key, r.value) for r in found] == [(b"me", b'{"n":7}')]
    headers = dict(found[0].headers)
    assert headers["h"] == b"v" and headers["traceparent"].startswith(b"00-")


def test_publish_fails_with_the_topics_name(daemon: Daemon, kafka: Kafka) -> None:
    run = ran(daemon, publish("nobody.made.it", kafka.port, body="x"))
    assert run["status"] == "failed" and "nobody.made.it" in run["error_message"]
    run = ran(daemon, publish("orders", 1, body="x", options={"message.timeout.ms": 2000}))
    assert run["status"] == "failed" and "orders" in run["error_message"]


def test_options_are_checked_with_their_place(daemon: Daemon, tmp_path: Path) -> None:
    file = tmp_path / "t.yaml"
    file.write_text("""name: t
trigger_type: message_queue
pipeline_id: p
config:
  queue_type: kafka
  connection_url: kafka://127.0.0.1:9092
  queue_name: q
  options:
    sesion.timeout.ms: 6000
    session.timeout.ms: soon
    group.id: mine
""")
    told = daemon.ctl("validate", file)
    assert told.returncode == 1
    assert 't.yaml:9:5: config.options.sesion.timeout.ms: librdkafka knows no "sesion.timeout.ms"; did you mean' in told.stdout
    assert "t.yaml:10:25: config.options.session.timeout.ms: " in told.stdout
    assert "t.yaml:11:5: config.options.group.id: is said by `consumer_group`" in told.stdout


def test_without_a_kafka_trigger_there_is_no_librdkafka(daemon: Daemon) -> None:
    start(daemon)
    assert "librdkafka" not in Path(f"/proc/{daemon.pid}/maps").read_text()


@pytest.mark.parametrize("ack", ["auto", "manual"])
def test_through_faults(tmp_path: Path, ack: str) -> None:
    if not Kafka.installed():
        pytest.skip("kafka is not installed (tests/install-brokers.sh)")
    found = through_faults(tmp_path, 1500, cuts=5, broker_kills=2, daemon_kills=2, ack=ack, seed=3)
    assert (found["lost"], found["doubles"], found["strange"]) == (0, 0, 0), found
