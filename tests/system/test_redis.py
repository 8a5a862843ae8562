"""message_queue and publish with a real Redis: lists, streams and channels, whatever fails between us and it."""
from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from brokers import Proxy, Redis, RedisClient, serve
from harness import ECHO, PATIENCE, Daemon, Gate, never, pipeline, script, wait_for
from redis_faults import through_faults
from test_tls import Authority

PASSWORD = "korrekt-pferd-batterie"


def queue(id: str, url: str | int, name: str = "jobs", pipeline_id: str = "p", trigger: dict[str, Any] | None = None,
          **config: Any) -> dict[str, Any]:
    """A trigger on a queue; `url` may be a port of this machine."""
    full = {"queue_type": "redis", "connection_url": f"redis://127.0.0.1:{url}" if isinstance(url, int) else url,
            "queue_name": name, **config}
    return {"kind": "trigger", "id": id, "name": id, "pipeline_id": pipeline_id, "trigger_type": "message_queue",
            "config": full, **(trigger or {})}


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    with serve(Redis, tmp_path / "redis") as server:
        yield server


@pytest.fixture
def proxy(redis: Redis) -> Iterator[Proxy]:
    with Proxy(redis.port) as p:
        yield p


def connected(d: Daemon, id: str) -> bool:
    return d.condition(id, "Connected").get("status") == "True"


def start(d: Daemon, *docs: dict[str, Any]) -> None:
    """Put triggers and wait until they are connected."""
    d.put("m.yaml", *docs)
    for doc in docs:
        if doc.get("kind", "trigger") == "trigger":
            wait_for(lambda doc=doc: connected(d, doc["id"]), what=f"{doc['id']} connected")


def processing(d: Daemon, name: str = "jobs", id: str = "t") -> str:
    return f"{name}:triggerd:{d.node_id()}:{id}"


def bodies(events: list[dict[str, Any]]) -> list[Any]:
    return [e["event_data"].get("body") for e in events]


# ---- what is taken, and when it is gone ----


def test_a_list(daemon: Daemon, redis: Redis) -> None:
    start(daemon, ECHO, queue("t", redis.port))
    redis.call("RPUSH", "jobs", '{"n": 12345678901234567890}', "no json", b"\xff\x00")
    events = daemon.wait_events(3, "t")
    assert [e["event_type"] for e in events] == ["message_redis"] * 3
    assert events[0]["event_data"] == {"body": {"n": 12345678901234567890}, "queue": "jobs"}
    assert events[1]["event_data"]["body"] == "no json"
    assert events[2]["event_data"] == {"body_base64": "/wA=", "queue": "jobs"}
    wait_for(lambda: redis.call("EXISTS", "jobs", processing(daemon)) == 0, what="acknowledged")
    daemon.settle("t")
    assert daemon.trigger("t")["trigger_count"] == 3


