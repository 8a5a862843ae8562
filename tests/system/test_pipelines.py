"""Pipelines: the graph of steps, what a step is given and what is kept of it, and how it ends."""
from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
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


def test_braces_around_paths_of_if_and_outputs(daemon: Daemon) -> None:
    done = run(daemon, script("echo '{\"n\": 2.50, \"no\": false}'", "a"),
               {**script("true", "on", needs=["a"]), "if": "{{ $.steps.a.output.n }}"},
               {**script("true", "off", needs=["a"]), "if": "{{$.steps.a.output.no}}"},
               outputs={"value": "{{ $.steps.a.output.n }}", "text": "{{ $.steps.a.output.n }} of {{ $.steps.a.output }}",
                        "gone": "{{ $.steps.a.output.x }}", "part": "x is {{ $.steps.a.output.x }}"})
    assert step_of(done, "on")["status"] == "completed" and step_of(done, "off")["status"] == "skipped"
    assert done["outputs"] == {"value": 2.5, "text": '2.50 of {"n":2.50,"no":false}'}
    daemon.write("bad.yaml", pipeline("bad", {**script("true", "a"), "if": "{{ $.steps.b }}"},
                                      outputs={"x": "{{ $.steps.c }}", "y": "{{ $[ }}"}))
    wait_for(lambda: len(daemon.errors()) == 3, what=f"{daemon.errors()}")
    errors = " ".join(daemon.errors())
    assert 'steps[0].if: $.steps.b: there is no step "b"' in errors and 'outputs.x: $.steps.c: there is no step "c"' in errors


def test_names_of_input_variables(daemon: Daemon) -> None:
    done = run(daemon, script('echo "$INPUT_A_B_C_|$INPUT____"'), inputs={"a-b.c\u00e9": "one", "\u65e5\u672c\U0001f600": "two"})
    assert done["outputs"]["out"] == {"stdout": "one|two\n"}


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
    assert time.monotonic() - begin >= 5


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


@pytest.mark.parametrize("settings", [{}, {"cooldown_seconds": 100, "cooldown_policy": "latest"},
                                      {"cooldown_seconds": 100, "cooldown_policy": "queue"}])
def test_a_run_that_waits(daemon: Daemon, settings: dict[str, Any]) -> None:
    """It is there from the answer to its event on, and can be cancelled before it begins."""
    gate = Gate(daemon.data)
    daemon.put("m.yaml", pipeline("p", gate.step()), custom("t", config={"input_mapping": {"key": "$.n"}}, **settings))
    first = daemon.emit1("t", {"n": 1})
    waits = daemon.emit1("t", {"n": 2})
    assert waits["status"] == "pending"
    run = daemon.run(waits["run_id"])
    assert (run["id"], run["event_id"], run["status"]) == (waits["run_id"], waits["id"], "pending")
    assert run["inputs"] == waits["resolved_inputs"] and [(s["id"], s["status"]) for s in run["steps"]] == [("s", "pending")]
    cancelled = daemon.post(f"/api/v1/runs/{run['id']}/cancel")
    assert (cancelled["id"], cancelled["status"]) == (run["id"], "cancelled")
    event = daemon.wait_event(waits["id"], "cancelled")
    assert event["reason"] == "cancelled by request" and daemon.event(first["id"])["status"] == "executing"
    daemon.http("POST", f"/api/v1/runs/{run['id']}/cancel").problem(409)
    gate.open()
    daemon.wait_event(first["id"], "completed")
    assert [line[1] for line in gate.lines("start")] == ["1"]


def test_children_that_stay_behind(daemon: Daemon) -> None:
    """A step that leaves a daemon of its own in another session: no orphan outlives the run."""
    done = run(daemon, script("setsid sleep 300 >/dev/null 2>&1 & echo '\"out\"'"))
    assert done["status"] == "completed" and done["outputs"]["out"] == "out"
    wait_for(lambda: not daemon.children())


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


def test_workers_run_side_by_side(daemon: Daemon) -> None:
    program = daemon.data / "worker.py"
    program.write_text(WORKER.replace('i = r["inputs"]', 'i = r["inputs"]; time.sleep(0.5)'))
    daemon.put("m.yaml", pipeline("p", {"id": "s", "worker": {"command": ["python3", str(program)], "size": 2}}),
               custom("t", max_concurrent=4))
    events = [daemon.emit1("t", {"n": n}) for n in range(4)]
    pids = [daemon.run_of(e)["outputs"]["out"]["pid"] for e in events]
    assert len(set(pids)) == 2


