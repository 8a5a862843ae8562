"""Pipelines: the graph of steps, what a step is given and what is kept of it, and how it ends."""
from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from harness import (ECHO, Daemon, Gate, alive, custom, finished, never, pipeline, printed, processes, script, step_of,
                     wait_for)
from harness import run_steps as run


# ---- the graph ----


def test_needs_and_side_by_side(daemon: Daemon) -> None:
    gate = Gate(daemon.data)
    daemon.put("p.yaml", pipeline("p", gate.step("a"), gate.step("b"), script("true", "c", needs=["a", "b"])))
    id = daemon.post("/api/v1/pipelines/p/run", {})["id"]
    wait_for(lambda: len(gate.lines("start")) == 2, what="a and b side by side")
    assert step_of(daemon.run(id), "c")["status"] == "pending"
    gate.open()
    done = finished(daemon, id)
    assert done["status"] == "completed"
    assert step_of(done, "c")["started_at"] >= max(step_of(done, s)["completed_at"] for s in "ab")


def test_conditions(daemon: Daemon) -> None:
    done = run(daemon, script("echo '{\"rows\": 0, \"ok\": true}'", "load"),
               {**script("echo 1", "some", needs=["load"]), "if": "$.steps.load[?@.rows > 0]"},
               {**script("echo 2", "none", needs=["load"]), "if": "$.steps.load[?@.rows == 0]"},
               {**script("echo 3", "fine", needs=["load"]), "if": "$.steps.load.output.ok"},
               script("echo 4", "after", needs=["some"]),
               outputs={"none": "$.steps.none.output", "some": "$.steps.some.output", "fine": "$.steps.fine.output"})
    assert done["status"] == "completed"
    assert {s["id"]: s["status"] for s in done["steps"]} == {
        "load": "completed", "some": "skipped", "none": "completed", "fine": "completed", "after": "skipped"}
    assert done["outputs"].get("some") is None and done["outputs"]["none"] == 2 and done["outputs"]["fine"] == 3


def test_outputs_and_templates(daemon: Daemon) -> None:
    done = run(daemon, script("""echo '{"n": 12345678901234567890, "list": [1, {"a": "x"}], "no": false}'""", "a"),
               {"id": "s", "needs": ["a"], "exec": {"command": [
                   "/usr/bin/printf", "%s|", "{{ $.steps.a.output.n }}", "n is {{ $.steps.a.output.n }}!",
                   "{{ $.steps.a.output.list }}", "{{$.inputs.word}}", "{{ $.steps.a.output.no }}", "}} stays"]}},
               inputs={"word": "blank and 'quotes\""},
               outputs={"list": "$.steps.a.output.list", "text": "$.steps.s.output.stdout"})
    assert done["status"] == "completed", done
    assert done["outputs"]["list"] == [1, {"a": "x"}]
    assert done["outputs"]["text"] == ('12345678901234567890|n is 12345678901234567890!|[1,{"a":"x"}]|blank and \'quotes"|'
                                       "false|}} stays|")


def test_output_is_json_or_text(daemon: Daemon) -> None:
    assert run(daemon, script("echo ' [1, 2.50] '"))["outputs"]["out"] == [1, 2.5]
    assert run(daemon, script("echo not json"))["outputs"]["out"] == {"stdout": "not json\n"}
    assert run(daemon, script("true"))["outputs"]["out"] == {"stdout": ""}


def test_inputs_reach_a_step(daemon: Daemon) -> None:
    done = run(daemon, script('cat; echo; echo "$INPUT_FILE_PATH|$INPUT_N|$INPUT_LIST" >&2'),
               inputs={"file-path": "/a b", "n": 7, "list": [1, "x"]})
    assert done["outputs"]["out"] == done["inputs"] == {"file-path": "/a b", "n": 7, "list": [1, "x"]}
    assert printed(daemon, done, stream="stderr") == b'/a b|7|[1,"x"]\n'


@pytest.mark.parametrize("text", ["$(touch HIT)", "`touch HIT`", "'; touch HIT; '", '"; touch HIT; "', "\n touch HIT\n",
                                  "${file:/etc/passwd}", "{{ $.inputs.other }}"])
