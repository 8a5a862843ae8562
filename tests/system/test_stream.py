"""GET /api/v1/events/stream: server-sent events, and the verbs of triggerctl that follow them."""
from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from harness import ECHO, PATIENCE, Daemon, Gate, custom, documents, pipeline, script, wait_for
from test_mcp import listener, server

MIB = 1 << 20


def sockets(daemon: Daemon) -> int:
    """How many the daemon has open."""
    found = 0
    for fd in Path(f"/proc/{daemon.pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            found += os.readlink(fd).startswith("socket:")
    return found


class Stream:
    """One connection, read by hand so that a test can stop reading."""

    def __init__(self, daemon: Daemon, query: str = "", last: str | None = None, path: str = "/api/v1/events/stream") -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(str(daemon.socket))
        header = f"Last-Event-ID: {last}\r\n" if last is not None else ""
        self.sock.sendall(f"GET {path}{query} HTTP/1.1\r\nHost: x\r\n{header}\r\n".encode())
        self.raw = b""
        self.body = b""
        while b"\r\n\r\n" not in self.raw:
            self.raw += self.sock.recv(65536)
        self.head, self.raw = self.raw.split(b"\r\n\r\n", 1)

    def unchunk(self) -> None:
        while b"\r\n" in self.raw:
            size, rest = self.raw.split(b"\r\n", 1)
            n = int(size, 16)
            if n == 0:
                raise EOFError(self.body)
            if len(rest) < n + 2:
                return
            self.body += rest[:n]
            self.raw = rest[n + 2:]

    def next(self) -> dict[str, Any]:
        """The next message: its `id`, `event` (message unless told) and `data`, parsed."""
        while True:
            self.unchunk()
            if b"\n\n" in self.body:
                text, self.body = self.body.split(b"\n\n", 1)
                fields = dict(line.split(": ", 1) for line in text.decode().split("\n"))
                assert fields.keys() <= {"id", "event", "data"}
                return {"event": "message", **fields, "data": json.loads(fields["data"])}
            piece = self.sock.recv(65536)
            if not piece:
                raise EOFError(self.body)
            self.raw += piece

    def until(self, id: str, status: str) -> list[dict[str, Any]]:
        seen = []
        while not seen or (seen[-1]["data"].get("id"), seen[-1]["data"].get("status")) != (id, status):
            seen.append(self.next())
        return seen

    def silent(self, seconds: float = 0.3) -> bool:
        self.unchunk()
        return not self.body and not select.select([self.sock], [], [], seconds)[0]

    def close(self) -> None:
        self.sock.close()


@contextmanager
def streaming(daemon: Daemon, query: str = "", last: str | None = None) -> Iterator[Stream]:
    stream = Stream(daemon, query, last)
    try:
        yield stream
    finally:
        stream.close()


def test_headers_at_once_and_no_greeting(daemon: Daemon) -> None:
    with streaming(daemon) as s:
        assert s.head.startswith(b"HTTP/1.1 200 ") and b"text/event-stream" in s.head
        assert s.silent(), "nothing has happened"


def test_a_message_for_each_change_of_status(daemon: Daemon) -> None:
    daemon.put("m.yaml", ECHO, custom("t"))
    with streaming(daemon) as s:
        id = daemon.emit1("t", {"n": 12345678901234567890})["id"]
        seen = s.until(id, "completed")
        statuses = [m["data"]["status"] for m in seen]
        assert statuses[-1] == "completed" and "executing" in statuses and len(statuses) == len(set(statuses))
        assert seen[-1]["data"] == daemon.event(id)
        assert seen[-1]["data"]["event_data"] == {"n": 12345678901234567890}
        positions = [int(m["id"]) for m in seen]
        assert positions == sorted(set(positions))


def test_filters(daemon: Daemon) -> None:
    daemon.put("m.yaml", ECHO, pipeline("q", script("exit 1")), custom("a"), custom("b", "q"), custom("c", cooldown_seconds=600))
    queries = {"?trigger_id=a": {"a"}, "?pipeline_id=q": {"b"}, "?status=failed": {"b"}, "?decision=cooldown": {"c"},
               "?event_type=custom_c&status=completed": {"c"}}
    streams = {q: Stream(daemon, q) for q in queries}
    for endpoint in ("a", "b", "c", "c"):
        daemon.emit(endpoint)
    daemon.settle()
    for q, wanted in queries.items():
        assert streams[q].next()["data"]["trigger_id"] in wanted
        while not streams[q].silent():
            assert streams[q].next()["data"]["trigger_id"] in wanted
        streams[q].close()
    for bad in ("?status=finished", "?decision=x", "?page=1"):
        daemon.http("GET", f"/api/v1/events/stream{bad}").problem(400)


def test_last_event_id_resumes(daemon: Daemon) -> None:
    daemon.put("m.yaml", ECHO, custom("t"))
    with streaming(daemon) as s:
        seen = s.until(daemon.emit1("t")["id"], "completed")
    daemon.fire("t")
    last = daemon.emit1("t")["id"]
    daemon.settle()
    with streaming(daemon, last=seen[0]["id"]) as s:
        again = s.until(last, "completed")
    assert again[:len(seen) - 1] == seen[1:], "from there on, the same again"
    assert [int(m["id"]) for m in again] == list(range(int(seen[0]["id"]) + 1, int(again[-1]["id"]) + 1))
    with streaming(daemon, "?trigger_id=none", last=seen[0]["id"]) as s:
        assert s.silent()


@pytest.mark.parametrize("last", ["", "x", "0", "1", "9" * 30, "-1"])
def test_what_is_no_position_is_a_gap(daemon: Daemon, last: str) -> None:
    daemon.put("m.yaml", ECHO, custom("t"))
    with streaming(daemon, last=last) as s:
        assert s.next() | {"id": ""} == {"id": "", "event": "gap", "data": {"gap": None}}
        s.until(daemon.emit1("t")["id"], "completed")


def test_over_a_restart(daemon: Daemon) -> None:
    daemon.put("m.yaml", ECHO, custom("t"))
    with streaming(daemon) as s:
        before = s.until(daemon.emit1("t")["id"], "completed")[-1]["id"]
        daemon.restart()
        with pytest.raises(EOFError):
            s.next()
    with streaming(daemon, last=before) as s:
        gap = s.next()
        assert gap["event"] == "gap" and gap["data"] == {"gap": None}
        after = s.until(daemon.emit1("t")["id"], "completed")
        assert int(after[0]["id"]) > int(before), "positions grow from life to life"


def test_a_reader_that_stops_is_told_how_much_it_missed(daemon: Daemon) -> None:
    daemon.put("m.yaml", ECHO, *(custom(f"t{n}", endpoint="e", enabled=False) for n in range(100)))
    stuck, other = Stream(daemon), Stream(daemon, "?trigger_id=t7")
    rounds = 120
    for n in range(rounds):
        daemon.emit("e", {"x": "y" * 500})
        assert other.next()["data"]["status"] == "skipped", "who reads misses nothing, and waits for nobody"
    got = gap = position = 0
    while got + gap < rounds * 100:
        try:
            m = stuck.next()
        except EOFError:  # in the middle of a message that was dropped: go on after the last whole one
            stuck.close()
            stuck = Stream(daemon, last=str(position))
            continue
        assert int(m["id"]) > position
        position = int(m["id"])
        got, gap = (got, gap + m["data"]["gap"]) if m["event"] == "gap" else (got + 1, gap)
    assert got + gap == rounds * 100 and gap > 0 and stuck.silent()
    stuck.close()
    other.close()


def test_a_message_that_is_half_read_when_it_is_dropped(daemon: Daemon) -> None:
    daemon.put("m.yaml", ECHO, custom("t", enabled=False))
    stuck = Stream(daemon)
    daemon.emit("t")
    seen = [stuck.next()]
    for _ in range(30):  # the ring holds 8 MiB, the socket less than one message
        daemon.emit("t", {"x": "y" * (MIB // 2)})
    last = daemon.emit1("t")["id"]
    while seen[-1]["data"].get("id") != last:
        try:
            seen.append(stuck.next())
        except EOFError:  # broken off: what it had last says where to go on
            stuck.close()
            stuck = Stream(daemon, last=seen[-1]["id"])
    stuck.close()
    gaps = [m["data"]["gap"] for m in seen if m["event"] == "gap"]
    assert gaps and len(seen) - len(gaps) < 32
    assert sorted({int(m["id"]) for m in seen}) == [int(m["id"]) for m in seen]


def test_readers_cost_no_threads(daemon: Daemon) -> None:
    daemon.put("m.yaml", ECHO, custom("t"))
    threads = len(os.listdir(f"/proc/{daemon.pid}/task"))
    streams = [Stream(daemon) for _ in range(300)]
    assert len(os.listdir(f"/proc/{daemon.pid}/task")) <= threads
    id = daemon.emit1("t")["id"]
    for s in streams:
        s.until(id, "completed")
        s.close()
    wait_for(lambda: sockets(daemon) < 50, what="the readers' sockets closed")


# ---- that something has changed ----


def changed(stream: Stream) -> set[str]:
    message = stream.next()
    assert message.keys() == {"event", "data"} and message["data"].keys() == {"changed"}
    kinds = message["data"]["changed"]
    assert kinds and len(kinds) == len(set(kinds))
    return set(kinds)


def hear(stream: Stream, *kinds: str) -> None:
    """All of these, in one message or several."""
    missing = set(kinds)
    while missing:
        missing -= changed(stream)


def quiet(stream: Stream) -> None:
    """What was to be told was told."""
    while not stream.silent(0.2):
        stream.next()


def test_changes(daemon: Daemon) -> None:
    path = "/api/v1/changes"
    gate = Gate(daemon.data)
    every, triggers, a = Stream(daemon, path=path), Stream(daemon, "?kind=triggers", path=path), \
        Stream(daemon, "?kind=triggers&id=a", path=path)
    manifests, runs = Stream(daemon, "?kind=manifests", path=path), Stream(daemon, "?kind=runs", path=path)
    assert every.silent(), "nothing has happened"
    daemon.put("m.yaml", pipeline("p", gate.step(then="echo more")), custom("a"), custom("b"))
    hear(every, "triggers", "pipelines", "manifests")
    assert changed(manifests) == {"manifests"} and changed(triggers) == {"triggers"} and changed(a) == {"triggers"}
    for s in (every, triggers, a, manifests):
        quiet(s)
    daemon.post("/api/v1/triggers/b/pause")
    assert changed(triggers) == changed(every) == {"triggers"}
    daemon.write("bad.yaml", "name: 7\n")
    hear(every, "manifests")
    quiet(a)
    event = daemon.emit1("a")
    hear(every, "triggers", "events", "runs", "pipelines")
    hear(a, "triggers")
    hear(runs, "runs")
    run = wait_for(lambda: daemon.event(event["id"])["run_id"])
    one, other = Stream(daemon, f"?kind=runs&id={run}", path=path), Stream(daemon, "?kind=runs&id=run_x", path=path)
    gate.open()
    while daemon.run(run)["status"] != "completed":
        hear(one, "runs")
    assert other.silent()
    daemon.http("GET", f"{path}?kind=smoke").problem(400)
    daemon.http("GET", f"{path}?kinds=runs").problem(400)
    for s in (every, triggers, a, manifests, runs, one, other):
        s.close()


def test_changes_are_gathered(daemon: Daemon) -> None:
    daemon.put("m.yaml", ECHO, custom("t", enabled=False))
    stream = Stream(daemon, "?kind=events", path="/api/v1/changes")
    begin = time.monotonic()
    for _ in range(300):
        daemon.emit("t")
    spent = time.monotonic() - begin
    hear(stream, "events")
    told = 1
    while not stream.silent(0.3):
        hear(stream, "events")
        told += 1
    assert told <= spent / 0.05 + 2, "at most one in 50 ms"
    stream.close()


def test_output_as_it_comes(daemon: Daemon) -> None:
    """Each line that a step prints can be read when its change is told, and the step waits for that."""
    gate = Gate(daemon.data)
    daemon.put("m.yaml", pipeline("p", gate.step(then="echo one; while [ ! -e \"$GATE.2\" ]; do sleep 0.02; done; echo two >&2")),
               custom("t"))
    event = daemon.emit1("t")
    run = wait_for(lambda: daemon.event(event["id"])["run_id"])
    stream = Stream(daemon, f"?kind=runs&id={run}", path="/api/v1/changes")
    gate.open()
    while daemon.http("GET", f"/api/v1/runs/{run}/steps/s/stdout").body != b"one\n":
        hear(stream, "runs")
    quiet(stream)
    gate.file.with_name("gate.2").touch()
    while daemon.run(run)["status"] != "completed":
        hear(stream, "runs")
    assert daemon.http("GET", f"/api/v1/runs/{run}/steps/s/stderr").body == b"two\n"
    stream.close()


# ---- triggerctl ----


class Following:
    def __init__(self, daemon: Daemon, *args: str) -> None:
        self.out = daemon.data / f"out{time.monotonic_ns()}"
        self.err = self.out.with_suffix(".err")
        with open(self.out, "wb") as out, open(self.err, "wb") as err:
            self.process = subprocess.Popen([str(daemon.build / "triggerctl"), "--socket", str(daemon.socket), *args],
                                            stdout=out, stderr=err)

    def lines(self) -> list[str]:
        return self.out.read_text().splitlines()

    def has(self, text: str) -> None:
        wait_for(lambda: text in self.out.read_text() or self.process.poll() is not None, what=text)
        assert text in self.out.read_text(), self.err.read_text()

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(20)
        assert "Sanitizer" not in self.err.read_text(), self.err.read_text()


@contextmanager
def following(daemon: Daemon, *args: str) -> Iterator[Following]:
    f = Following(daemon, *args)
    try:
        yield f
    finally:
        f.stop()


def test_events_follow(daemon: Daemon) -> None:
    daemon.put("m.yaml", ECHO, custom("t"), custom("u"))
    with following(daemon, "events", "-f", "t", "-o", "json") as f:
        wait_for(lambda: daemon.fire("t") and f.lines(), what="it listens")
        daemon.fire("u")
        id = daemon.emit1("t")["id"]
        wait_for(lambda: f.lines() and json.loads(f.lines()[-1])["id"] == id and '"completed"' in f.lines()[-1])
        shown = [json.loads(line) for line in f.lines()]
        assert {e["trigger_id"] for e in shown} == {"t"} and shown[-1] == daemon.event(id)
    assert daemon.ctl("events", "-f", "none").returncode == 1, "a name that is misspelt is told at once"
    daemon.stop()
    assert daemon.ctl("events", "-f").returncode == 3


def test_events_follow_goes_on_with_the_next_daemon(daemon: Daemon) -> None:
    daemon.put("m.yaml", ECHO, custom("t"))
    with following(daemon, "events", "-f") as f:
        wait_for(lambda: daemon.fire("t")["status"] and f.lines())
        assert "STATUS" in f.lines()[0]
        daemon.restart()
        wait_for(lambda: "gone" in f.err.read_text())
        wait_for(lambda: daemon.emit1("t")["id"] in f.out.read_text())
        assert sum("STATUS" in line for line in f.lines()) == 1


def test_a_reader_of_ours_that_is_closed_is_no_error(daemon: Daemon) -> None:
    daemon.put("m.yaml", ECHO, *(custom(f"t{n}") for n in range(50)))
    done = subprocess.run(f"{daemon.build}/triggerctl --socket {daemon.socket} get triggers | head -n 1",
                          shell=True, capture_output=True, text=True, timeout=30)
    assert done.stdout.count("\n") == 1 and not done.stderr


def test_watching_triggers(daemon: Daemon) -> None:
    daemon.put("m.yaml", ECHO, custom("a"), custom("b"))
    with following(daemon, "get", "triggers", "--watch") as f:
        wait_for(lambda: len(f.lines()) == 3)
        assert f.lines()[0].split()[:2] == ["ID", "STATUS"]
        daemon.ctl("pause", "b")
        f.has("paused")
        daemon.fire("a")
        wait_for(lambda: [line for line in f.lines()[3:] if line.split()[0] == "a" and " 1 " in line])
        daemon.ctl("delete", "trigger", "b")
        f.has("b  deleted")
        daemon.put("c.yaml", custom("c"))
        wait_for(lambda: any(line.startswith("c ") for line in f.lines()))
        assert sum(line.startswith("ID ") for line in f.lines()) == 1


def test_watching_mcp_servers(daemon: Daemon) -> None:
    """Their state, and how many triggers listen; one by its name likewise."""
    with following(daemon, "get", "mcp_servers", "-w") as f:
        daemon.ctl("apply", daemon.write("m.yaml", documents(ECHO, server(daemon))))
        f.has("database  idle")
        with following(daemon, "get", "mcp_servers", "database", "-w", "-o", "json") as one:
            one.has('"idle"')
            daemon.ctl("apply", daemon.write("t.yaml", documents(listener())))
            f.has("database  connected")
            wait_for(lambda: [s for s in map(json.loads, one.lines()) if s["state"] == "connected" and s["triggers"] == 1])
            daemon.ctl("apply", daemon.write("m.yaml", documents(ECHO, server(daemon, "die"))))
            f.has("database  error")
            daemon.ctl("apply", daemon.write("m.yaml", documents(ECHO, server(daemon))))
            wait_for(lambda: " connected " in f.lines()[-1], what="it has come back")
        daemon.ctl("delete", "trigger", "orders")
        wait_for(lambda: " 0 " in f.lines()[-1])
        daemon.write("m.yaml", documents(ECHO))
        f.has("database  deleted")


def test_watching_events_shows_each_change_once(daemon: Daemon) -> None:
    gate = Gate(daemon.data)
    daemon.put("m.yaml", pipeline("p", gate.step()), custom("t", max_concurrent=4))
    old = daemon.emit1("t")["id"]
    wait_for(lambda: daemon.event(old)["status"] == "executing")
    with following(daemon, "get", "events", "-w", "-o", "json") as f:
        f.has(old)
        new = daemon.emit1("t")["id"]
        gate.open()
        wait_for(lambda: f.out.read_text().count('"completed"') == 2)
        shown = [(e["id"], e["status"]) for e in map(json.loads, f.lines())]
        assert len(shown) == len(set(shown)) and shown[0] == (old, "executing")
        assert {(old, "completed"), (new, "completed")} <= set(shown)
    assert daemon.ctl("get", "events", "-w", "--since", "1h").returncode == 2


@pytest.mark.parametrize("head", ["HEAD /api/v1/events/stream HTTP/1.1\r\nHost: x", "GET /api/v1/events/stream HTTP/1.0"])
def test_other_requests_for_the_stream(daemon: Daemon, head: str) -> None:
    daemon.put("m.yaml", ECHO, custom("t"))
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(PATIENCE)
        s.connect(str(daemon.socket))
        s.sendall(f"{head}\r\n\r\n".encode())
        raw = s.recv(65536)
        assert b" 200 " in raw.split(b"\r\n")[0]
        if head.startswith("GET"):
            id = daemon.emit1("t")["id"]
            while id.encode() not in raw:
                raw += s.recv(65536)
            daemon.stop()
            while piece := s.recv(65536):
                raw += piece
            assert raw.endswith(b"}\n\n")
            daemon.start()
            s.close()
    assert daemon.get("/api/v1/status")["ready"]


def test_watching_runs_and_one_by_its_id(daemon: Daemon) -> None:
    gate = Gate(daemon.data)
    daemon.put("m.yaml", pipeline("p", gate.step()), custom("t"))
    with following(daemon, "get", "runs", "-w", "-o", "json") as f, \
            following(daemon, "get", "triggers", "t", "-w", "-o", "name") as one:
        wait_for(lambda: len(one.lines()) == 1)
        daemon.emit("t")
        f.has('"running"')
        gate.open()
        f.has('"completed"')
        runs = [json.loads(line) for line in f.lines()]
        assert len({r["id"] for r in runs}) == 1 and runs[-1]["status"] == "completed"


def test_logs_follow(daemon: Daemon) -> None:
    gate = Gate(daemon.data)
    daemon.put("m.yaml", pipeline("p", script("echo first", "one"), gate.step("two", "echo last; echo err >&2", needs=["one"])),
               custom("t"))
    event = daemon.emit1("t")["id"]
    run = wait_for(lambda: daemon.event(event)["run_id"])
    with following(daemon, "logs", run, "-f") as f, following(daemon, "logs", run, "--step", "two", "-f") as two:
        f.has("first")
        assert f.process.poll() is None
        gate.open()
        assert f.process.wait(20) == 0 and two.process.wait(20) == 0, "it ends with the run"
        assert f.out.read_text() == "==> one stdout <==\nfirst\n\n==> two stdout <==\nlast\n\n==> two stderr <==\nerr\n"
        assert sorted(two.lines()) == ["err", "last"]


def test_logs_follow_every_attempt(daemon: Daemon) -> None:
    """Also what an attempt said at its very end, before the wait for the next."""
    text = "echo try $TRIGGERD_ATTEMPT; echo sorry $TRIGGERD_ATTEMPT >&2; [ $TRIGGERD_ATTEMPT -eq 3 ]"
    daemon.put("m.yaml", pipeline("p", script(text, retry={"max_attempts": 3, "initial_seconds": 1, "factor": 1, "jitter": 0})))
    run = daemon.post("/api/v1/pipelines/p/run", {})["id"]
    with following(daemon, "logs", run, "-f") as f:
        assert f.process.wait(30) == 0
        for word in ("try", "sorry"):
            assert [line for line in f.lines() if line.startswith(word)] == [f"{word} {n}" for n in (1, 2, 3)]


def test_wait_for_what_comes(daemon: Daemon) -> None:
    done = daemon.ctl("wait", "trigger", "t", "--timeout", "0.3")
    assert done.returncode == 4 and "no trigger" in done.stderr
    with following(daemon, "wait", "trigger", "t", "--timeout", "30") as f:
        time.sleep(0.3)
        assert f.process.poll() is None
        daemon.put("m.yaml", ECHO, custom("t"))
        assert f.process.wait(20) == 0
    assert daemon.ctl("wait", "run", "run_none", "--timeout", "5").returncode == 1


def test_an_events_data_is_shown_once(daemon: Daemon) -> None:
    daemon.put("m.yaml", ECHO, custom("t"))
    id = daemon.emit1("t", {"needle": 1})["id"]
    daemon.settle()
    assert daemon.ctl("describe", "event", id).stdout.count("needle") == 1


def sleeps(pid: int) -> int:
    """How often the threads of a process went to sleep: one that is woken for nothing goes to sleep once more."""
    found = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += int(task.joinpath("status").read_text().split("\nvoluntary_ctxt_switches:")[1].split()[0])
    return found


def test_who_waits_asks_nothing(daemon: Daemon) -> None:
    daemon.put("m.yaml", pipeline("p", {"id": "s", "exec": {"command": ["sleep", "600"]}}), custom("t"))
    event = daemon.emit1("t")["id"]
    run = wait_for(lambda: daemon.event(event)["run_id"])
    wait_for(lambda: daemon.run(run)["status"] == "running")
    with following(daemon, "get", "triggers", "-w") as a, following(daemon, "get", "runs", "-w") as b, \
            following(daemon, "logs", run, "-f") as c, following(daemon, "wait", "run", run) as d, \
            following(daemon, "wait", "trigger", "t", "--for", "paused", "--timeout", "600") as e:
        a.has("t ")
        b.has(run)

        def idle() -> bool:
            before = [sleeps(f.process.pid) for f in (a, b, c, d, e)] + [sleeps(daemon.pid)]
            time.sleep(1.5)
            return before == [sleeps(f.process.pid) for f in (a, b, c, d, e)] + [sleeps(daemon.pid)]

        wait_for(idle, 60, "nobody wakes while nothing happens")
        daemon.post("/api/v1/triggers/t/pause")
        assert e.process.wait(20) == 0
        daemon.http("POST", f"/api/v1/runs/{run}/cancel").ok()
        assert c.process.wait(20) == 0 and d.process.wait(20) == 1


def test_waiting_outlives_the_daemon(daemon: Daemon) -> None:
    gate = Gate(daemon.data)
    daemon.put("m.yaml", pipeline("p", gate.step()), custom("t"))
    event = daemon.emit1("t")["id"]
    run = wait_for(lambda: daemon.event(event)["run_id"])
    wait_for(lambda: daemon.run(run)["status"] == "running")
    seen = [0, 0, 0, 0]

    def settled(more: int = 0) -> bool:
        """The connections of answered requests are closed, those of who waits stand."""
        time.sleep(0.05)
        seen[:] = [*seen[1:], sockets(daemon)]
        return min(seen) == max(seen) > more

    wait_for(settled)
    before = seen[-1]
    with following(daemon, "wait", "run", run, "--timeout", "60") as f:
        wait_for(lambda: settled(before), what="it follows, and has asked")
        daemon.kill9()
        wait_for(lambda: "gone" in f.err.read_text())
        gate.open()
        daemon.start()
        assert f.process.wait(20) == 0
    daemon.stop()
    assert daemon.ctl("wait", "run", run).returncode == 3
    daemon.start()
