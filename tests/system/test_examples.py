"""Every folder of examples/ does what its manifest and its README say, and quickstart.sh what it promises."""
from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from brokers import Kafka, RabbitMQ, Redis, Sqs, serve
from harness import ROOT, Daemon, build_dir, never, sandbox_works, step_of, wait_for

EXAMPLES = ROOT / "examples"
FOLDERS = sorted(p.parent.name for p in EXAMPLES.glob("*/*.yaml"))
QUICKSTART = "/tmp/triggerd-quickstart"  # in its manifest

Start = Callable[[str], Daemon]


@pytest.fixture
def start(make_daemon: Callable[..., Daemon]) -> Start:
    """A daemon on a copy of an example, whose paths are the test's own, with every trigger ready."""

    def make(folder: str) -> Daemon:
        daemon = make_daemon(folder)
        for file in sorted((EXAMPLES / folder).glob("*.yaml")):
            daemon.write(file.name, file.read_text().replace(QUICKSTART, str(daemon.data)))
        for file in (EXAMPLES / folder).glob("server.py"):
            (daemon.data / file.name).write_text(file.read_text())
        daemon.start()
        assert daemon.errors() == []
        for trigger in daemon.get("/api/v1/triggers")["triggers"]:
            wait_for(lambda id=trigger["id"]: daemon.condition(id, "Ready").get("status") == "True",
                     what=f"{trigger['id']} ready")
        return daemon

    return make


def only_run(daemon: Daemon, pipeline: str) -> dict[str, Any]:
    """The finished run of a pipeline that has run once."""
    def look() -> list[dict[str, Any]]:
        runs = daemon.get(f"/api/v1/runs?pipeline_id={pipeline}")["runs"]
        return runs if runs and all(r["completed_at"] for r in runs) else []

    runs = wait_for(look, what=f"a run of {pipeline}")
    assert len(runs) == 1, runs
    return daemon.run(runs[0]["id"])


def log_of(daemon: Daemon, run: dict[str, Any], step: str) -> str:
    done = daemon.ctl("logs", run["id"], "--step", step)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_each_is_told_of() -> None:
    tests = "".join(p.read_text() for p in Path(__file__).parent.glob("test_examples*.py"))
    for folder in FOLDERS:
        assert f'"{folder}"' in tests, f"examples/{folder} needs a test of its own"
    for folder in FOLDERS:
        text = (EXAMPLES / folder / "README.md").read_text()
        for file in (EXAMPLES / folder).glob("*.yaml"):
            assert file.name in text
            assert file.read_text().startswith("# yaml-language-server: $schema=../../schemas/manifest.json\n")


