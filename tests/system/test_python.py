"""src/python against a daemon: the client, workers, FlowMason's services, and how both packages install."""
from __future__ import annotations

import json
import os
import re
import select
import shutil
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness import ROOT, Daemon, custom, pipeline, script, wait_for

PACKAGE = ROOT / "src" / "python"
VENV = ROOT / "build" / "venv"


def interpreters() -> list[str]:
    """This one, and the oldest that is promised, where it can be had."""
    found = [sys.executable]
    old = shutil.which("python3.9")
    env = {**os.environ, "PYENV_VERSION": os.environ.get("PYTHON39", "3.9.18")}
    if old and subprocess.run([old, "-c", ""], env=env, capture_output=True).returncode == 0:
        found.append(old)
    return found


@pytest.fixture(params=interpreters(), ids=lambda p: Path(p).name)
def python(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def environment(daemon: Daemon) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(PACKAGE), "TRIGGERD_SOCKET": str(daemon.socket),
            "PYENV_VERSION": os.environ.get("PYTHON39", "3.9.18"), "PYTHONDONTWRITEBYTECODE": "1"}


def run(daemon: Daemon, python: str, text: str, code: int = 0) -> str:
    done = subprocess.run([python, "-"], input=textwrap.dedent(text), text=True, capture_output=True, timeout=60,
                          env=environment(daemon), cwd=daemon.root)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


SNIPPET = '''
from flowmason_studio.services.trigger_service import get_trigger_service
from flowmason_studio.services.trigger_storage import get_trigger_storage
from flowmason_studio.models.triggers import TriggerType

# Create trigger
storage = get_trigger_storage()
trigger = storage.create_trigger(
    name="Process Files",
    pipeline_id="pipe_processor",
    trigger_type=TriggerType.FILE_WATCH,
    config={
        "path": "/data/*.json",
        "events": ["created"],
    },
)

# Emit custom event
service = get_trigger_service()
await service.emit_custom_event(
    endpoint="my_events",
    event_data={"action": "test", "value": 42},
)

# Notify pipeline completion
await service.notify_pipeline_completed(
    pipeline_id="pipe_source",
    run_id="run_123",
    status="success",
    outputs={"result": "data"},
)
'''


def test_the_snippet_word_for_word(daemon: Daemon, python: str) -> None:
    daemon.put("m.yaml", pipeline("p", script("cat")), custom("mine", endpoint="my_events"),
               {"id": "after", "name": "after", "pipeline_id": "p", "trigger_type": "pipeline_completed",
                "config": {"source_pipeline_id": "pipe_source", "pass_outputs": True}})
    run(daemon, python, "import asyncio\nasync def main():\n" + textwrap.indent(SNIPPET, "    ") +
        "    assert trigger.trigger_type is TriggerType.FILE_WATCH and trigger.status.value == 'active'\n"
        "asyncio.run(main())\n")
    made = daemon.trigger("process-files")
    assert made["config"] == {"path": "/data/*.json", "events": ["created"]}
    assert daemon.wait_events(1, "mine")[0]["event_data"] == {"action": "test", "value": 42}
    assert daemon.wait_events(1, "after")[0]["resolved_inputs"]["result"] == "data"


def test_storage_and_service(daemon: Daemon, python: str) -> None:
    daemon.put("m.yaml", pipeline("p", script("cat")))
    run(daemon, python, """
        import asyncio
        from flowmason_studio.models.triggers import TriggerEventStatus, TriggerStatus
        from flowmason_studio.services.trigger_service import get_trigger_service
        from flowmason_studio.services.trigger_storage import get_trigger_storage
        storage, service = get_trigger_storage(), get_trigger_service()
        assert get_trigger_storage() is storage
        for n in range(3):
            storage.create_trigger(f"Number {n}", "p", "custom", {"endpoint": f"e{n}"}, max_concurrent=n + 1)
        assert [t.id for t in storage.list_triggers(pipeline_id="p")] and len(storage.list_triggers()) == 3
        t = storage.get_trigger("number-1")
        assert t.max_concurrent == 2 and t.created_at.tzinfo is not None
        assert storage.update_trigger("number-1", cooldown_seconds=2.5).cooldown_seconds == 2.5
        async def use():
            assert (await service.pause_trigger("number-1")).status is TriggerStatus.PAUSED
            assert (await service.resume_trigger("number-1")).status is TriggerStatus.ACTIVE
            tested = await service.test_trigger("number-2", {"x": 1})
            assert tested.event_type == "test"
            return await service.emit_custom_event("e0", {"x": 1})
        event, = asyncio.run(use())
        storage.client.wait_event(event.id, 30)
        assert storage.get_event(event.id).status is TriggerEventStatus.COMPLETED
        assert [e.id for e in storage.list_events(trigger_id="number-0", since=event.occurred_at)] == [event.id]
        assert storage.delete_trigger("number-0") and not storage.delete_trigger("number-0")
        assert storage.get_trigger("number-0") is None and storage.update_trigger("number-0", enabled=False) is None
        """)
    assert not daemon.exists("number-0") and daemon.trigger("number-1")["cooldown_seconds"] == 2.5


