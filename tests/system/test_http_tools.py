"""REST in the hands of others: a generated client, a fuzzer of APIs, a signer of webhooks, Prometheus' own checker, and
clients that mean harm. Tools that are not there are skipped: see tests/install-deps.sh."""
from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import os
import re
import resource
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import ECHO, ROOT, Daemon, custom, pipeline, script, wait_for

HERE = Path(__file__).parent
VENV = ROOT / "build" / "venv" / "bin"
PROMTOOL = shutil.which("promtool") or shutil.which("promtool", path=str(ROOT / "build" / "tools"))
MANY = 1000


def tool(name: str) -> str:
    found = VENV / name
    if not found.exists():
        pytest.skip(f"no {name}: see tests/install-deps.sh")
    return str(found)


def run(*command: str | Path, timeout: float = 300, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=timeout, check=False, **more)


# ---- a generated client ----

CLIENT = """
import json, sys
from triggerd_client import Client
from triggerd_client.api.default import (delete_triggers_trigger_id, get_manifests, get_pipelines, get_runs, get_status,
    get_triggers, get_triggers_events, get_triggers_stats, get_triggers_trigger_id, post_pipelines,
    post_pipelines_pipeline_id_run, post_triggers, post_triggers_emit, post_triggers_trigger_id_pause,
    post_triggers_trigger_id_test, put_triggers_trigger_id)
from triggerd_client.models import (CustomConfig, Emit, EventStatus, PipelineCreate, Problem, RunRequest, Trigger, TriggerCreate,
    TriggerStatus, TriggerType, TriggerUpdate)

client = Client(base_url=sys.argv[1], raise_on_unexpected_status=True)
made = post_pipelines.sync(client=client, body=PipelineCreate.from_dict(
    {"id": "p", "steps": [{"id": "s", "exec": {"command": ["cat"]}}]}))
assert made.id == "p", made
body = TriggerCreate(name="My Trigger", pipeline_id="p", trigger_type=TriggerType.CUSTOM, config=CustomConfig(endpoint="e"))
made = post_triggers.sync(client=client, body=body)
assert isinstance(made, Trigger) and made.id == "my-trigger" and made.status == TriggerStatus.ACTIVE, made
assert made == get_triggers_trigger_id.sync("my-trigger", client=client)
answer = put_triggers_trigger_id.sync("my-trigger", client=client, body=TriggerUpdate(description="more", max_concurrent=3))
assert (answer.description, answer.max_concurrent, answer.name) == ("more", 3, "My Trigger"), answer
emitted = post_triggers_emit.sync(client=client, body=Emit(endpoint="e", data={"n": 1}), idempotency_key="1")
assert emitted.triggered_count == 1
again = post_triggers_emit.sync(client=client, body=Emit(endpoint="e", data={"n": 1}), idempotency_key="1")
assert again.triggered_count == 0 and again.events[0].id == emitted.events[0].id
tested = post_triggers_trigger_id_test.sync("my-trigger", client=client, body={"n": 2}, dry_run=True)
assert tested.decision in ("fired", "concurrency"), tested
events = get_triggers_events.sync(client=client, status=EventStatus.COMPLETED, since="1h")
while events.total < 1:
    events = get_triggers_events.sync(client=client, status=EventStatus.COMPLETED, since="1h")
assert events.events[0].id == emitted.events[0].id and events.events[0].completed_at.tzinfo
run = post_pipelines_pipeline_id_run.sync("p", client=client, body=RunRequest.from_dict({"inputs": {"a": 1}}))
assert run.pipeline_id == "p" and get_runs.sync(client=client, pipeline_id="p").total == 2
paused = post_triggers_trigger_id_pause.sync("my-trigger", client=client)
assert paused.success and paused.trigger.status == TriggerStatus.PAUSED
assert get_triggers.sync(client=client, status=TriggerStatus.PAUSED).triggers[0] == paused.trigger
wrong = post_triggers.sync(client=client, body=TriggerCreate(name="x", pipeline_id="p", trigger_type=TriggerType.CUSTOM,
                                                             config=CustomConfig(endpoint="not good")))
assert isinstance(wrong, Problem) and wrong.status == 422 and wrong.errors[0].path == "config.endpoint", wrong
assert isinstance(get_triggers_trigger_id.sync("none", client=client), Problem)
gone = delete_triggers_trigger_id.sync("my-trigger", client=client)
assert gone.success and gone.trigger is None
assert get_triggers_stats.sync(client=client).total_triggers == 0
assert get_pipelines.sync(client=client).total == 1 and get_manifests.sync(client=client).total == 1
assert get_status.sync(client=client).ready
print("done")
"""