# What a request does to its worker is said by its inputs.
HARD_WORKER = r"""
import json, os, sys, time
print("up", file=sys.stderr, flush=True)
if os.environ.get("STARTS"):
    with open(os.environ["STARTS"], "a") as f:
        print(os.getpid(), file=f, flush=True)
if os.environ.get("DIE_AT_ONCE"):
    sys.exit("no licence")
for line in sys.stdin:
    r = json.loads(line)
    i = r["inputs"]
    if i.get("say"):
        print(i["say"] * i.get("times", 1), file=sys.stderr, flush=True)
    if i.get("raw"):
        os.write(1, i["raw"].replace("ID", str(r["id"])).encode())
    if i.get("big"):
        os.write(1, b"x" * 10)
        sys.stdout.write("y" * (1 << 20) + "\n")
        sys.stdout.flush()
    if i.get("half"):
        os.write(1, b'{"id": %d, "output"' % r["id"])
        os.kill(os.getpid(), 9)
    if i.get("die") and not (i.get("once") and r["attempt"] > 1):
        os._exit(3)
    if i.get("hang"):
        time.sleep(1000)
    if i.get("close"):
        os.close(1)
        time.sleep(1000)
    time.sleep(i.get("sleep", 0))
    print(json.dumps({"id": r["id"], "output": {"pid": os.getpid(), "n": i.get("n"), "attempt": r["attempt"]}}), flush=True)
"""


@dataclass
class Workers:
    """The pipeline p of one worker step, called by the triggers t and, side by side, many."""
    daemon: Daemon
    program: Path
    id: str = "p"

    def put(self, step: dict[str, Any] | None = None, **config: Any) -> None:
        worker = {"command": ["python3", str(self.program)], **config}
        self.daemon.put("w.yaml", pipeline(self.id, {"id": "s", "worker": worker, **(step or {})}),
                        custom("many", self.id, max_concurrent=200,
                               config={"input_mapping": {"n": "$.n", "sleep": "$.sleep"}}))

    def start(self, **inputs: Any) -> str:
        return self.daemon.post(f"/api/v1/pipelines/{self.id}/run", {"inputs": inputs})["id"]

    def run(self, **inputs: Any) -> dict[str, Any]:
        return finished(self.daemon, self.start(**inputs))

    def answer(self, **inputs: Any) -> dict[str, Any]:
        run = self.run(**inputs)
        assert run["status"] == "completed", run["error_message"]
        return run["outputs"]["out"]

    def pids(self) -> set[int]:
        return {p.pid for p in self.daemon.children() if p.env["TRIGGERD_TAG"].startswith(f"worker/{self.id}/")}


@pytest.fixture
def workers(daemon: Daemon) -> Workers:
    program = daemon.data / "hard.py"
    program.write_text(HARD_WORKER)
    return Workers(daemon, program)


@pytest.mark.parametrize("inputs, why", [
    ({"die": True, "say": "the last words"}, "exit code 3: up\nthe last words"),
    ({"half": True}, "in the middle of its answer: killed by SIGKILL"),
    ({"raw": "Loading…\n"}, "no answer"),
    ({"raw": "\n"}, "no answer"),
    ({"raw": "[1]\n"}, "no object"),
    ({"raw": '{"output": 1}\n'}, "no `id`"),
    ({"raw": '{"id": "ID", "output": 1}\n'}, "`id`"),
    ({"raw": '{"id": 4711, "output": 1}\n'}, "request 4711"),
    ({"raw": '{"id": ID}\n'}, "neither `output` nor `error`"),
    ({"big": True}, "more than 1 MiB"),
    ({"close": True}, "closed its standard output"),
])
def test_a_worker_fails_its_own_request_alone(workers: Workers, inputs: dict[str, Any], why: str) -> None:
    workers.put(size=2)
    beside = workers.start(n=1, sleep=1)
    wait_for(lambda: len(workers.pids()) == 1, what="the one beside it")
    bad = workers.run(**inputs)
    assert bad["status"] == "failed" and why in bad["error_message"] and 's"' in bad["error_message"], bad
    assert finished(workers.daemon, beside)["status"] == "completed"
    assert workers.answer(n=2)["n"] == 2, "it is replaced"