def test_the_client(daemon: Daemon, python: str) -> None:
    daemon.put("m.yaml", pipeline("p", script("cat; echo noise >&2")), custom("t", endpoint="e"))
    run(daemon, python, """
        import pickle, triggerd
        with triggerd.Client() as c:
            assert c.ready() and c.status()["ready"]
            answer = c.emit("e", {"n": 12345678901234567890})
            event = c.wait_event(answer["events"][0]["id"], 30)
            assert (event["status"], event["event_data"]) == ("completed", {"n": 12345678901234567890})
            assert c.events(trigger_id="t", status="completed").total == 1
            assert b"noise" in c.step_output(event["run_id"], "s", stderr=True)
            done = c.run_pipeline("p", {"a": "\\u00e4"}, wait=True, timeout=30)
            assert done["status"] == "completed" and done["steps"][0]["output"] == {"a": "\\u00e4"}
            assert c.dry_run("t", {})["decision"] == "fired"
            assert c.replay(event["id"])["replayed"] == 1 and c.replay(trigger_id="t", dry_run=True)["matched"] == 2
            assert "kind: pipeline" in c.manifest_text("pipeline", "p") or '"pipeline"' in c.manifest_text("pipeline", "p")
            assert "triggerd_decisions_total" in c.metrics()
            c.create_pipeline("q", [{"id": "s", "exec": {"command": ["/bin/true"]}}])
            etag = c.trigger_etag("t")
            c.update_trigger("t", if_match=etag, description="changed")
            for error, call in [
                    (triggerd.NotFound, lambda: c.trigger("none")),
                    (triggerd.PreconditionFailed, lambda: c.update_trigger("t", if_match=etag, description="lost")),
                    (triggerd.Conflict, lambda: c.create_trigger("T", "p", "custom", {"endpoint": "e"}, id="t")),
                    (triggerd.BadRequest, lambda: c.events(status="nonsense")),
                    (triggerd.ValidationFailed, lambda: c.create_trigger("x", "p", "custom", {"endpont": "e"}))]:
                try:
                    call()
                except error as e:
                    assert isinstance(e, triggerd.TriggerdError) and e.detail and e.status >= 400
                    kept = pickle.loads(pickle.dumps(e))
                    assert (type(kept), kept.errors, str(kept)) == (error, e.errors, str(e))
                    last = e
                else:
                    raise AssertionError(error)
            assert [(x.path, "endpoint" in x.message) for x in last.errors] == [
                ("config.endpoint", False), ("config.endpont", True)]
        try:
            triggerd.Client(socket="/nowhere/sock").stats()
        except triggerd.ConnectionFailed as e:
            assert "/nowhere/sock" in str(e)
        """)


def test_over_tcp_with_a_token(make_daemon: Callable[..., Daemon], python: str) -> None:
    daemon = make_daemon(listen=True)
    secret = daemon.root / "token"
    secret.write_text("sesame\n")
    secret.chmod(0o600)
    config = daemon.root / "triggerd.yaml"
    config.write_text(json.dumps({"api": {"token_file": str(secret)}}))
    daemon.args += ["--config", str(config)]
    daemon.start()
    run(daemon, python, f"""
        import triggerd
        url = "http://127.0.0.1:{daemon.port}"
        assert triggerd.Client(url, token="sesame").stats()["total_triggers"] == 0
        try:
            triggerd.Client(url, token="wrong").stats()
        except triggerd.Unauthorized:
            pass
        else:
            raise AssertionError("a wrong token was taken")
        """)