def test_a_generated_client(make_daemon: Any, tmp_path: Path) -> None:
    generator = tool("openapi-python-client")
    d: Daemon = make_daemon(listen=True).start()
    document = tmp_path / "openapi.json"
    document.write_bytes(d.http("GET", "/openapi.json").body)
    # Its last step calls formatters, which change nothing about the client.
    config = tmp_path / "config.yaml"
    config.write_text("post_hooks: []\n")
    made = run(generator, "generate", "--path", document, "--meta", "none", "--output-path", tmp_path / "triggerd_client",
               "--config", config)
    told = made.stdout + made.stderr
    assert made.returncode == 0 and not re.search(r"WARNING|Unable|not be generated|missing", told), told
    used = run(VENV / "python", "-c", CLIENT, f"http://127.0.0.1:{d.port}", env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert used.returncode == 0 and used.stdout == "done\n", used.stderr[-3000:]


# ---- a fuzzer of APIs ----


def test_schemathesis(make_daemon: Any, tmp_path: Path) -> None:
    """Every check, a few cases of each operation; more by hand: SCHEMATHESIS_CASES=120. Not those that speak to another server,
    and not the streams, which never end: see below."""
    fuzzer = tool("schemathesis")
    d: Daemon = make_daemon(listen=True).start()
    d.put("m.yaml", ECHO, custom("t"), {"kind": "trigger", "id": "w", "name": "w", "pipeline_id": "p", "trigger_type": "webhook",
                                        "config": {"path": "a/b"}})
    done = run(fuzzer, "--config-file", HERE / "schemathesis.toml", "run", f"http://127.0.0.1:{d.port}/openapi.json", "--checks",
               "all", "--exclude-path-regex", "/(events/stream|changes|notifications|tools|call)$", "--phases", "coverage,fuzzing", "-n",
               os.environ.get("SCHEMATHESIS_CASES", "3"), "--request-timeout", "20", "--no-shrink", "--continue-on-failure",
               "--suppress-health-check", "all", "--seed", "1", cwd=tmp_path, timeout=1800)
    assert done.returncode == 0, done.stdout[-8000:]
    assert re.search(r"[0-9]+ generated", done.stdout)


STREAMS = """
import sys, requests, schemathesis
from hypothesis import HealthCheck, given, settings
schema = schemathesis.openapi.from_url(sys.argv[1] + "/openapi.json")
seen = set()
for path in ("/api/v1/events/stream", "/api/v1/changes"):
    documented = schema.raw_schema["paths"][path]["get"]["responses"]

    @settings(max_examples=int(sys.argv[2]), deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(case=schema[path]["GET"].as_strategy())
    def ask(case):
        with requests.request(**case.as_transport_kwargs(base_url=sys.argv[1]), stream=True, timeout=20) as answer:
            assert str(answer.status_code) in documented, answer.status_code
            assert answer.status_code < 500
            kind = answer.headers["Content-Type"]
            assert kind == ("text/event-stream" if answer.status_code == 200 else "application/problem+json")
            seen.add((path, answer.status_code))

    ask()
    assert (path, 200) in seen
print("done")
"""


def test_schemathesis_of_streams(make_daemon: Any, tmp_path: Path) -> None:
    tool("schemathesis")
    d: Daemon = make_daemon(listen=True).start()
    d.put("m.yaml", ECHO, custom("t"))
    done = run(VENV / "python", "-c", STREAMS, f"http://127.0.0.1:{d.port}", os.environ.get("SCHEMATHESIS_CASES", "30"),
               cwd=tmp_path)
    assert done.returncode == 0 and done.stdout.endswith("done\n"), done.stderr[-4000:]


# ---- metrics ----


@pytest.mark.skipif(PROMTOOL is None, reason="no promtool: see tests/install-deps.sh")
def test_metrics_are_clean(daemon: Daemon) -> None:
    assert PROMTOOL is not None
    odd = 'a.b-c_d'
    daemon.put("m.yaml", ECHO, pipeline("q", script("exit 1")), custom("t"), custom(odd, pipeline="q"), custom("off", enabled=False))
    for when in ("with nothing", "after events"):
        text = daemon.http("GET", "/metrics").body
        checked = subprocess.run([PROMTOOL, "check", "metrics"], input=text, capture_output=True, timeout=60, check=False)
        assert checked.returncode == 0 and not checked.stdout and not checked.stderr, (when, checked)
        for endpoint in ("t", odd, "off"):
            daemon.emit(endpoint)
        daemon.settle()
    assert b'trigger="a.b-c_d"' in text


# ---- signatures of others ----


def test_the_signer_of_standard_webhooks(make_daemon: Any) -> None:
    python = tool("python")
    secret = "whsec_" + base64.b64encode(bytes(range(32))).decode()
    d: Daemon = make_daemon(env={"HOOK": secret}).start()
    d.put("m.yaml", ECHO, {"kind": "trigger", "id": "w", "name": "w", "pipeline_id": "p", "trigger_type": "webhook",
                           "config": {"path": "in", "signature": {"scheme": "standard-webhooks", "secret": "${env:HOOK}"}}})
    text = """
import datetime, json, sys
from standardwebhooks.webhooks import Webhook
secret, id, data = sys.argv[1:]
now = datetime.datetime.now(tz=datetime.timezone.utc)
print(json.dumps({"webhook-id": id, "webhook-timestamp": str(int(now.timestamp())), "webhook-signature": Webhook(secret).sign(id, now, data)}))
"""
    body = '{"type": "order.made", "data": {"n": 1, "ü": "☃"}}'

    def signed(id: str, data: str = body) -> dict[str, str]:
        done = run(python, "-c", text, secret, id, data)
        if "No module" in done.stderr:
            pytest.skip("no standardwebhooks: see tests/install-deps.sh")
        return json.loads(done.stdout)

    headers = signed("msg_1")
    assert d.http("POST", "/hooks/in", body.encode(), headers).ok()["triggered_count"] == 1
    assert d.http("POST", "/hooks/in", body.encode(), headers).ok()["triggered_count"] == 0, "webhook-id is its identity"
    d.http("POST", "/hooks/in", body.encode() + b" ", signed("msg_2")).problem(401)
    d.http("POST", "/hooks/in", body.encode(), {**signed("msg_3"), "webhook-id": "msg_4"}).problem(401)
    rotated = signed("msg_5")
    rotated["webhook-signature"] = f"v1,{base64.b64encode(bytes(32)).decode()} {rotated['webhook-signature']}"
    assert d.http("POST", "/hooks/in", body.encode(), rotated).ok()["triggered_count"] == 1


def test_signatures_as_stripe_makes_them(make_daemon: Any) -> None:
    d: Daemon = make_daemon(env={"HOOK": "whsec_test"}).start()
    d.put("m.yaml", ECHO, {"kind": "trigger", "id": "w", "name": "w", "pipeline_id": "p", "trigger_type": "webhook",
                           "config": {"path": "in", "signature": {"scheme": "stripe", "secret": "${env:HOOK}"}}})
    body = b'{"id": "evt_1"}'

    def signed(at: int) -> str:
        return f"t={at},v1=" + hmac.new(b"whsec_test", f"{at}.".encode() + body, hashlib.sha256).hexdigest()

    now = int(time.time())
    assert d.http("POST", "/hooks/in", body, {"Stripe-Signature": signed(now)}).ok()["triggered_count"] == 1
    d.http("POST", "/hooks/in", body, {"Stripe-Signature": signed(now - 400)}).problem(401)
    d.http("POST", "/hooks/in", body, {"Stripe-Signature": signed(now).replace(f"t={now}", f"t={now + 1}")}).problem(401)
    event = d.wait_events(1, "w")[0]
    assert {k.lower(): v for k, v in event["event_data"]["headers"].items()}["stripe-signature"] == "***"


# ---- clients that mean harm ----


@contextlib.contextmanager
def descriptors(wanted: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"at most {hard} files may be open")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted) if soft != resource.RLIM_INFINITY else soft, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