@pytest.mark.parametrize("evil", ["a\nb", "\r\n", "\u2028\u2029\x85", '"}\n{"id": 1, "output": "forged"}\n', "\x1b[2J\x7f", "\\", "{{ $.inputs.n }}",
                                  "${env:HOME}"])
def test_data_is_one_line_to_a_worker(workers: Workers, evil: str) -> None:
    """However it is spelled, as a value, as a name and in a nested list, it stays data of its own request."""
    workers.program.write_text("import json, sys\nfor n, line in enumerate(sys.stdin.buffer, 1):\n    r = json.loads(line)\n"
                               "    print(json.dumps({'id': r['id'], 'output': {'n': n, 'in': r['inputs']}}), flush=True)\n")
    workers.put()
    for n in (1, 2):
        inputs = {"x": evil, evil: [evil, {evil: n}], "n": n}
        assert workers.answer(**inputs) == {"n": n, "in": inputs}


def test_a_run_that_has_begun_says_so(daemon: Daemon) -> None:
    """Also while that is not on disk: what is said of a run and of its steps agrees."""
    daemon.put("p.yaml", pipeline("p", script("sleep 0.05")))
    for _ in range(20):
        run = daemon.post("/api/v1/pipelines/p/run", {})
        while run["status"] in ("pending", "running"):
            if step_of(run)["status"] == "running":
                assert run["status"] == "running" and run["started_at"], run
            run = daemon.run(run["id"])


def test_a_worker_that_hangs_is_ended(workers: Workers) -> None:
    workers.put(step={"timeout_seconds": 1}, size=2)
    other = workers.answer(n=1)["pid"]
    hung = workers.run(hang=True)
    assert hung["status"] == "timed_out", hung
    pid = workers.answer(n=2)["pid"]
    assert pid != other and workers.pids() == {pid}, "it was the one used last that hung, and there is one in its place"


def test_cancel_ends_its_worker_or_leaves_the_queue(workers: Workers) -> None:
    workers.put()
    busy, waits, last = workers.start(hang=True), workers.start(n=1), workers.start(n=2)
    wait_for(lambda: len(workers.pids()) == 1)
    before = workers.pids()
    workers.daemon.post(f"/api/v1/runs/{waits}/cancel")
    assert finished(workers.daemon, waits)["status"] == "cancelled"
    assert workers.pids() == before and workers.daemon.run(busy)["status"] == "running"
    workers.daemon.post(f"/api/v1/runs/{busy}/cancel")
    assert finished(workers.daemon, busy)["status"] == "cancelled"
    done = finished(workers.daemon, last)
    assert done["status"] == "completed" and done["outputs"]["out"]["pid"] not in before


def test_a_worker_that_died_is_tried_again(workers: Workers) -> None:
    workers.put(step={"retry": {"max_attempts": 2, "initial_seconds": 0}})
    assert workers.answer(die=True, once=True, n=1)["attempt"] == 2
    assert workers.answer(n=2)["attempt"] == 1


def test_a_worker_killed_while_idle_harms_nobody(workers: Workers) -> None:
    workers.put()
    pid = workers.answer(n=1)["pid"]
    for n in range(20):
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not alive(pid))  # the daemon may or may not have heard of it when the next request comes
        pid = workers.answer(n=n)["pid"]


def test_64_side_by_side_are_served_by_4(workers: Workers) -> None:
    workers.put(size=4)
    events = [workers.daemon.emit1("many", {"n": n, "sleep": 0.02}) for n in range(64)]
    runs = [workers.daemon.run_of(e) for e in events]
    assert [r["outputs"]["out"]["n"] for r in runs] == list(range(64))
    assert {r["outputs"]["out"]["pid"] for r in runs} == workers.pids() and len(workers.pids()) == 4


def test_requests_wait_in_order(workers: Workers) -> None:
    workers.put()
    ids = [workers.start(n=n, sleep=0.05) for n in range(8)]
    ends = [step_of(finished(workers.daemon, id))["completed_at"] for id in ids]
    assert ends == sorted(ends)


def test_an_edit_gives_new_workers(workers: Workers) -> None:
    workers.put(env={"GENERATION": "1"})
    gate = workers.start(sleep=2, n=1)
    old = wait_for(workers.pids)
    workers.put(env={"GENERATION": "2"})
    new = workers.answer(n=2)["pid"]
    assert new not in old
    done = finished(workers.daemon, gate)
    assert done["status"] == "completed" and {done["outputs"]["out"]["pid"]} == old
    wait_for(lambda: workers.pids() == {new}, what="the old one to end with its run")
    workers.daemon.put("w.yaml", custom("other"))
    wait_for(lambda: not workers.pids(), what="those of a deleted pipeline to end")


