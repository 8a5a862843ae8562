"""What is promised of events: recorded before acknowledged, in order, once, no orphans, bounded. See crash.py as well."""
from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest
from crash import crash
from harness import ECHO, FINAL, Daemon, Gate, alive, custom, documents, never, pipeline, script, wait_for

KEY = {"input_mapping": {"key": "$.n"}}


@pytest.mark.parametrize("tree", [False, True], ids=["daemon", "tree"])
def test_kills_at_random(tmp_path: Path, tree: bool) -> None:
    crash(tmp_path, kills=int(os.environ.get("CRASH_KILLS", "5")), tree=tree, seed=int(os.environ.get("CRASH_SEED", "1")))


def test_in_order(daemon: Daemon) -> None:
    gate = Gate(daemon.data)
    daemon.put("m.yaml", pipeline("p", gate.step()), custom("t", config=KEY))
    for n in range(40):
        daemon.emit1("t", {"n": n})
    daemon.kill9()
    daemon.start()
    gate.open()
    for n in range(40, 60):
        daemon.emit1("t", {"n": n})
    daemon.settle(timeout=60)
    assert gate.keys("end") == [str(n) for n in range(60)]


def test_on_interrupt_fail(daemon: Daemon) -> None:
    gate = Gate(daemon.data)
    daemon.put("m.yaml", pipeline("p", gate.step()), custom("t", on_interrupt="fail"))
    id = daemon.emit1("t")["id"]
    wait_for(lambda: gate.lines("start"))
    daemon.kill9()
    daemon.start()
    event = daemon.wait_event(id, "failed")
    assert event["error_message"] and len(gate.lines("start")) == 1


def test_an_event_that_takes_the_daemon_down(daemon: Daemon) -> None:
    gate = Gate(daemon.data)
    daemon.put("m.yaml", pipeline("p", gate.step()), custom("t", max_interruptions=2))
    id = daemon.emit1("t")["id"]
    for n in range(1, 4):
        wait_for(lambda n=n: len(gate.lines("start")) == n)
        daemon.kill9()
        daemon.start()
    event = daemon.wait_event(id, "failed")
    assert "interrupt" in event["error_message"] and len(gate.lines("start")) == 3


def test_no_orphans(daemon: Daemon) -> None:
    """A run's processes, those in sessions of their own too, are gone before it runs again."""
    pids = daemon.data / "pids"
    daemon.put("m.yaml", pipeline("p", script('echo $$ >> "$PIDS"; setsid sh -c \'echo $$ >> "$PIDS"; exec sleep 300\' & '
                                              "sleep 300", env={"PIDS": str(pids)})), custom("t"))
    daemon.emit1("t")
    wait_for(lambda: pids.exists() and len(pids.read_text().split()) == 2)
    old = pids.read_text().split()
    daemon.kill9()
    assert all(alive(pid) for pid in old)
    daemon.start()
    wait_for(lambda: len(pids.read_text().split()) >= 3)
    assert not any(alive(pid) for pid in old)
    run = daemon.get("/api/v1/runs?status=running")["runs"][0]["id"]
    daemon.post(f"/api/v1/runs/{run}/cancel")
    wait_for(lambda: not daemon.children())


# ---- ends ----


def test_drain_lets_runs_end(daemon: Daemon) -> None:
    gate = Gate(daemon.data)
    daemon.put("m.yaml", pipeline("p", gate.step()), custom("t", config=KEY))
    ids = [daemon.emit1("t", {"n": n})["id"] for n in range(2)]
    wait_for(lambda: gate.lines("start"))
    daemon.signal()
    time.sleep(0.3)
    assert daemon.process and daemon.process.poll() is None
    gate.open()
    assert daemon.wait() == 0
    daemon.start()
    daemon.settle()
    assert [daemon.event(i)["attempt"] for i in ids] == [1, 1]
    assert gate.keys("start") == gate.keys("end") == ["0", "1"]