def test_follow_goes_on_after_a_restart(daemon: Daemon, python: str) -> None:
    daemon.put("m.yaml", pipeline("p", script("true")), custom("t", endpoint="e"))
    follower = subprocess.Popen([python, "-uc", textwrap.dedent("""
        import triggerd
        for event in triggerd.Client().follow(trigger_id="t", status="completed"):
            print(event["event_data"]["n"])
        """)], stdout=subprocess.PIPE, text=True, env=environment(daemon))
    try:
        told = ""
        first = -1

        def text(seconds: float) -> str:
            nonlocal told
            if select.select([follower.stdout], [], [], seconds)[0] and follower.stdout:
                told += os.read(follower.stdout.fileno(), 65536).decode()
            return told

        def seen() -> bool:  # the follower has begun when it tells of one
            nonlocal first
            first += 1
            daemon.wait_event(daemon.emit1("e", {"n": first})["id"])
            return bool(text(0.2))

        wait_for(seen)
        daemon.restart()
        daemon.wait_event(daemon.emit1("e", {"n": "after"})["id"])
        wait_for(lambda: "after" in text(0.1).splitlines())
    finally:
        follower.kill()
        follower.wait()


def test_an_answer_that_is_lost_makes_no_second_event(daemon: Daemon, python: str) -> None:
    daemon.put("m.yaml", pipeline("p", script("true")), custom("t", endpoint="e"))
    path = daemon.root / "between"
    requests: list[bytes] = []

    def serve(listener: socket.socket) -> None:
        """Hands requests on; the first answer is not given back."""
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with client, socket.socket(socket.AF_UNIX) as server:
                server.connect(str(daemon.socket))
                data = client.recv(65536)
                while b"\r\n\r\n" not in data or len(data.split(b"\r\n\r\n", 1)[1]) < 10:
                    data += client.recv(65536)
                requests.append(data)
                server.sendall(data)
                answer = server.recv(65536)
                if len(requests) > 1:
                    client.sendall(answer)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        run(daemon, python, f"""
            import triggerd
            answer = triggerd.Client(socket={str(path)!r}).emit("e", {{"n": 1}})
            assert len(answer["events"]) == 1
            """)
        listener.shutdown(socket.SHUT_RDWR)
    assert len(requests) == 2
    assert len(daemon.events("t")) == 1


def test_a_step_emits_once_over_its_attempts(daemon: Daemon, python: str) -> None:
    program = daemon.root / "twice.py"
    program.write_text(textwrap.dedent("""
        import os, sys, triggerd
        client = triggerd.Client()
        client.emit("e", {"same": True})
        client.emit("e", {"same": True})
        client.emit("e", {"other": True})
        sys.exit(os.environ["TRIGGERD_ATTEMPT"] == "1")
        """))
    env = {k: v for k, v in environment(daemon).items() if k in ("PYTHONPATH", "PYENV_VERSION", "TRIGGERD_SOCKET", "PATH")}
    daemon.put("m.yaml", pipeline("p", {"id": "s", "exec": {"command": [python, str(program)], "env": env},
                                        "retry": {"max_attempts": 2, "initial_seconds": 0}}),
               pipeline("q", script("true")), custom("first", "p", "begin"), custom("t", "q", "e"))
    event = daemon.wait_event(daemon.emit1("begin")["id"])
    assert event["status"] == "completed", daemon.run_of(event)
    daemon.wait_events(3, "t")
    found = daemon.settle("t")
    assert len(found) == 3
    assert {e["root_event_id"] for e in found} == {event["id"]}  # they belong to its chain


WORKER = """
import os, sys, time
import triggerd

@triggerd.worker
def work(inputs, request):
    print("working on", request.step)
    os.system("echo from a child")
    kind = inputs["kind"]
    if kind == "emit":
        triggerd.Client().emit("e", {"from": request.run_id})
    if kind == "raise":
        raise ValueError("no such thing")
    if kind == "say":
        raise triggerd.WorkerError("refused")
    if kind == "odd":
        return {1, 2}
    return {"kind": kind, "attempt": request.attempt, "current": triggerd.current_request() is request}
"""


@pytest.mark.parametrize("how", ["served", "at its end"])
def test_a_worker(daemon: Daemon, python: str, how: str) -> None:
    program = daemon.root / "worker.py"
    served = 'print("starting")  # no answer\nif __name__ == "__main__":\n    work.serve()\n'
    program.write_text(WORKER + (served if how == "served" else ""))
    env = {k: v for k, v in environment(daemon).items() if k in ("PYTHONPATH", "PYENV_VERSION", "TRIGGERD_SOCKET", "PATH")}
    daemon.put("m.yaml", pipeline("p", {"id": "s", "worker": {"command": [python, str(program)], "env": env}}),
               pipeline("q", script("true")), custom("t", "q", "e"))

    def answer(kind: str) -> dict[str, Any]:
        started = daemon.post("/api/v1/pipelines/p/run", {"inputs": {"kind": kind}})
        done = wait_for(lambda: (r := daemon.run(started["id"]))["completed_at"] and r)
        return dict(done["steps"][0])

    first = answer("plain")
    assert first["error_message"] is None and first["output"] == {"kind": "plain", "attempt": 1, "current": True}, first
    assert answer("raise")["error_message"] == "ValueError: no such thing"
    assert answer("say")["error_message"] == "refused"
    assert "no JSON" in answer("odd")["error_message"]
    answer("emit")
    assert daemon.wait_events(1, "t")[0]["event_data"]["from"].startswith("run_")