def test_idle_workers_end(workers: Workers) -> None:
    workers.put(idle_seconds=0.5, size=2)
    pid = workers.answer(n=1)["pid"]
    assert workers.answer(n=2)["pid"] == pid
    wait_for(lambda: not workers.pids(), what="it to end")
    assert workers.answer(n=3)["pid"] != pid


def test_workers_are_replaced_after_max_requests(workers: Workers) -> None:
    workers.put(max_requests=3)
    pids = [workers.answer(n=n)["pid"] for n in range(7)]
    assert [pids.count(p) for p in dict.fromkeys(pids)] == [3, 3, 1]


def test_starts_that_fail(workers: Workers) -> None:
    workers.put(command=["/no/such/worker"])
    assert "no such file" in (why := workers.run()["error_message"]) and "/no/such/worker" in why
    starts = workers.daemon.data / "starts"
    workers.put(env={"STARTS": str(starts), "DIE_AT_ONCE": "1"}, step={"retry": {"max_attempts": 5, "initial_seconds": 0}})
    begun = time.monotonic()
    run = workers.run()
    assert run["status"] == "failed" and "no licence" in run["error_message"]
    assert len(starts.read_text().splitlines()) == 5
    assert time.monotonic() - begun >= 0.7, "0 + 0.1 + 0.2 + 0.4 s between its starts"
    workers.put(command=["sleep", "1000"], start_timeout_seconds=0.5)
    assert "did not read its first request within 0.5 s" in workers.run()["error_message"]


def test_stderr_of_workers(workers: Workers) -> None:
    workers.put()
    first, second = workers.run(say="one"), workers.run(say="two\nthree")
    assert printed(workers.daemon, first, stream="stderr") == b"up\none\n"
    assert printed(workers.daemon, second, stream="stderr") == b"two\nthree\n"
    assert printed(workers.daemon, second) == b""
    big = workers.run(say="z" * 1000, times=2000)
    err = printed(workers.daemon, big, stream="stderr")
    assert err.startswith(b"z" * 1000) and len(err) < (1 << 20) + 100 and b"more bytes were dropped" in err[-100:]


def test_what_a_worker_does_without_a_request(workers: Workers) -> None:
    program = workers.program
    program.write_text(HARD_WORKER + "    time.sleep(0.2)\n    print('afterwards', file=sys.stderr, flush=True)\n    time.sleep(0.2)\n"
                       "    print('chatter', flush=True)\n")
    workers.put()
    first = workers.answer(n=1)["pid"]
    wait_for(lambda: "afterwards" in workers.daemon.output() and "chatter" in workers.daemon.output())
    wait_for(lambda: not alive(first))
    assert workers.answer(n=2)["pid"] != first