def test_a_stream(daemon: Daemon, redis: Redis) -> None:
    redis.call("XADD", "log", "1-1", "body", "old")
    start(daemon, ECHO, queue("t", redis.port, "log", redis_mode="stream", start="earliest"))
    redis.call("XADD", "log", "1700000000000-7", "body", '{"a": 1}', "traceparent",
               "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    redis.call("XADD", "log", "1700000000001-0", "k", "v", "w", "x")
    events = daemon.wait_events(3, "t")
    assert events[1]["event_data"] == {
        "body": {"a": 1}, "queue": "log", "message_id": "1700000000000-7", "timestamp": "2023-11-14T22:13:20.000Z",
        "headers": {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}}
    assert events[2]["event_data"]["body"] == {"k": "v", "w": "x"}
    wait_for(lambda: redis.call("XPENDING", "log", "triggerd-t")[0] == 0, what="acknowledged")


def test_channels(daemon: Daemon, redis: Redis) -> None:
    start(daemon, ECHO, queue("one", redis.port, "news", redis_mode="pubsub"),
          queue("all", redis.port, "news.*", redis_mode="pubsub", pattern=True))
    assert redis.call("PUBLISH", "news", "a") == 1
    assert redis.call("PUBLISH", "news.it", '{"b": 1}') == 1
    assert daemon.wait_events(1, "one")[0]["event_data"] == {"body": "a", "queue": "news"}
    assert daemon.wait_events(1, "all")[0]["event_data"] == {"body": {"b": 1}, "queue": "news.it"}
    assert "lost" in daemon.condition("one", "Connected")["message"]


def test_publish(daemon: Daemon, redis: Redis) -> None:
    def publish(id: str, name: str, **more: Any) -> dict[str, Any]:
        return {"id": id, "publish": {"queue_type": "redis", "connection_url": f"redis://127.0.0.1:{redis.port}",
                                      "queue_name": name, "body": {"n": "{{ $.inputs.n }}"}, **more}}

    subscriber = RedisClient(redis.port)
    subscriber.call("SUBSCRIBE", "news")
    daemon.put("p.yaml", pipeline("p", publish("a", "jobs"), publish("b", "log", redis_mode="stream"),
                                  publish("c", "news", redis_mode="pubsub", body="text {{ $.inputs.n }}")),
               pipeline("q", publish("a", "log")))
    run = daemon.post("/api/v1/pipelines/p/run", {"inputs": {"n": 1}})
    assert wait_for(lambda: (r := daemon.run(run["id"]))["status"] not in ("pending", "running") and r)["status"] == "completed"
    assert redis.lines("jobs") == [b'{"n":1}']
    fields = redis.call("XRANGE", "log", "-", "+")[0][1]
    assert fields[fields.index(b"body") + 1] == b'{"n":1}' and b"traceparent" in fields
    assert subscriber.read() == [b"message", b"news", b"text 1"]
    run = daemon.post("/api/v1/pipelines/q/run", {"inputs": {"n": 1}})
    failed = wait_for(lambda: (r := daemon.run(run["id"]))["status"] == "failed" and r)
    assert '"log": WRONGTYPE' in failed["error_message"]
    redis.kill()
    begun = time.monotonic()
    run = daemon.post("/api/v1/pipelines/p/run", {"inputs": {"n": 1}})
    failed = wait_for(lambda: (r := daemon.run(run["id"]))["status"] == "failed" and r)
    assert "jobs" in failed["error_message"] and time.monotonic() - begun < 10


@pytest.mark.parametrize("mode", ["list", "stream"])
def test_poison_ends_where_it_should(daemon: Daemon, redis: Redis, mode: str) -> None:
    """A failed run gives it back, max_deliveries end it, with its original bytes."""
    raw = b'{"x":  1 , "y":"\xc3\xa9"}'
    start(daemon, pipeline("p", script("exit 3")),
          queue("t", redis.port, redis_mode=mode, ack_mode="manual", max_deliveries=3, dead_letter_queue="graves"))
    if mode == "list":
        redis.call("RPUSH", "jobs", raw)
        wait_for(lambda: redis.call("LLEN", "graves") == 1, what="dead")
        assert redis.lines("graves") == [raw]
        assert redis.call("EXISTS", "jobs", processing(daemon)) == 0
    else:
        redis.call("XADD", "jobs", "5-1", "body", raw, "more", b"\0\1")
        wait_for(lambda: redis.call("XLEN", "graves") == 1, what="dead")
        assert redis.call("XRANGE", "graves", "-", "+")[0][1] == [b"body", raw, b"more", b"\0\1"]
        assert redis.call("XPENDING", "jobs", "triggerd-t")[0] == 0
    events = daemon.settle("t")
    assert len(events) == 3 and {e["status"] for e in events} == {"failed"}


@pytest.mark.parametrize("mode", ["list", "stream"])
def test_triggers_that_share(daemon: Daemon, redis: Redis, mode: str) -> None:
    group = {"consumer_group": "g"} if mode == "stream" else {}
    start(daemon, ECHO, *(queue(id, redis.port, redis_mode=mode, **group) for id in ("t", "u")))
    clients = redis.call("CLIENT", "LIST").decode()
    assert clients.count(":read:") == 1, clients
    for i in range(20):
        redis.call(*(("RPUSH", "jobs", i) if mode == "list" else ("XADD", "jobs", "*", "body", i)))
    assert bodies(daemon.wait_events(20, "t")) == list(range(20)) == bodies(daemon.wait_events(20, "u"))
    wait_for(lambda: redis.call("EXISTS", processing(daemon)) == 0)


def test_a_paused_trigger_takes_nothing(daemon: Daemon, redis: Redis) -> None:
    start(daemon, ECHO, queue("t", redis.port))
    daemon.post("/api/v1/triggers/t/pause")
    redis.call("RPUSH", "jobs", "a")
    never(lambda: redis.call("LLEN", "jobs") != 1, 0.5)
    daemon.post("/api/v1/triggers/t/resume")
    assert bodies(daemon.wait_events(1, "t")) == ["a"]


def test_an_edit_does_not_reconnect(daemon: Daemon, proxy: Proxy) -> None:
    doc = queue("t", proxy.port)
    start(daemon, ECHO, doc)
    before = proxy.accepted
    daemon.put("m.yaml", ECHO, {**doc, "cooldown_seconds": 0.01, "max_concurrent": 3})
    assert connected(daemon, "t") and proxy.accepted == before
    daemon.put("m.yaml", ECHO, {**doc, "config": {**doc["config"], "filter": {"body": ["a"]}, "input_mapping": {"b": "$.body"}}})
    assert connected(daemon, "t") and proxy.accepted == before
    daemon.put("m.yaml", ECHO, queue("t", proxy.port, "others"))
    wait_for(lambda: proxy.accepted > before)


READER = re.compile(r"\bid=(\d+) .*?\bname=triggerd:\S+:(read|write):")


@pytest.mark.parametrize("mode", ["list", "stream"])
def test_an_edit_of_how_it_is_read_does_not_reconnect(daemon: Daemon, redis: Redis, tmp_path: Path, mode: str) -> None:
    """Its connections stay, and what is in flight stays in flight and is what it was told as."""
    def clients() -> set[tuple[str, str]]:
        return set(READER.findall(redis.call("CLIENT", "LIST").decode()))

    def pending() -> int:
        return int(redis.call("LLEN", processing(daemon)) if mode == "list" else redis.call("XPENDING", "jobs", "triggerd-t")[0])

    def put(**config: Any) -> None:
        daemon.put("m.yaml", pipeline("p", gate.step()), queue("t", redis.port, trigger=more, redis_mode=mode, **config))

    gate, more = Gate(tmp_path), {"max_concurrent": 10}
    own = {"pop": "right"} if mode == "list" else {"claim_idle_seconds": 0.5, "start": "earliest"}
    put(ack_mode="manual", prefetch=2)
    wait_for(lambda: connected(daemon, "t"))
    before, said = clients(), daemon.source_log("t")
    since = daemon.condition("t", "Connected")["last_transition_time"]
    assert len(before) == 2
    for i in range(5):
        redis.call(*(("RPUSH", "jobs", i) if mode == "list" else ("XADD", "jobs", "*", "body", i)))
    daemon.wait_events(2, "t", status="executing")
    put(ack_mode="manual", prefetch=3, max_deliveries=9, on_failure="drop", dead_letter_queue="graves", **own)
    daemon.wait_events(3, "t", status="executing")
    assert pending() == 3
    if mode == "stream":  # kept from others by the new time
        never(lambda: any(int(entry[2]) > 500 for entry in redis.call("XPENDING", "jobs", "triggerd-t", "-", "+", "9")), 1.5)
    put(ack_mode="auto", prefetch=10, batch_size=2, batch_timeout_seconds=0.05, **own)
    daemon.wait_events(4, "t", status="executing")
    assert pending() == 3  # which were told as manual; what was recorded since is acknowledged
    gate.open()
    events = daemon.wait_events(4, "t", status="completed")
    wait_for(lambda: pending() == 0)
    taken = [4, 3] if mode == "list" else [3, 4]
    if mode == "list":
        assert bodies(events)[:2] == [0, 1] and bodies(events)[2:] == [4, [3, 2]], bodies(events)
    else:
        assert bodies(events) == [0, 1, 2, taken]
    assert redis.call("EXISTS", "graves") == 0
    assert clients() == before and daemon.source_log("t") == said
    assert daemon.condition("t", "Connected")["last_transition_time"] == since


def test_an_edit_of_a_channel_does_not_reconnect(daemon: Daemon, redis: Redis) -> None:
    doc = queue("t", redis.port, "news", redis_mode="pubsub")
    start(daemon, ECHO, doc)
    before = READER.findall(redis.call("CLIENT", "LIST").decode())
    daemon.put("m.yaml", ECHO, {**doc, "config": {**doc["config"], "batch_size": 2, "prefetch": 7}})
    assert redis.call("PUBLISH", "news", "a") == redis.call("PUBLISH", "news", "b") == 1
    assert bodies(daemon.wait_events(1, "t")) == [["a", "b"]]
    assert READER.findall(redis.call("CLIENT", "LIST").decode()) == before and len(before) == 1


def test_an_edit_ends_and_begins_sharing(daemon: Daemon, redis: Redis) -> None:
    """Who comes to read in another way than those that it shares with gets a consumer of its own, and joins those that
    read as it does; the others keep theirs."""
    def readers() -> set[str]:
        return {id for id, role in READER.findall(redis.call("CLIENT", "LIST").decode()) if role == "read"}

    both = {"redis_mode": "stream", "consumer_group": "g"}
    start(daemon, ECHO, *(queue(id, redis.port, **both) for id in ("t", "u")))
    shared = readers()
    assert len(shared) == 1
    start(daemon, ECHO, queue("t", redis.port, **both, prefetch=5), queue("u", redis.port, **both))
    wait_for(lambda: len(readers()) == 2)
    assert shared < readers()
    start(daemon, ECHO, *(queue(id, redis.port, **both) for id in ("t", "u")))
    wait_for(lambda: readers() == shared)
    redis.call("XADD", "jobs", "*", "body", "x")
    assert bodies(daemon.wait_events(1, "t")) == bodies(daemon.wait_events(1, "u")) == ["x"]


# ---- failures ----


def state(d: Daemon, id: str = "t") -> tuple[str, str]:
    return d.trigger(id)["status"], d.condition(id, "Connected").get("reason", "")


def changes(d: Daemon, id: str = "t") -> list[str]:
    """The log's lines about a trigger's changes of state."""
    return [line for line in d.output().splitlines() if f"trigger={id}" in line and ("error" in line or "active" in line)]


def test_refused_and_back(daemon: Daemon, redis: Redis) -> None:
    start(daemon, ECHO, queue("t", redis.port))
    redis.call("RPUSH", "jobs", 1)
    daemon.wait_events(1, "t")
    redis.kill()
    wait_for(lambda: state(daemon) == ("error", "ConnectionRefused"))
    assert f"{redis.port}" in daemon.trigger("t")["error_message"]
    time.sleep(1.5)  # some attempts
    redis.start()
    redis.call("RPUSH", "jobs", 2)
    wait_for(lambda: state(daemon)[0] == "active", 30)
    daemon.wait_events(2, "t")
    assert len(changes(daemon)) <= 4, changes(daemon)


def test_a_resume_retries_at_once(daemon: Daemon, redis: Redis) -> None:
    redis.stop()
    daemon.put("m.yaml", ECHO, queue("t", redis.port))
    wait_for(lambda: state(daemon)[0] == "error")
    time.sleep(4)  # the next attempt is some seconds away by now
    redis.start()
    daemon.post("/api/v1/triggers/t/resume")
    wait_for(lambda: state(daemon)[0] == "active", 2)


def test_a_server_without_its_data(daemon: Daemon, redis: Redis) -> None:
    start(daemon, ECHO, queue("t", redis.port), queue("s", redis.port, "log", redis_mode="stream"))
    redis.call("RPUSH", "jobs", 1)
    redis.call("XADD", "log", "*", "body", 1)
    daemon.wait_events(1, "t")
    daemon.wait_events(1, "s")
    redis.restart(kill=True, wipe=True)
    redis.call("RPUSH", "jobs", 2)
    redis.call("XADD", "log", "*", "body", 2)
    assert bodies(daemon.wait_events(2, "t")) == [1, 2]
    assert bodies(daemon.wait_events(2, "s")) == [1, 2]


@pytest.mark.parametrize("mode", ["list", "stream", "pubsub"])
def test_half_open(daemon: Daemon, proxy: Proxy, redis: Redis, mode: str) -> None:
    """A peer that is there and says nothing is found within 10 s."""
    start(daemon, ECHO, queue("t", proxy.port, redis_mode=mode))
    proxy.hold()
    begun = time.monotonic()
    wait_for(lambda: state(daemon)[0] == "error", 30)
    assert time.monotonic() - begun < 16  # and some more to tell it on a busy machine
    proxy.cut()
    proxy.flow()
    wait_for(lambda: state(daemon)[0] == "active", 30)
    push = {"list": ("RPUSH", "jobs", 1), "stream": ("XADD", "jobs", "*", "body", 1), "pubsub": ("PUBLISH", "jobs", 1)}
    redis.call(*push[mode])
    assert bodies(daemon.wait_events(1, "t")) == [1]


def test_a_wrong_password_is_never_shown(make_daemon: Callable[..., Daemon], tmp_path: Path) -> None:
    with serve(Redis, tmp_path / "redis", password=PASSWORD) as server:
        wrong = "falsch-" + PASSWORD
        d = make_daemon(env={"REDIS_PASSWORD": wrong})
        url = f"redis://:${{env:REDIS_PASSWORD}}@127.0.0.1:{server.port}"
        step = {"id": "s", "publish": {"queue_type": "redis", "connection_url": url, "queue_name": "out", "body": "x"}}
        d.write("m.yaml", ECHO, pipeline("q", step), queue("t", url),
                queue("u", f"redis://:{wrong}@127.0.0.1:{server.port}"))
        d.start()
        for id in ("t", "u"):
            wait_for(lambda id=id: state(d, id) == ("error", "AuthenticationFailed"))
        run = d.post("/api/v1/pipelines/q/run", {"inputs": {}})
        failed = wait_for(lambda: (r := d.run(run["id"]))["status"] == "failed" and r)
        shown = [json.dumps(failed), d.ctl("describe", "trigger", "t").stdout, d.ctl("get", "triggers", "-o", "yaml").stdout,
                 d.ctl("doctor").stdout, d.http("GET", "/metrics").body.decode(), d.http("GET", "/api/v1/events").body.decode(),
                 *(json.dumps(d.trigger(id)) for id in ("t", "u")), d.output()]
        for text in shown:
            assert wrong not in text and PASSWORD not in text, text
        d.put("m.yaml", ECHO, queue("t", f"redis://:{PASSWORD}@127.0.0.1:{server.port}"))
        wait_for(lambda: state(d)[0] == "active")


def test_tls(daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "pki").mkdir()
    (tmp_path / "other").mkdir()
    authority, stranger = Authority(tmp_path / "pki"), Authority(tmp_path / "other")
    cert, key = authority.sign("server")
    client = authority.sign("client")

    class Tls(Redis):
        def command(self) -> list[str]:
            return [*super().command(), "--port", "0", "--tls-port", str(self.port), "--tls-cert-file", str(cert),
                    "--tls-key-file", str(key), "--tls-ca-cert-file", str(authority.cert)]

        def client(self) -> RedisClient:
            import ssl

            context = ssl.create_default_context(cafile=str(authority.cert))
            context.load_cert_chain(*client)
            return RedisClient(self.port, context)

    with serve(Tls, tmp_path / "redis") as server:
        tls = {"ca_file": str(authority.cert), "cert_file": str(client[0]), "key_file": str(client[1])}
        url = f"rediss://127.0.0.1:{server.port}"
        start(daemon, ECHO, queue("t", url, tls=tls))
        server.call("RPUSH", "jobs", *range(500))
        assert len(daemon.wait_events(500, "t")) == 500
        daemon.put("m.yaml", ECHO, queue("t", url, tls={**tls, "ca_file": str(stranger.cert)}))
        wait_for(lambda: state(daemon) == ("error", "TlsFailed"), what=lambda: state(daemon))
        daemon.put("m.yaml", ECHO, queue("t", url, tls={"verify": False, "cert_file": tls["cert_file"], "key_file": tls["key_file"]}))
        wait_for(lambda: state(daemon)[0] == "active")


def test_a_unix_socket(daemon: Daemon, tmp_path: Path) -> None:
    socket = Path(str(daemon.socket) + ".redis")
    with serve(Redis, tmp_path / "redis") as server:
        server.stop()
        server.args = ["--unixsocket", str(socket)]
        server.start()
        start(daemon, ECHO, queue("t", f"redis+unix://{socket}?db=2"))
        server.call("SELECT", 2)
        server.call("RPUSH", "jobs", "x")
        assert bodies(daemon.wait_events(1, "t")) == ["x"]


# ---- the daemon fails ----


@pytest.mark.parametrize("mode", ["list", "stream"])
def test_killed_while_runs_last(make_daemon: Callable[..., Daemon], redis: Redis, mode: str) -> None:
    d = make_daemon()
    gate = Gate(d.data)
    docs = [pipeline("p", gate.step()), queue("t", redis.port, redis_mode=mode, ack_mode="manual",
                                              trigger={"max_concurrent": 5})]
    d.write("m.yaml", *docs)
    d.start()
    wait_for(lambda: connected(d, "t"))
    for i in range(3):
        redis.call(*(("RPUSH", "jobs", i) if mode == "list" else ("XADD", "jobs", "*", "body", i)))
    wait_for(lambda: len(gate.lines("start")) == 3)

    def held() -> int:
        return redis.call("LLEN", processing(d)) if mode == "list" else redis.call("XPENDING", "jobs", "triggerd-t")[0]

    assert held() == 3
    d.kill_tree()
    assert held() == 3, "nothing was acknowledged"
    gate.open()
    d.start()
    wait_for(lambda: held() == 0 and redis.call("EXISTS" if mode == "list" else "XLEN", "jobs") in (0, 3))
    events = d.settle("t")
    assert set(bodies(events)) == {0, 1, 2}
    if mode == "stream":
        assert len(events) == 3, "an id makes one event"


@pytest.mark.parametrize("ack", ["auto", "manual"])
def test_a_batch_killed_before_it_is_acknowledged(make_daemon: Callable[..., Daemon], redis: Redis, ack: str) -> None:
    d = make_daemon()
    gate = Gate(d.data)
    with Proxy(redis.port) as proxy:
        d.write("m.yaml", pipeline("p", gate.step()), queue("t", proxy.port, "log", redis_mode="stream", batch_size=10,
                                                            batch_timeout_seconds=2, ack_mode=ack))
        d.start()
        wait_for(lambda: connected(d, "t"))
        for i in range(7):
            redis.call("XADD", "log", "*", "body", i)
        wait_for(lambda: "7 in flight" in d.condition("t", "Connected")["message"], what="taken")
        proxy.hold()  # from now on no acknowledgement gets through
        d.wait_events(1, "t")
        wait_for(lambda: len(gate.lines("start")) == 1)
        d.kill_tree()
        assert redis.call("XPENDING", "log", "triggerd-t")[0] == 7, "nothing was acknowledged"
        for i in range(7, 10):
            redis.call("XADD", "log", "*", "body", i)
        proxy.cut()
        proxy.flow()
        d.start()  # now all ten come as one batch
        wait_for(lambda: d.metric("triggerd_decisions_total", trigger="t", decision="duplicate") == 7
                 and len(d.events("t")) == 2, what="the seven were known")

        def held() -> int:
            return redis.call("XPENDING", "log", "triggerd-t")[0]

        if ack == "auto":
            wait_for(lambda: held() == 0, what="acknowledged")
        else:
                never(lambda: held() < 10, 0.3)  # the event of the seven has not ended
        gate.open()
        wait_for(lambda: held() == 0, what="acknowledged")
    assert sorted(bodies(d.settle("t"))) == [list(range(7)), [7, 8, 9]]


def test_a_failed_batch_comes_again(daemon: Daemon, redis: Redis) -> None:
    start(daemon, pipeline("p", script("exit 1")),
          queue("t", redis.port, "log", redis_mode="stream", batch_size=3, batch_timeout_seconds=30, ack_mode="manual",
                max_deliveries=2))
    for i in range(3):
        redis.call("XADD", "log", "*", "body", i)
    wait_for(lambda: redis.call("XLEN", "log.dead") == 3 and redis.call("XPENDING", "log", "triggerd-t")[0] == 0)
    assert bodies(daemon.settle("t")) == [[0, 1, 2]] * 2, "a failed event makes no duplicates"


def test_two_daemons_one_killed(make_daemon: Callable[..., Daemon], redis: Redis) -> None:
    a, b = make_daemon("a"), make_daemon("b")
    for d in (a, b):
        d.write("m.yaml", ECHO, queue("t", redis.port, prefetch=10),
                queue("s", redis.port, "log", redis_mode="stream", claim_idle_seconds=0.5, start="earliest"))
        d.start()
        wait_for(lambda d=d: connected(d, "t") and connected(d, "s"))
    for i in range(400):
        redis.call("RPUSH", "jobs", i)
        redis.call("XADD", "log", "*", "body", i)
        if i == 200:
            a.kill9()

    def seen(trigger: str) -> list[int]:
        return bodies(b.events(trigger)) + (bodies(a.events(trigger)) if a.ready() else [])

    wait_for(lambda: redis.call("LLEN", "jobs") == 0 and redis.call("XPENDING", "log", "triggerd-s")[0] == 0)
    a.start()
    wait_for(lambda: set(seen("t")) == set(range(400)) == set(seen("s")), 120, "every message somewhere")
    for d in (a, b):
        wait_for(lambda d=d: redis.call("EXISTS", processing(d)) == 0, what="acknowledged")


def test_a_clean_stop_leaves_nothing(make_daemon: Callable[..., Daemon], redis: Redis) -> None:
    d = make_daemon()
    d.write("m.yaml", ECHO, queue("t", redis.port), queue("s", redis.port, "log", redis_mode="stream"))
    d.start()
    wait_for(lambda: connected(d, "t") and connected(d, "s"))
    for i in range(200):
        redis.call("RPUSH", "jobs", i)
        redis.call("XADD", "log", "*", "body", i)
    d.stop()
    assert redis.call("EXISTS", processing(d)) == 0
    d.start()
    wait_for(lambda: set(bodies(d.events("t"))) == set(range(200)) == set(bodies(d.events("s"))), 120)
    assert len(d.events("t")) == 200 == len(d.events("s"))


@pytest.mark.parametrize("ack", ["auto", "manual"])
@pytest.mark.parametrize("mode", ["list", "stream"])
def test_through_faults(tmp_path: Path, mode: str, ack: str) -> None:
    """Cut connections, a killed server and a killed daemon lose nothing; an id makes one event, and without one only the
    end of the daemon can make two."""
    found = through_faults(tmp_path, mode, 1500, cuts=5, broker_kills=2, daemon_kills=2, ack=ack, seed=3)
    assert found["lost"] == found["strange"] == 0, found
    assert mode == "list" or found["doubles"] == 0, found
    assert found["doubles"] <= 2 * 2 * 100, found  # at most what was taken, at each end


def test_only_a_crash_makes_two(tmp_path: Path) -> None:
    found = through_faults(tmp_path, "list", 1500, cuts=8, broker_kills=2, daemon_kills=0, seed=5)
    assert found["lost"] == found["doubles"] == found["strange"] == 0, found