def test_no_injection(daemon: Daemon, text: str) -> None:
    hit = daemon.data / "HIT"
    bad = text.replace("HIT", str(hit))
    done = run(daemon, script('printf %s "$INPUT_X"'),
               {"id": "t", "exec": {"command": ["/usr/bin/printf", "%s", "{{ $.inputs.x }}"]}},
               inputs={"x": bad, "other": "expanded"}, outputs={})
    assert done["status"] == "completed"
    assert printed(daemon, done) == printed(daemon, done, "t") == bad.encode()
    assert not hit.exists()


def test_inputs_are_checked(daemon: Daemon) -> None:
    schema = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}
    daemon.put("m.yaml", {**ECHO, "inputs": schema}, custom("t", config={"input_mapping": {"n": "$.n"}}))
    assert daemon.fire("t", {"n": 1})["status"] == "completed"
    for data in ({}, {"n": "x"}):
        event = daemon.wait_event(daemon.emit1("t", data)["id"], "failed")
        assert "n" in event["error_message"]


# ---- how steps end ----


def test_a_failure_says_why(daemon: Daemon) -> None:
    done = run(daemon, script("echo out; echo first >&2; echo 'the last words' >&2; exit 7", "bad"),
               script("true", "after", needs=["bad"]))
    assert done["status"] == "failed"
    for part in ("bad", "7", "the last words"):
        assert part in done["error_message"]
    assert step_of(done, "after")["status"] == "skipped"
    assert printed(daemon, done, "bad") == b"out\n"


@pytest.mark.parametrize("text, word", [("kill -SEGV $$", "SEGV"), ("kill -KILL $$", "KILL")])
def test_a_signal_is_named(daemon: Daemon, text: str, word: str) -> None:
    done = run(daemon, script(text))
    assert done["status"] == "failed" and word in done["error_message"]


def test_a_program_that_is_not_there(daemon: Daemon) -> None:
    done = run(daemon, {"id": "s", "exec": {"command": ["/nowhere/program"]}})
    assert done["status"] == "failed"
    assert "/nowhere/program" in done["error_message"] and "no such file" in done["error_message"]


def test_retries(daemon: Daemon) -> None:
    log = daemon.data / "log"
    done = run(daemon, script('echo "$TRIGGERD_ATTEMPT $TRIGGERD_IDEMPOTENCY_KEY" >> "$LOG"; test "$TRIGGERD_ATTEMPT" -ge 3',
                              env={"LOG": str(log)},
                              retry={"max_attempts": 5, "initial_seconds": 0.1, "factor": 2, "jitter": 0}), outputs={})
    assert done["status"] == "completed" and step_of(done)["attempt"] == 3
    lines = [line.split(" ", 1) for line in log.read_text().splitlines()]
    assert [attempt for attempt, _ in lines] == ["1", "2", "3"]
    assert len({key for _, key in lines}) == 1 and lines[0][1]


def test_retries_end(daemon: Daemon) -> None:
    begin = time.monotonic()
    done = run(daemon, script("exit 1", retry={"max_attempts": 3, "initial_seconds": 0.2, "factor": 2, "jitter": 0}))
    assert done["status"] == "failed" and step_of(done)["attempt"] == 3
    assert time.monotonic() - begin >= 0.6


def test_a_step_times_out(daemon: Daemon) -> None:
    mark = f"TRIGGERD_TEST_{os.getpid()}"
    done = run(daemon, script("sleep 300 & sleep 300 & wait", env={mark: "1"}, timeout_seconds=0.5))
    assert done["status"] == "timed_out"
    assert step_of(done)["status"] == "timed_out"
    assert not [p for p in processes() if mark in p.env], "the whole group is gone"


def test_a_stubborn_step_is_killed(daemon: Daemon) -> None:
    begin = time.monotonic()
    done = run(daemon, script("trap '' TERM; while :; do sleep 0.1; done", timeout_seconds=0.3))
    assert done["status"] == "timed_out"
    assert 5 <= time.monotonic() - begin < 12