def test_async_workers_and_plain_calls(daemon: Daemon, python: str) -> None:
    out = run(daemon, python, """
        import io, json, sys, triggerd
        @triggerd.worker
        async def add(inputs):
            "Adds."
            return inputs["a"] + inputs["b"]
        @triggerd.worker()
        def names(inputs):
            return sorted(inputs)
        answers = io.StringIO()
        add.serve(io.StringIO('{"id": 1, "inputs": {"a": 1, "b": 2}}\\n\\nnonsense\\n{"id": 2, "inputs": {}}\\n'), answers)
        sys.stdout.write(answers.getvalue())
        assert names({"b": 1, "a": 2}) == ["a", "b"] and add.__doc__ == "Adds."
        """)
    answers = [json.loads(line) for line in out.splitlines()]
    assert answers == [{"id": 1, "output": 3}, {"id": 2, "error": "KeyError: 'a'"}]


def test_it_installs_and_builds_wheels(daemon: Daemon, tmp_path: Path) -> None:
    """Offline: with the setuptools that venv brings."""
    copy = tmp_path / "python"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__", "build", "*.egg-info", ".mypy_cache"))
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True, capture_output=True)
    pip = [str(tmp_path / "venv" / "bin" / "pip"), "--disable-pip-version-check", "-q"]
    offline = ["--no-index", "--no-build-isolation"]
    have = subprocess.run([str(tmp_path / "venv" / "bin" / "python"), "-c", "import setuptools, wheel"],
                          capture_output=True)
    if have.returncode != 0:
        done = subprocess.run([*pip, "install", "setuptools", "wheel"], capture_output=True, text=True)
        if done.returncode != 0:
            pytest.skip("no setuptools and wheel to be had")
    for target in ("", "flowmason_studio"):
        done = subprocess.run([*pip, "install", *offline, str(copy / target)], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        done = subprocess.run([*pip, "wheel", *offline, "--no-deps", "-w", str(tmp_path / "wheels"), str(copy / target)],
                              capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(w.name.split("-")[0] for w in (tmp_path / "wheels").iterdir()) == ["triggerd_client", "triggerd_flowmason"]
    done = subprocess.run([str(tmp_path / "venv" / "bin" / "python"), "-c", textwrap.dedent("""
        import triggerd, flowmason_studio, pathlib
        from flowmason_studio.services.trigger_storage import get_trigger_storage
        assert pathlib.Path(triggerd.__file__).with_name("py.typed").exists()
        assert pathlib.Path(flowmason_studio.__file__).with_name("py.typed").exists()
        print(get_trigger_storage().get_stats()["total_triggers"])
        """)], capture_output=True, text=True, cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "TRIGGERD_SOCKET": str(daemon.socket)})
    assert (done.returncode, done.stdout) == (0, "0\n"), done.stderr


def test_another_triggerd_is_not_taken_for_ours(tmp_path: Path) -> None:
    """The package index has one. It is not asked for, and where it is there, the message says so."""
    for project in (PACKAGE, PACKAGE / "flowmason_studio"):
        text = (project / "pyproject.toml").read_text()
        assert re.search(r'^name = "triggerd-\w+"', text, re.MULTILINE)
        assert re.findall(r"^dependencies = (.*)$", text, re.MULTILINE) in ([], ["[]"])
    (tmp_path / "triggerd").mkdir()
    (tmp_path / "triggerd" / "__init__.py").touch()
    done = subprocess.run([sys.executable, "-c", "import flowmason_studio.services.trigger_service"], capture_output=True,
                          text=True, env={**os.environ, "PYTHONPATH": f"{tmp_path}:{PACKAGE}"})
    assert done.returncode == 1 and "ImportError: flowmason_studio needs triggerd's own client" in done.stderr


@pytest.mark.skipif(not (VENV / "bin" / "mypy").exists(), reason="no mypy in build/venv: see tests/install-deps.sh")
def test_it_is_typed() -> None:
    done = subprocess.run([str(VENV / "bin" / "mypy"), "--strict", "--python-version", "3.9", "--cache-dir", os.devnull,
                           "triggerd", "flowmason_studio"], capture_output=True, text=True, cwd=PACKAGE)
    assert done.returncode == 0, done.stdout