def test_secrets_of_workers(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon("secrets", env={"WORKER_TOKEN": "tok-52710"})
    (daemon.manifests / "key.txt").write_text("key-1-38221\n")

    def kill_all() -> None:
        for p in daemon.children():
            os.kill(p.pid, signal.SIGKILL)

    program = daemon.data / "w.py"
    program.write_text("import json, os, sys\nfor line in sys.stdin:\n    r = json.loads(line)\n"
                       "    print(os.environ['KEY'], os.environ['TOKEN'], file=sys.stderr, flush=True)\n"
                       "    t = os.environ['KEY'][4], os.environ['TOKEN'] == 'tok-52710', r['inputs'].get('own') == 'tok-52710'\n"
                       "    print(json.dumps({'id': r['id'], 'output': [*t, os.environ['KEY']]}), flush=True)\n")
    worker = {"command": ["python3", str(program)], "env": {"KEY": "${file:key.txt}", "TOKEN": "${env:WORKER_TOKEN}"}}
    daemon.start()
    daemon.put("m.yaml", pipeline("p", {"id": "s", "worker": worker}),
               custom("t", default_inputs={"own": "${env:WORKER_TOKEN}"}))
    run = daemon.run_of(daemon.emit1("t"))
    assert run["outputs"]["out"] == ["1", True, True, "***"], run
    assert printed(daemon, run, stream="stderr") == b"*** ***\n"
    (daemon.manifests / "key.txt").write_text("key-2-49911\n")
    run = daemon.run_of(daemon.emit1("t"))
    assert run["outputs"]["out"] == ["1", True, True, "***"], "the one that runs has what it was started with, masked"
    assert printed(daemon, run, stream="stderr") == b"*** ***\n"
    kill_all()
    assert daemon.run_of(daemon.emit1("t"))["outputs"]["out"] == ["2", True, True, "***"]
    (daemon.manifests / "key.txt").unlink()
    kill_all()
    event = daemon.wait_event(daemon.emit1("t")["id"], "failed")
    assert "${file:key.txt}" in event["error_message"]


def test_workers_of_an_earlier_life(workers: Workers) -> None:
    workers.put()
    pid = workers.answer(n=1)["pid"]
    busy = workers.start(sleep=1, n=2)
    wait_for(lambda: workers.daemon.run(busy)["status"] == "running")
    workers.daemon.kill9()
    workers.daemon.start()
    assert not alive(pid)
    done = finished(workers.daemon, busy)
    assert done["status"] == "completed" and done["outputs"]["out"] == {**done["outputs"]["out"], "n": 2, "attempt": 2}


def test_a_shutdown_waits_for_workers(workers: Workers) -> None:
    workers.put()
    id = workers.start(sleep=1, n=1)
    pid = wait_for(workers.pids)
    workers.daemon.stop()
    assert not any(alive(p) for p in pid)
    workers.daemon.start()
    assert workers.daemon.run(id)["status"] == "completed"


def test_nothing_is_left_of_workers(workers: Workers) -> None:
    """1 000 requests while workers are killed at random: every run ends, and descriptors, processes and zombies do too."""
    workers.put(step={"retry": {"max_attempts": 20, "initial_seconds": 0}}, size=4, idle_seconds=1)
    workers.answer(n=-1)
    pid = workers.daemon.pid
    rng = random.Random(1)
    wait_for(lambda: not workers.pids())
    before = len(os.listdir(f"/proc/{pid}/fd"))
    ids = [workers.daemon.emit1("many", {"n": n, "sleep": 0.001})["id"] for n in range(1000)]
    while workers.daemon.get("/api/v1/triggers/stats")["successful_events_24h"] < len(ids):
        for victim in rng.sample(sorted(workers.pids()), k=min(1, len(workers.pids()))):
            with suppress(OSError):
                os.kill(victim, rng.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGINT]))
        assert workers.daemon.get("/api/v1/triggers/stats")["failed_events_24h"] == 0
    wait_for(lambda: not workers.pids(), what="the idle ones to end")
    wait_for(lambda: len(os.listdir(f"/proc/{pid}/fd")) <= before, what="their descriptors")
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    assert children == [], "no zombies"


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
               custom("t"), custom("off", enabled=False))
    event = daemon.emit1("t")
    wait_for(lambda: gate.lines("start"))
    daemon.emit("off")  # the end of `a` is recorded before this is
    daemon.kill9()
    daemon.start()
    wait_for(lambda: len(gate.lines("start")) == 2)
    gate.open()
    done = daemon.run_of(event)
    assert done["status"] == "completed" and done["outputs"] == {"a": 5} and done["attempt"] == 2
    assert once.read_text() == "x\n"


def test_no_two_attempts_have_one_number(daemon: Daemon) -> None:
    """A step that tries again by itself, in a daemon that is killed again and again: also before it could try."""
    seen = daemon.data / "attempts"
    tries = {"max_attempts": 1000, "initial_seconds": 0, "max_seconds": 0.02}
    daemon.put("m.yaml", pipeline("p", script('echo $TRIGGERD_ATTEMPT >> "$SEEN"; [ -e "$SEEN.enough" ]', env={"SEEN": str(seen)},
                                              retry=tries)), custom("t", max_interruptions=100))
    event = daemon.emit1("t")
    rng = random.Random(5)
    count = 0
    for _ in range(6):
        wait_for(lambda: seen.exists() and len(seen.read_text().split()) > count + 3)
        never(lambda: False, rng.random() / 20)
        daemon.kill9()
        count = len(seen.read_text().split())
        daemon.start()
    (daemon.data / "attempts.enough").touch()
    done = daemon.run_of(daemon.wait_event(event["id"]))
    numbers = [int(n) for n in seen.read_text().split()]
    assert numbers == sorted(set(numbers)), numbers
    assert done["status"] == "completed" and step_of(done)["attempt"] == numbers[-1]