@pytest.mark.parametrize("folder", FOLDERS)
def test_validates(folder: str) -> None:
    done = subprocess.run([build_dir() / "triggerctl", "validate", EXAMPLES / folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == ""
    assert re.fullmatch(r"1 file, \d+ resources: 0 errors\n", done.stderr)


def test_quickstart_counts_the_lines(start: Start, tmp_path: Path) -> None:
    (tmp_path / "quickstart" / "data" / "inbox").mkdir(parents=True)
    daemon = start("quickstart")
    file = daemon.data / "inbox" / "orders.csv"

    file.write_text("a,1\nb,2\n")
    [event] = daemon.wait_events(1)
    assert event["event_type"] == "file_created"
    run = daemon.run_of(event)
    assert run["outputs"] == {"lines": 2}
    assert step_of(run, "count")["output"] == {"file": "orders.csv", "lines": 2}

    (daemon.data / "inbox" / "notes.txt").write_text("not a CSV file\n")
    with file.open("a") as f:
        f.write("c,3\n")
    [_, event] = daemon.wait_events(2)
    assert event["event_type"] == "file_modified"
    assert daemon.run_of(event)["outputs"] == {"lines": 3}

    file.unlink()
    never(lambda: len(daemon.events()) > 2, 0.6, "an event for notes.txt, or for what was deleted")


@pytest.mark.skipif(not sandbox_works(), reason="bubblewrap does not work here")
def test_sandbox_digest(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon("sandbox")
    daemon.write("digest.yaml", (EXAMPLES / "sandbox" / "digest.yaml").read_text().replace("/tmp/triggerd-sandbox", str(daemon.data)))
    daemon.start()
    event = daemon.emit1("digest", {"text": "42 boxes"})
    assert daemon.run_of(event)["outputs"] == {"network": "none", "words": 2}
    assert (daemon.data / "last").read_text() == "42 boxes\n"


def test_secrets_seal(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon("secrets", env={"SEAL_ISSUER": "warehouse-7"})
    daemon.write("seal.yaml", (EXAMPLES / "secrets" / "seal.yaml").read_text())
    (daemon.manifests / "seal.key").write_text("a key of mine\n")
    daemon.start()
    for text in ("42 boxes", "${env:SEAL_ISSUER}"):
        run = daemon.fire("seal", {"text": text})
        assert run["outputs"] == {"seal": hashlib.sha256(f"a key of mine/warehouse-7/{text}".encode()).hexdigest()}
        assert run["inputs"]["issuer"] == "${env:SEAL_ISSUER}" and run["inputs"]["text"] == text
        assert "sealing with *** for ***\n" in log_of(daemon, run, "seal")
    (daemon.manifests / "seal.key").unlink()
    run = daemon.fire("seal", {"text": "43 boxes"})
    assert "env.KEY: ${file:seal.key}: there is no such file below " in run["error_message"]


def test_worker_counts_and_shouts(start: Start) -> None:
    daemon = start("worker")
    (daemon.data / "worker").mkdir()
    for file in ("count.py", "shout.sh"):
        (daemon.data / "worker" / file).write_bytes((EXAMPLES / "worker" / file).read_bytes())
    run = daemon.fire("words", {"text": "the quick brown fox"})
    assert run["outputs"] == {"words": 4, "shouted": "THE QUICK BROWN FOX!"}
    before = {p.pid for p in daemon.children()}
    assert len(before) == 2
    assert daemon.fire("words", {"text": "again"})["outputs"] == {"words": 1, "shouted": "AGAIN!"}
    assert {p.pid for p in daemon.children()} == before, "they are used again"
    failed = daemon.fire("words", {"text": ""})
    assert failed["status"] == "failed" and failed["error_message"] == 'step "count": there is nothing to count'
    assert log_of(daemon, failed, "count").endswith(f"counting for {failed['id']}\n")


def test_chain_reports(start: Start) -> None:
    daemon = start("chain")
    daemon.emit1("fetch", {"rows": 3})
    report = only_run(daemon, "report")
    assert report["status"] == "completed"
    assert report["outputs"] == {"text": "3 rows"}
    daemon.settle()
    assert [e["trigger_id"] for e in daemon.events()] == ["start-fetch", "report-after-fetch"]


def test_chain_tells_the_dead_letters(start: Start) -> None:
    daemon = start("chain")
    first = daemon.emit1("fetch", {"rows": 0})
    letter = only_run(daemon, "dead_letter")
    assert log_of(daemon, letter, "note") == 'report: step "check": exit code 1\n'
    assert only_run(daemon, "report")["status"] == "failed"
    assert only_run(daemon, "fetch")["status"] == "completed"
    [event] = daemon.events("dead-letters")
    assert event["root_event_id"] == first["id"]


def test_chain_hears_of_a_failed_fetch(start: Start) -> None:
    daemon = start("chain")
    daemon.emit1("fetch", {"rows": "none"})
    letter = only_run(daemon, "dead_letter")
    assert log_of(daemon, letter, "note").startswith('fetch: step "get": exit code 1')
    assert daemon.events("report-after-fetch") == []


@pytest.mark.parametrize("change, why", [
    ({"action": "login"}, "action"),
    ({"age": 17}, "user.age: expected numeric >= 18, found 17"),
    ({"email": "a@example.com"}, "user.email"),
])
def test_custom_events_turns_away(start: Start, change: dict[str, Any], why: str) -> None:
    daemon = start("custom-events")
    user = {"id": 7, "age": 18, "email": "a@b.org"}
    data: dict[str, Any] = {"action": "signup", "user": user}
    run = daemon.run_of(daemon.emit1("user_events", data))
    assert log_of(daemon, run, "greet") == "welcome 7 <a@b.org>\n"

    for key, value in change.items():
        (data if key == "action" else user)[key] = value
    assert daemon.emit("user_events", data)["events"] == []
    told = daemon.ctl("describe", "trigger", "handle-user-events").stdout
    assert why in told.split("Turned away by its filter")[1].split("\nConfig")[0]
    asked = daemon.ctl("test", "handle-user-events", "--dry-run", "--data", json.dumps(data))
    assert asked.stdout.startswith(f"filtered: {why}"), asked.stdout + asked.stderr
    assert len(daemon.events()) == 1


def test_schedule_knows_the_next_night(start: Start) -> None:
    daemon = start("schedule")
    connected = daemon.condition("nightly-report", "Connected")
    found = re.fullmatch(r"next at (\S+)Z", connected["message"])
    assert found, connected
    at = datetime.fromisoformat(found[1]).replace(tzinfo=timezone.utc)
    assert timedelta(0) < at - datetime.now(timezone.utc) <= timedelta(hours=25, minutes=1)
    local = at.astimezone(ZoneInfo("Europe/Rome"))
    assert local.hour == 2 or at.month in (3, 10), local

    done = daemon.ctl("test", "nightly-report", "--data", '{"scheduled_at": "2026-01-01T01:00:00.000Z"}')
    assert done.returncode == 0, done.stderr
    run = only_run(daemon, "nightly_report")
    assert log_of(daemon, run, "report") == "report for 2026-01-01T01:00:00.000Z\n"


@contextmanager
def alone() -> Iterator[None]:
    """One run of quickstart.sh at a time on this machine: the manifest names its directory."""
    directory = os.open(Path(QUICKSTART).parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        yield
    finally:
        os.close(directory)


def test_quickstart_script(tmp_path: Path) -> None:
    """What quickstart.sh does once it has built."""
    with alone():
        done = subprocess.run([EXAMPLES / "quickstart.sh"], capture_output=True, text=True, timeout=120, cwd=tmp_path,
                              env={**os.environ, "QUICKSTART_BUILD": str(build_dir()), "HOME": str(tmp_path)})
        left = Path(QUICKSTART).exists()
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert not left
    assert not re.search("Installing|Building|\033", done.stdout)
    for said in (r"count-new-csv-files +active +file_watch", r"file_created +completed +fired", r"Decision: +fired",
                 r"count_lines +count-new-csv-files +completed", r'^\{"file": "orders.csv", "lines": 3\}$'):
        assert re.search(said, done.stdout, re.MULTILINE), f"{said} not in:\n{done.stdout}"


def test_quickstart_script_says_what_is_wrong(tmp_path: Path) -> None:
    """A daemon that ends at once is no endless wait."""
    for name in ("triggerd", "triggerctl"):
        (tmp_path / name).write_text("#!/bin/sh\nexit 1\n")
        (tmp_path / name).chmod(0o755)
    with alone():
        done = subprocess.run([EXAMPLES / "quickstart.sh"], capture_output=True, text=True, timeout=60,
                              env={**os.environ, "QUICKSTART_BUILD": str(tmp_path)})
    assert done.returncode == 1
    assert "waited in vain: triggerctl get triggers" in done.stderr


def test_http_step_rolls_out(make_daemon: Callable[..., Daemon]) -> None:
    seen: list[tuple[str, dict[str, str], Any]] = []

    class Service(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            seen.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
            busy = len(seen) == 1
            self.send_response(503 if busy else 200)
            if busy:
                self.send_header("Retry-After", "1")
            self.end_headers()
            self.wfile.write(b'{"state": "rolling out"}')

        def log_message(self, *_: Any) -> None:
            pass

    service = ThreadingHTTPServer(("127.0.0.1", 0), Service)
    threading.Thread(target=service.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{service.server_address[1]}"
    daemon = make_daemon("d", env={"DEPLOY_URL": url, "DEPLOY_TOKEN": "sesame"})
    daemon.write("deploy.yaml", (EXAMPLES / "http-step" / "deploy.yaml").read_text())
    daemon.start()
    done = daemon.ctl("emit", "releases", "--data",
                      json.dumps({"service": "shop", "version": "1/2", "labels": {"canary": True}, "notify": url + "/chat"}))
    assert done.returncode == 0, done.stderr
    run = only_run(daemon, "roll-out")
    service.shutdown()
    service.server_close()
    assert run["status"] == "completed" and run["outputs"] == {"state": "rolling out"}
    assert [path for path, _, _ in seen] == ["/services/shop/releases"] * 2 + ["/chat"]
    assert seen[1][2] == {"version": "1/2", "labels": {"canary": True}} and seen[1][1]["authorization"] == "Bearer sesame"
    assert seen[0][1]["idempotency-key"] == seen[1][1]["idempotency-key"] and "authorization" not in seen[2][1]
    assert seen[2][2] == {"text": "shop 1/2: rolling out"}
    assert "sesame" not in json.dumps(run)


def test_rabbitmq_orders(make_daemon: Callable[..., Daemon], tmp_path: Path) -> None:
    with serve(RabbitMQ, tmp_path / "rabbitmq") as server:
        for queue in ("orders.priced", "orders.rejected"):
            server.call("declare", queue)
        daemon = make_daemon("d", env={"AMQP_URL": f"amqp://guest:guest@127.0.0.1:{server.port}"})
        daemon.write("orders.yaml", (EXAMPLES / "rabbitmq-orders" / "orders.yaml").read_text())
        daemon.start()
        wait_for(lambda: daemon.condition("orders", "Connected").get("status") == "True", what="connected")
        server.call("publish", "order.new", b'{"id": "o-1", "quantity": 3, "price": 9.5}', exchange="amq.topic")
        server.call("publish", "order.new", b"no order \xff", exchange="amq.topic")
        wait_for(lambda: server.call("count", "orders.priced") == 1, what="a price")
        assert json.loads(server.call("get", "orders.priced").body) == {"id": "o-1", "total": 28.5}
        wait_for(lambda: server.call("count", "orders.rejected") == 1, what="rejected")
        assert server.call("get", "orders.rejected").body == b"no order \xff"
        daemon.settle("orders")
        assert server.call("count", "orders") == 0


def test_sqs_measures(make_daemon: Callable[..., Daemon], tmp_path: Path) -> None:
    with serve(Sqs, tmp_path / "sqs") as server:
        url, measured = server.queue("uploads"), server.queue("measured")
        daemon = make_daemon("d", env={"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "sesame", "SQS_ENDPOINT": server.url})
        daemon.write("uploads.yaml", (EXAMPLES / "sqs" / "uploads.yaml").read_text())
        daemon.start()
        server.send(url, json.dumps({"name": "a", "text": "h\u00e9llo"}))
        wait_for(lambda: server.count(measured)[0] == 1, what="measured")
        got = server.call("ReceiveMessage", QueueUrl=measured, MessageAttributeNames=["All"])["Messages"][0]
        assert json.loads(got["Body"]) == {"name": "a", "bytes": 6}
        assert got["MessageAttributes"]["upload"]["StringValue"] == "a"
        wait_for(lambda: server.count(url) == (0, 0), what="deleted")


def test_kafka_stream(make_daemon: Callable[..., Daemon], tmp_path: Path) -> None:
    with serve(Kafka, tmp_path / "kafka") as kafka:
        daemon = make_daemon()
        text = (EXAMPLES / "kafka-stream" / "stream.yaml").read_text()
        daemon.write("stream.yaml", text.replace(":9092", f":{kafka.port}"))
        daemon.start()
        for topic in ("orders", "orders.dead", "shipments"):
            kafka.client().create(topic)
        wait_for(lambda: daemon.condition("order-stream", "Connected").get("status") == "True", 60, "connected")
        kafka.client().produce("orders", '{"sku": "lamp"}', key=b"ann", headers={"from": b"web"})
        kafka.client().produce("orders", "no order", key=b"bob", headers={"from": b"web"})
        kafka.client().flush()
        wait_for(lambda: kafka.client().ends("orders.dead", 0)[1] == 1, 60, "what is no order is aside")
        dead = kafka.client().read("orders.dead")[0]
        assert (dead.key, dead.value, dead.headers) == (b"bob", b"no order", [("from", b"web")])
        events = daemon.settle("order-stream")
        assert sorted(e["status"] for e in events) == ["completed", "failed"]
        shipped = kafka.client().read("shipments")
        assert [(r.key, r.value) for r in shipped] == [(b"ann", b'{"sku":"lamp","shipped":true}')]
        done = next(e for e in events if e["status"] == "completed")
        assert daemon.run(done["run_id"])["outputs"] == {"said": "packing lamp for ann\n"}


def test_redis_jobs(make_daemon: Callable[..., Daemon], tmp_path: Path) -> None:
    with serve(Redis, tmp_path / "redis", password="secret") as redis:
        daemon = make_daemon(env={"REDIS_PASSWORD": "secret"})
        text = (EXAMPLES / "redis-jobs" / "jobs.yaml").read_text()
        daemon.write("jobs.yaml", text.replace(":6379", f":{redis.port}"))
        daemon.start()
        for id in ("image-jobs", "finished-images"):
            wait_for(lambda id=id: daemon.condition(id, "Connected").get("status") == "True", what=f"{id} connected")
        redis.call("RPUSH", "jobs", '{"image": "cat.png", "width": 640}', '{"image": "dog.png"}', "no job at all")
        shelved = only_run(daemon, "shelve")
        assert shelved["outputs"] == {"said": "on the shelf: cat.png\n"}
        events = daemon.settle("image-jobs")
        assert sorted(e["status"] for e in events) == ["completed", "failed", "failed"]
        done = next(e for e in events if e["status"] == "completed")
        assert daemon.run(done["run_id"])["outputs"] == {"said": "resizing cat.png to 640\n"}
        wait_for(lambda: redis.call("LLEN", "jobs.dead") == 2)
        assert sorted(redis.lines("jobs.dead")) == [b"no job at all", b'{"image": "dog.png"}']
        wait_for(lambda: redis.call("EXISTS", "jobs", f"jobs:triggerd:{daemon.node_id()}:image-jobs") == 0)
        assert redis.call("XINFO", "GROUPS", "images")[0][1] == b"shelf"
        assert "secret" not in daemon.ctl("describe", "trigger", "image-jobs").stdout


def test_mcp_orders(start: Start) -> None:
    daemon = start("mcp-orders")
    for customer, status in (("c1", "pending"), ("c2", "paid")):
        arguments = json.dumps({"customer_id": customer, "status": status})
        done = daemon.ctl("mcp", "call", "database", "add_order", "--args", arguments)
        assert done.returncode == 0, done.stderr
    run = only_run(daemon, "pipe_order_processor")
    assert run["status"] == "completed"
    assert run["inputs"]["order_id"] == 1 and run["inputs"]["customer"] == "c1"
    assert run["outputs"]["order"] == {"id": 1, "customer_id": "c1", "status": "done"}
    shown = daemon.ctl("mcp", "list")
    assert "database" in shown.stdout and "connected" in shown.stdout and "orders 1.0" in shown.stdout