def config_file(d: Daemon, text: str) -> tuple[str, ...]:
    path = d.root / "triggerd.yaml"
    path.write_text(text)
    return ("--config", str(path))


def test_drain_has_a_deadline(make_daemon: Any) -> None:
    d: Daemon = make_daemon()
    d.args += config_file(d, "shutdown_grace_seconds: 1\n")
    d.start()
    gate = Gate(d.data)
    d.put("m.yaml", pipeline("p", gate.step()), custom("t"))
    id = d.emit1("t")["id"]
    wait_for(lambda: gate.lines("start"))
    begin = time.monotonic()
    d.stop()
    assert 0.9 < time.monotonic() - begin < 20, "not the 30 s that are the default"
    gate.open()
    d.start()
    assert d.wait_event(id, "completed")["attempt"] == 2


def test_a_second_signal_ends_at_once(daemon: Daemon) -> None:
    gate = Gate(daemon.data)
    daemon.put("m.yaml", pipeline("p", gate.step()), custom("t"))
    daemon.emit1("t")
    wait_for(lambda: gate.lines("start"))
    daemon.signal()
    time.sleep(0.2)
    daemon.signal(signal.SIGINT)
    daemon.wait(20)
    gate.open()
    daemon.start()
    daemon.settle()


def test_no_intake_while_draining(daemon: Daemon) -> None:
    """What is acknowledged during a drain is recorded; what is not, is refused: never lost in between."""
    daemon.put("m.yaml", ECHO, custom("t", max_concurrent=4))
    acknowledged: list[str] = []
    stop = threading.Event()

    def emit() -> None:
        while not stop.is_set():
            try:
                answer = daemon.http("POST", "/api/v1/triggers/emit", {"endpoint": "t", "data": {}})
            except (OSError, HTTPException):
                return
            if answer.status == 200:
                acknowledged.append(answer.json()["events"][0]["id"])

    threads = [threading.Thread(target=emit) for _ in range(4)]
    for t in threads:
        t.start()
    wait_for(lambda: len(acknowledged) > 50)
    daemon.stop()
    stop.set()
    for t in threads:
        t.join()
    daemon.start()
    events = {e["id"] for e in daemon.settle(timeout=60)}
    assert set(acknowledged) <= events


def test_a_second_daemon_is_refused(daemon: Daemon, make_daemon: Any) -> None:
    second: Daemon = make_daemon("second")
    second.state = daemon.state
    second.spawn()
    assert second.wait() != 0
    assert str(daemon.state) in second.output() and str(daemon.pid) in second.output()
    assert daemon.http("GET", "/healthz").status == 200


def test_a_second_daemon_does_not_take_the_socket(daemon: Daemon, make_daemon: Any) -> None:
    second: Daemon = make_daemon("second")
    second.socket = daemon.socket
    second.spawn()
    assert second.wait() != 0
    assert daemon.http("GET", "/healthz").status == 200


def test_a_stale_socket_is_replaced(daemon: Daemon) -> None:
    daemon.kill9()
    assert daemon.socket.exists()
    daemon.start()