SLOW = {"headers": b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-A: ",
        "a body": b"POST /api/v1/triggers/emit HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 4096\r\n\r\n{",
        "nothing": b"",
        "no reading": b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 8}


@pytest.mark.parametrize("kind", SLOW)
def test_many_slow_clients(make_daemon: Any, kind: str) -> None:
    """Whoever comes beside them, over TCP or the unix socket, is answered all the same."""
    with descriptors(4 * MANY), contextlib.ExitStack() as stack:
        d: Daemon = make_daemon(listen=True).start()
        d.put("m.yaml", ECHO, custom("t"))
        slow = []
        for n in range(MANY + 200):
            s = stack.enter_context(socket.socket())
            if kind == "no reading":
                s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            s.connect(("127.0.0.1", d.port))
            s.setblocking(False)
            with contextlib.suppress(OSError):
                s.send(SLOW[kind])
            slow.append(s)
            if n == MANY:
                assert d.http("GET", "/healthz", tcp=True).status == 200, "1 000 of them"

        def answered() -> bool:
            for s in slow[::7]:
                with contextlib.suppress(OSError):
                    s.send(b"x")
            return all(d.http("GET", "/healthz", tcp=tcp).status == 200 for tcp in (True, False))

        if kind != "no reading":  # those have asked and are being answered: they stay until their deadline
            wait_for(answered, what="who asks is answered")
            assert d.emit("t")["triggered_count"] == 1


@pytest.mark.skipif(shutil.which("slowhttptest") is None, reason="no slowhttptest: see tests/install-deps.sh")
@pytest.mark.parametrize("mode", [["-H"], ["-B"], ["-X"]], ids=["headers", "body", "reading"])
def test_slowhttptest(make_daemon: Any, tmp_path: Path, mode: list[str]) -> None:
    with descriptors(4 * MANY):
        d: Daemon = make_daemon(listen=True).start()
        target = f"http://127.0.0.1:{d.port}/{'openapi.json' if mode == ['-X'] else 'healthz'}"
        # Its own probe of the service gives up after 10 s: it says so at its end, and we ask beside it.
        with subprocess.Popen(["slowhttptest", *mode, "-c", str(MANY), "-r", "400", "-i", "2", "-l", "6", "-p", "10", "-u", target],
                              cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
            asked = 0
            while process.poll() is None:
                assert d.http("GET", "/healthz", tcp=True).status == 200
                asked += 1
                time.sleep(0.05)
            told = process.stdout.read().decode(errors="replace") if process.stdout else ""
        assert asked > 5
        assert "service available:   NO" not in re.sub(r"\x1b\[[0-9;]*m", "", told), told[-2000:]