def test_a_run_times_out(daemon: Daemon) -> None:
    daemon.put("m.yaml", pipeline("p", script("sleep 300"), timeout_seconds=0.5), custom("t"))
    event = daemon.wait_event(daemon.emit1("t")["id"], "failed")
    assert daemon.run(event["run_id"])["status"] == "timed_out"


def test_cancel(daemon: Daemon) -> None:
    gate = Gate(daemon.data)
    daemon.put("m.yaml", pipeline("p", gate.step(), script("true", "after", needs=["s"])), custom("t"))
    event = daemon.emit1("t")
    wait_for(lambda: gate.lines("start"))
    id = daemon.event(event["id"])["run_id"]
    daemon.post(f"/api/v1/runs/{id}/cancel")
    assert finished(daemon, id)["status"] == "cancelled"
    assert daemon.wait_event(event["id"], "cancelled")
    wait_for(lambda: not daemon.children())
    daemon.http("POST", f"/api/v1/runs/{id}/cancel").problem(409)
    daemon.http("POST", "/api/v1/runs/run_nowhere/cancel").problem(404)


def test_children_that_stay_behind(daemon: Daemon) -> None:
    """A step that leaves a daemon of its own in another session: no orphan outlives the run."""
    done = run(daemon, script("setsid sleep 300 >/dev/null 2>&1 & echo '\"out\"'"))
    assert done["status"] == "completed" and done["outputs"]["out"] == "out"
    wait_for(lambda: not daemon.children(), 10)


# ---- what a step runs in ----


def test_a_clean_environment(make_daemon: Any) -> None:
    d: Daemon = make_daemon(env={"SECRET_OF_THE_DAEMON": "x", "LD_PRELOAD_X": "y"}).start()
    done = run(d, script("env -0", env={"MINE": "1"}), inputs={"k": "v"}, outputs={})
    env = dict(line.split("=", 1) for line in printed(d, done).decode().split("\0") if line)
    assert {"PATH", "HOME", "LANG", "MINE", "INPUT_K", "TRIGGERD_RUN_ID", "TRIGGERD_ATTEMPT",
            "TRIGGERD_IDEMPOTENCY_KEY"} <= env.keys()
    assert env["TRIGGERD_RUN_ID"] == done["id"]
    allowed = ("TRIGGERD_", "INPUT_", "PATH", "HOME", "LANG", "MINE", "PWD", "SHLVL", "_", "TRACEPARENT", "OLDPWD", "USER",
               "LOGNAME", "SHELL", "TMPDIR")
    assert not [k for k in env if not k.startswith(allowed)], env


def test_large_inputs_stay_out_of_the_environment(daemon: Daemon) -> None:
    done = run(daemon, script('test -z "${INPUT_BIG:-}" && test "$INPUT_SMALL" = 1 && cat'),
               inputs={"big": "x" * 40000, "small": 1})
    assert done["status"] == "completed", done["error_message"]
    assert len(done["outputs"]["out"]["big"]) == 40000


def test_isolation(daemon: Daemon) -> None:
    done = run(daemon, script("ls /proc/self/fd; grep NoNewPrivs /proc/self/status; grep SigBlk /proc/self/status; "
                              "grep SigIgn /proc/self/status; ps -o pgid= -p $$ ; echo $$"), outputs={})
    lines = printed(daemon, done).decode().split("\n")
    descriptors = lines[: lines.index(next(x for x in lines if x.startswith("NoNewPrivs")))]
    assert set(descriptors) <= {"0", "1", "2", "3"}, "3 is ls's own"
    text = "\n".join(lines)
    assert "NoNewPrivs:\t1" in text and "SigBlk:\t0000000000000000" in text and "SigIgn:\t0000000000000000" in text
    assert lines[-3].strip() == lines[-2].strip(), "it leads a process group"