# ---- bounds ----


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 32 MiB."""
    where = tmp_path / "small"
    where.mkdir()
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", where],
                                      check=False, capture_output=True).returncode:
        pytest.skip("may not mount")
    yield where
    subprocess.run(["umount", "-l", where], check=False)


def test_a_full_disk(make_daemon: Any, small_disk: Path) -> None:
    d: Daemon = make_daemon()
    d.state = small_disk / "state"
    d.start()
    gate = Gate(d.data)
    d.put("m.yaml", pipeline("p", gate.step()), custom("t", config=KEY, max_concurrent=3), custom("big", "q"),
          pipeline("q", script("true")))
    running = [d.emit1("t", {"n": n})["id"] for n in range(3)]
    wait_for(lambda: len(gate.lines("start")) == 3)
    balloon = small_disk / "balloon"
    with suppress(OSError), open(balloon, "wb", buffering=0) as f:
        while True:
            f.write(b"x" * 65536)
    acknowledged = list(running)
    refused = None
    for _ in range(3000):
        answer = d.http("POST", "/api/v1/triggers/emit", {"endpoint": "big", "data": {"x": "y" * 20000}})
        if answer.status != 200:
            refused = answer
            break
        acknowledged += [e["id"] for e in answer.json()["events"]]
    assert refused is not None and refused.problem(507)
    wait_for(lambda: d.condition("t", "StoreWritable").get("status") == "False")
    gate.open()  # ends of runs are kept for when there is room
    wait_for(lambda: len(gate.lines("end")) == 3)
    assert d.http("GET", "/healthz").status in (200, 503) and d.get("/api/v1/triggers")["total"] == 2
    balloon.unlink()
    wait_for(lambda: d.condition("t", "StoreWritable").get("status", "True") == "True", 30)
    for id in running:
        assert d.wait_event(id, "completed")["attempt"] == 1
    assert d.fire("t", {"n": 9})["status"] == "completed"
    d.kill9()
    d.start()
    d.settle(timeout=60)
    assert set(acknowledged) <= {e["id"] for e in d.events()}


def test_a_small_disk_is_enough_to_start(make_daemon: Any, small_disk: Path) -> None:
    d: Daemon = make_daemon()
    d.state = small_disk / "state"
    d.start()
    d.put("m.yaml", ECHO, custom("t"))
    assert d.fire("t")["status"] == "completed"


def test_retention(make_daemon: Any) -> None:
    d: Daemon = make_daemon()
    d.args += config_file(d, "retention: {events: 100}\n")
    d.start()
    d.put("m.yaml", ECHO, custom("t"))
    d.post("/api/v1/triggers/t/pause")
    ids = [d.emit1("t", {"n": n})["id"] for n in range(400)]
    wait_for(lambda: d.get("/api/v1/triggers/events?page_size=1")["total"] <= 200, 90)
    assert d.http("GET", f"/api/v1/triggers/events/{ids[0]}").status == 404
    assert d.event(ids[-1])["status"] == "skipped"


def test_descriptors_and_memory_stay(daemon: Daemon) -> None:
    daemon.put("m.yaml", pipeline("p", {"id": "s", "exec": {"command": ["/bin/true"]}}), custom("t", max_concurrent=8))

    def descriptors() -> int:
        return len(os.listdir(f"/proc/{daemon.pid}/fd"))

    for _ in range(20):
        daemon.emit1("t")
    daemon.settle()
    before = descriptors()
    for _ in range(300):
        daemon.emit1("t")
    daemon.settle(timeout=60)
    wait_for(lambda: descriptors() <= before + 3)


def test_replays(daemon: Daemon) -> None:
    gate = Gate(daemon.data)
    gate.open()
    daemon.put("m.yaml", pipeline("p", gate.step(then='test "$INPUT_KEY" != 1')), custom("t", config=KEY))
    ids = [daemon.emit1("t", {"n": n})["id"] for n in range(3)]
    daemon.settle()
    assert [daemon.event(i)["status"] for i in ids] == ["completed", "failed", "completed"]
    daemon.put("m.yaml", pipeline("p", gate.step()), custom("t", config=KEY))
    done = daemon.ctl("replay", ids[1])
    assert done.returncode == 0, done.stderr
    wait_for(lambda: len(daemon.events()) == 4 and daemon.events()[-1]["status"] in FINAL)
    event = daemon.events()[-1]
    assert (event["replay_of"], event["status"], event["event_data"]) == (ids[1], "completed", {"n": 1})
    assert daemon.event(ids[1])["status"] == "failed", "the old one stays as it was"


def test_a_damaged_database_is_told(daemon: Daemon) -> None:
    daemon.put("m.yaml", ECHO, custom("t"))
    daemon.fire("t")
    daemon.stop()
    database = daemon.state / "triggerd.db"
    keep = daemon.root / "keep"
    shutil.copy(database, keep)
    database.write_bytes(b"this is no database" * 1000)
    daemon.spawn()
    assert daemon.wait(15) != 0
    assert str(database) in daemon.output() or str(daemon.state) in daemon.output()
    shutil.copy(keep, database)
    daemon.start()
    assert len(daemon.events()) == 1


def test_an_option_that_is_none(make_daemon: Any) -> None:
    d: Daemon = make_daemon()
    for args in (["--nonsense"], ["--listen", "nowhere"], ["--log-level", "loud"]):
        done = subprocess.run([*d.command(), *args], capture_output=True, text=True, timeout=20)
        assert done.returncode == 2 and args[-1].lstrip("-") in done.stderr, args


def test_check_only_looks(make_daemon: Any) -> None:
    d: Daemon = make_daemon()
    (d.manifests / "m.yaml").write_text(documents(ECHO, custom("t")))
    good = subprocess.run([*d.command(), "--check"], capture_output=True, text=True, timeout=20)
    assert good.returncode == 0, good.stderr
    (d.manifests / "bad.yaml").write_text("name: [\n")
    bad = subprocess.run([*d.command(), "--check"], capture_output=True, text=True, timeout=20)
    assert bad.returncode != 0 and "bad.yaml:" in bad.stdout + bad.stderr
    assert not d.socket.exists()


@pytest.mark.parametrize("settings, words", [
    ("listen: 0.0.0.0:0\n", "api.tokens"), ("listen: nowhere\n", "not HOST:PORT"),
    ("api: {token_file: /nowhere/token}\n", "/nowhere/token"),
    ("listen: 127.0.0.1:0\napi: {tls: {cert_file: /nowhere/c, key_file: /nowhere/k}}\n", "/nowhere/c"),
    ("mount: {dir: /proc}\nstate: /proc/self\n", "SelfMount")])
def test_check_looks_at_what_the_start_would_refuse(make_daemon: Any, settings: str, words: str) -> None:
    d: Daemon = make_daemon()
    d.args += config_file(d, settings)
    command = [d.command()[0], "--manifests", str(d.manifests), "--socket", str(d.socket), *d.args]
    for more in (["--check"], []):
        done = subprocess.run([*command, *more, *([] if "state" in settings else ["--state", str(d.state)])],
                              capture_output=True, text=True, timeout=20)
        assert done.returncode == 1 and words in done.stderr, more


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user")
def test_a_user_has_settings_in_the_xdg_directory(make_daemon: Any) -> None:
    d: Daemon = make_daemon()
    home = Path(tempfile.mkdtemp(prefix="trg"))
    try:
        (home / "triggerd").mkdir()
        (home / "triggerd" / "triggerd.yaml").write_text("colour: red\n")
        home.chmod(0o755)
        done = subprocess.run([*d.command(), "--check"], capture_output=True, text=True, timeout=20, user="nobody",
                              env={**os.environ, "XDG_CONFIG_HOME": str(home)}, cwd="/")
        assert done.returncode == 1 and f"{home}/triggerd/triggerd.yaml:1:1: colour: unknown key" in done.stderr
    finally:
        shutil.rmtree(home)


def test_reload(make_daemon: Any) -> None:
    d: Daemon = make_daemon()
    d.args += config_file(d, "retention: {events: 1000}\n")
    d.start()
    d.put("m.yaml", ECHO, custom("t"))
    assert d.get("/openapi.json")["openapi"]
    d.signal(signal.SIGHUP)
    (d.root / "triggerd.yaml").write_text("retention: {events: many}\n")
    d.signal(signal.SIGHUP)
    never(lambda: d.process and d.process.poll() is not None, 0.5)
    assert d.fire("t")["status"] == "completed"