def test_cwd(daemon: Daemon) -> None:
    (daemon.data / "here").mkdir()
    assert run(daemon, script("pwd", cwd=str(daemon.data / "here")))["outputs"]["out"]["stdout"] == f"{daemon.data}/here\n"
    done = run(daemon, script("pwd", cwd=str(daemon.data / "nowhere")))
    assert done["status"] == "failed" and "nowhere" in done["error_message"]


def test_limits(daemon: Daemon) -> None:
    done = run(daemon, script("ulimit -n; exec python3 -c 'bytearray(200000000)'", limits={"open_files": 32,
                                                                                     "memory_bytes": 64 << 20}))
    assert done["status"] == "failed"
    assert printed(daemon, done).split()[:1] == [b"32"]


def test_output_is_bounded(daemon: Daemon) -> None:
    done = run(daemon, script("head -c 3000000 /dev/zero | tr '\\0' x; head -c 3000000 /dev/zero | tr '\\0' y >&2"), outputs={})
    assert done["status"] == "completed"
    for stream, letter in (("stdout", b"x"), ("stderr", b"y")):
        text = printed(daemon, done, stream=stream)
        assert 1 << 20 <= len(text) < (1 << 20) + 1000
        assert text.startswith(letter * 1000) and text.strip(letter), "a mark tells of the rest"


def test_output_of_any_bytes(daemon: Daemon) -> None:
    done = run(daemon, script(r"printf '\377\000\n\200ok'"), outputs={})
    assert printed(daemon, done) == b"\xff\x00\n\x80ok"
    assert done["status"] == "completed"


def test_a_run_in_progress_can_be_looked_at(daemon: Daemon) -> None:
    gate = Gate(daemon.data)
    daemon.put("p.yaml", pipeline("p", script("echo here; while [ ! -e \"$G\" ]; do sleep 0.02; done",
                                              env={"G": str(gate.file)})))
    id = daemon.post("/api/v1/pipelines/p/run", {})["id"]
    wait_for(lambda: daemon.http("GET", f"/api/v1/runs/{id}/steps/s/stdout").body == b"here\n")
    assert daemon.run(id)["status"] == "running" and step_of(daemon.run(id))["status"] == "running"
    gate.open()
    finished(daemon, id)


# ---- worker ----

WORKER = r"""
import json, os, sys, time
for line in sys.stdin:
    r = json.loads(line)
    i = r["inputs"]
    if i.get("die"):
        os._exit(3)
    if i.get("noise"):
        print("no message", flush=True)
    if i.get("fail"):
        a = {"id": r["id"], "error": "no luck"}
    else:
        a = {"id": r["id"], "output": {"pid": os.getpid(), "seen": sorted(r), "n": i.get("n")}, "other": 1}
    print(json.dumps(a), flush=True)
"""


@pytest.mark.skip(reason="worker steps are not built yet")
def test_workers(daemon: Daemon) -> None:
    program = daemon.data / "worker.py"
    program.write_text(WORKER)
    step = {"id": "s", "worker": {"command": ["python3", str(program)]}}
    first = run(daemon, step, inputs={"n": 1})["outputs"]["out"]
    assert first["n"] == 1
    assert {"id", "run_id", "step", "attempt", "idempotency_key", "inputs"} <= set(first["seen"])
    assert run(daemon, step, inputs={"n": 2})["outputs"]["out"]["pid"] == first["pid"], "an idle one is used again"
    failed = run(daemon, step, inputs={"fail": True})
    assert failed["status"] == "failed" and "no luck" in failed["error_message"]
    assert run(daemon, step, inputs={"die": True})["status"] == "failed"
    again = run(daemon, step, inputs={"n": 3})["outputs"]["out"]
    assert again["n"] == 3 and again["pid"] != first["pid"]
    daemon.stop()
    assert not alive(again["pid"])


@pytest.mark.skip(reason="worker steps are not built yet")
def test_workers_run_side_by_side(daemon: Daemon) -> None:
    program = daemon.data / "worker.py"
    program.write_text(WORKER.replace('i = r["inputs"]', 'i = r["inputs"]; time.sleep(0.5)'))
    daemon.put("m.yaml", pipeline("p", {"id": "s", "worker": {"command": ["python3", str(program)], "size": 2}}),
               custom("t", max_concurrent=4))
    events = [daemon.emit1("t", {"n": n}) for n in range(4)]
    pids = [daemon.run_of(e)["outputs"]["out"]["pid"] for e in events]
    assert len(set(pids)) == 2


# ---- http, emit ----


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []
        self.statuses: list[int] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                server.requests.append((self.command, self.path, dict(self.headers.items()), body))
                status = server.statuses.pop(0) if server.statuses else 200
                text = json.dumps({"path": self.path, "n": len(server.requests)}).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_POST = do_PUT = answer

            def log_message(self, *_: Any) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.shutdown()
    made.server_close()


def test_an_http_step(daemon: Daemon, server: Server) -> None:
    done = run(daemon, {"id": "s", "http": {
        "method": "POST", "url": server.url + "/done?x={{ $.inputs.n }}", "headers": {"X-Mine": "v{{ $.inputs.n }}"},
        "body": {"rows": "{{ $.inputs.n }}", "text": "n={{ $.inputs.n }}"}}}, inputs={"n": 7})
    assert done["outputs"]["out"] == {"path": "/done?x=7", "n": 1}
    method, path, headers, body = server.requests[0]
    assert (method, path, json.loads(body)) == ("POST", "/done?x=7", {"rows": 7, "text": "n=7"})
    low = {k.lower(): v for k, v in headers.items()}
    assert low["x-mine"] == "v7" and low["content-type"].startswith("application/json")
    assert low["idempotency-key"] and low["traceparent"].startswith("00-")


def test_an_http_step_is_tried_again(daemon: Daemon, server: Server) -> None:
    server.statuses = [503, 500]
    done = run(daemon, {"id": "s", "http": {"method": "GET", "url": server.url},
                        "retry": {"max_attempts": 3, "initial_seconds": 0.05}})
    assert done["status"] == "completed" and len(server.requests) == 3
    keys = {{k.lower(): v for k, v in r[2].items()}["idempotency-key"] for r in server.requests}
    assert len(keys) == 1


def test_an_http_step_fails(daemon: Daemon, server: Server) -> None:
    server.statuses = [404]
    done = run(daemon, {"id": "s", "http": {"method": "GET", "url": server.url}})
    assert done["status"] == "failed" and "404" in done["error_message"]
    done = run(daemon, {"id": "s", "http": {"method": "GET", "url": "http://127.0.0.1:1/"}})
    assert done["status"] == "failed" and "127.0.0.1" in done["error_message"]


def test_an_emit_step(daemon: Daemon) -> None:
    daemon.put("q.yaml", {**ECHO, "id": "q"}, custom("u", "q"))
    daemon.put("m.yaml", pipeline("p", {"id": "s", "emit": {"endpoint": "u", "data": {"n": "{{ $.inputs.n }}"}}}),
               custom("t", config={"input_mapping": {"n": "$.n"}}))
    root = daemon.emit1("t", {"n": 5})["id"]
    event = daemon.wait_event(daemon.wait_events(1, "u")[0]["id"], "completed")
    assert event["event_data"] == {"n": 5} and event["root_event_id"] == root


# ---- a crash in between ----


def test_steps_that_ended_are_not_run_again(daemon: Daemon) -> None:
    gate = Gate(daemon.data)
    once = daemon.data / "once"
    daemon.put("m.yaml", pipeline("p", script('echo x >> "$ONCE"; echo 5', "a", env={"ONCE": str(once)}),
                                  gate.step("b", needs=["a"], then="cat >/dev/null"), outputs={"a": "$.steps.a.output"}),
               custom("t"))
    event = daemon.emit1("t")
    wait_for(lambda: gate.lines("start"))
    never(lambda: False, 0.1)  # the end of `a` is recorded within 5 ms
    daemon.kill9()
    daemon.start()
    wait_for(lambda: len(gate.lines("start")) == 2)
    gate.open()
    done = daemon.run_of(event)
    assert done["status"] == "completed" and done["outputs"] == {"a": 5} and done["attempt"] == 2
    assert once.read_text() == "x\n"
