#!/usr/bin/env python3
"""The daemon beside the floor: the least C program that does the same work and nothing else (floor.c).

    bench.py [--build DIR] [--rounds 3] [--seconds 3] [--json FILE] [NAME]...

NAME: emit run exec worker pending output file memory startup edit idle match validate mount rest lists mcp rabbitmq redis kafka;
not without being named, as they take minutes: store, and soak, which emits for `--soak` seconds.

Floor and daemon are measured in turn in the same rounds on the same disk; each figure is the median of the rounds. A row
has the floor's figure, the daemon's, their ratio and the limit; the exit code is 1 when a limit is missed. Without a daemon
in the build directory only the floor is measured. Needs a release build with -DTRIGGERD_BENCH=ON (made when missing).
"""
from __future__ import annotations

import argparse
import json
import os
import re
import select
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "system"))
import mcp_rows  # noqa: E402
import rest  # noqa: E402
from brokers import Kafka, KafkaClient, RabbitMQ, Redis, serve  # noqa: E402
from harness import Daemon, UnixConnection, custom, documents, file_watch, free_port, pipeline, wait_for  # noqa: E402

CONNECTIONS = 64
TRIGGERS = 1000
RUNS = 5000
WORKER_RUNS = 20000
FILES = 2000
LATENCY_FILES = 300
MANY = 10000
PENDING_FEW, PENDING_ROUNDS, PENDING_MANY = 10, 50, 10000
MANIFEST = """# yaml-language-server: $schema=../../schemas/manifest.json
# A file of the inbox, counted.
kind: pipeline
id: count_@
inputs:
  type: object
  required: [path]
  properties: {path: {type: string, minLength: 1}}
steps:
  - id: count
    exec:
      command: [/usr/bin/wc, -l, "{{ $.inputs.path }}"]
      env: {MODE: batch}
    timeout_seconds: 10
    retry: {max_attempts: 3, initial_seconds: 1}
  - id: tell   # whoever listens
    needs: [count]
    emit: {endpoint: counted-@, data: {lines: "{{ $.steps.count.output.stdout }}"}}
outputs:
  lines: $.steps.count.output.stdout
---
name: Count new files @
description: Counts the lines of each CSV file that comes into inbox number @.
pipeline_id: count_@
trigger_type: file_watch
config:
  path: /data/inbox/@/*.csv
  events: [created, modified]
  debounce_seconds: 0.5
  ignore_patterns: ["*.tmp", "*.part"]
  filter: {size: [{numeric: [">", 0]}]}
  input_mapping:
    path: $.path
    size: $.size
max_concurrent: 4
cooldown_seconds: 1
default_inputs: {mode: batch}
"""
STORED = 1000000
AMQP_MESSAGES, AMQP_PREFETCH = 100000, 1000
MESSAGES, PREFETCH = 100000, 1000
LEAST_MESSAGES = 20000  # a command at a time is slow
SOAK_KEPT = 200000
SOAK_FIRST = 60


def message_queue(port: int, mode: str, pipeline: str = "nothing", **config: Any) -> dict[str, Any]:
    """A trigger that reads the queue `q` of a Redis."""
    full = {"queue_type": "redis", "connection_url": f"redis://127.0.0.1:{port}", "queue_name": "q", "redis_mode": mode,
            "prefetch": PREFETCH, **({"start": "earliest"} if mode == "stream" else {}), **config}
    return {"kind": "trigger", "id": "t", "name": "t", "pipeline_id": pipeline, "trigger_type": "message_queue",
            "max_concurrent": CONNECTIONS, "queue_limit": 1000000, "config": full}


@dataclass
class Row:
    """One figure. `limit` is over `ratio` where there is a floor, else over `value`; a leading ≥ or ≤ tells the side."""
    name: str
    unit: str
    floor: float | None
    value: float | None
    limit: str

    @property
    def ratio(self) -> float | None:
        return self.value / self.floor if self.floor and self.value is not None else None

    @property
    def good(self) -> bool | None:
        figure = self.ratio if self.floor is not None else self.value
        if figure is None or not self.limit:
            return None
        bound = float(self.limit[1:])
        return figure >= bound if self.limit[0] == "≥" else figure <= bound


Figures = dict[str, float]


class Bench:
    def __init__(self, options: argparse.Namespace) -> None:
        self.build: Path = options.build
        self.rounds: int = options.rounds
        self.seconds: float = options.seconds
        self.soaking: float = options.soak
        self.rows: list[Row] = []
        self.has_daemon = (self.build / "triggerd").exists()
        # Not in /tmp, which may be memory: a sync must cost what it costs. Nor beside the build, which is in git's work
        # tree: the daemon would load libgit2 to say of each manifest where it comes from.
        self.dir = Path(tempfile.mkdtemp(prefix="triggerd-bench-", dir="/var/tmp"))

    # -- programs --

    def tool(self, name: str) -> str:
        return str(self.build / "tests" / name)

    @contextmanager
    def fresh(self, name: str) -> Iterator[Path]:
        path = self.dir / name
        path.mkdir()
        try:
            yield path
        finally:
            shutil.rmtree(path)

    @contextmanager
    def floor(self, dir: Path, mode: str, options: list[str], command: list[str]) -> Iterator[None]:
        schemas = [word for name in ("schema.sql", "schema_3.sql") for word in ("--schema", str(ROOT / "src/store" / name))]
        with subprocess.Popen([self.tool("floor"), mode, "--db", str(dir / "db"), *schemas, *options, *command],
                              stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout and process.stdout.readline() == "ready\n", "floor did not start"
                yield
            finally:
                process.terminate()

    @contextmanager
    def daemon(self, dir: Path, files: dict[str, str], settings: Path | None = None, **options: Any) -> Iterator[Daemon]:
        config = ("--config", str(settings)) if settings else ()
        mount = options.pop("mount", None)
        config += ("--mount", str(mount)) if mount else ()
        daemon = Daemon(dir, build=self.build, args=("--log-level", "error", *config), **options)
        try:
            for name, text in files.items():
                (daemon.manifests / name).write_text(text)
            daemon.start(120)
            yield daemon
        finally:
            daemon.close()

    def load(self, *args: str) -> dict[str, float]:
        done = subprocess.run([self.tool("load"), *args], capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"load {' '.join(args)[:200]}: {done.stdout}{done.stderr}")
        return json.loads(done.stdout)

    def measure(self, floor: Callable[[], Figures] | None, daemon: Callable[[], Figures],
                rows: list[tuple[str, str, str, float, str]]) -> None:
        """Rounds of both, in turn. A row: name, unit, key of the figure, factor, limit."""
        floors: list[Figures] = []
        values: list[Figures] = []
        for _ in range(self.rounds):
            if floor:
                floors.append(floor())
            if self.has_daemon:
                values.append(daemon())
        for name, unit, key, factor, limit in rows:
            beside = statistics.median(f[key] for f in floors) * factor if floors else None
            value = statistics.median(v[key] for v in values) * factor if values else None
            self.rows.append(Row(name, unit, beside, value, limit))
            self.show(self.rows[-1])

    def figure(self, name: str, unit: str, value: float, limit: str) -> None:
        """A row that was measured once."""
        self.rows.append(Row(name, unit, None, value, limit))
        self.show(self.rows[-1])

    def show(self, row: Row) -> None:
        def text(x: float | None) -> str:
            return "-" if x is None else f"{x:,.0f}" if x >= 1000 else f"{x:.3g}"

        verdict = {None: "", True: "ok", False: "MISSED"}[row.good]
        limit = row.limit + (" × floor" if row.floor is not None and row.limit else "")
        print(f"{row.name:<58} {row.unit:>7} {text(row.floor):>10} {text(row.value):>10} {text(row.ratio):>7}  "
              f"{limit:<14} {verdict}", flush=True)

    # -- emit --

    def body(self) -> str:
        """An event of 300 bytes; the mark is replaced by the number of the request."""
        def event(pad: str) -> str:
            return json.dumps({"endpoint": "bench", "data": {"kind": f"k{TRIGGERS // 2}", "n": "%" * 10, "pad": pad}})
        return event("x" * (300 - len(event(""))))

    def emit(self) -> None:
        for transport in ("unix", "tcp"):
            def args(socket: Path, port: int, transport: str = transport) -> list[str]:
                where = ["--unix", str(socket)] if transport == "unix" else ["--tcp", str(port)]
                return [*where, "-c", str(CONNECTIONS), "-s", str(self.seconds), "-p", "/api/v1/triggers/emit", "-b",
                        self.body()]

            def floor(args: Callable[[Path, int], list[str]] = args) -> Figures:
                with self.fresh("floor") as dir:
                    port = free_port()
                    with self.floor(dir, "emit", ["--socket", str(dir / "s"), "--port", str(port)], []):
                        return self.load(*args(dir / "s", port))

            def daemon(args: Callable[[Path, int], list[str]] = args) -> Figures:
                triggers = [custom(f"t{i}", "p", "bench", config={"filter": {"kind": f"k{i}"}}) for i in range(TRIGGERS)]
                files = {"p.yaml": documents(pipeline("p", {"id": "s", "exec": {"command": ["/bin/true"]}})),
                         "t.yaml": documents(*triggers)}
                with self.fresh("daemon") as dir, self.daemon(dir, files, listen=True) as d:
                    # A paused trigger records its events and runs nothing.
                    d.post(f"/api/v1/triggers/t{TRIGGERS // 2}/pause")
                    figures = self.load(*args(d.socket, d.port))
                    total = d.get("/api/v1/triggers/events?page_size=1")["total"]
                    assert total == figures["requests"], f"{figures['requests']} acknowledged, {total} recorded"
                    return figures

            self.measure(floor, daemon, [
                (f"durable emits, {transport}, {CONNECTIONS} connections, {TRIGGERS} triggers", "1/s", "rate", 1, "≥0.7"),
                (f"durable emits, {transport}: p99", "ms", "p99_us", 1e-3, "≤2"),
                (f"durable emits, {transport}: median", "ms", "p50_us", 1e-3, "")])

    # -- run --

    def run(self) -> None:
        self.processes(f"emits that run a process each, {RUNS}, none lost", ["/bin/true"], "", "≥0.85")

    def exec(self) -> None:
        self.processes(f"exec runs whose output is captured, {RUNS}", ["/bin/echo", "said"], "said\n", "≥0.75")

    def floor_runs(self, command: list[str]) -> Figures:
        args = ["-c", str(CONNECTIONS), "-n", str(RUNS), "-p", "/api/v1/triggers/emit", "-b", self.body()]
        with self.fresh("floor") as dir, self.floor(dir, "run", ["--socket", str(dir / "s"), "-j", str(CONNECTIONS)], command):
            def ended() -> bool:
                with closing(UnixConnection(dir / "s", 10)) as connection:
                    connection.request("GET", "/")
                    return json.loads(connection.getresponse().read())["ended"] == RUNS
            begin = time.monotonic()
            self.load("--unix", str(dir / "s"), *args)
            wait_for(ended, 300, "every run ended")
            return {"rate": RUNS / (time.monotonic() - begin)}

    def processes(self, name: str, command: list[str], said: str, limit: str) -> None:
        self.measure(lambda: self.floor_runs(command), lambda: self.runs({"exec": {"command": command}}, RUNS, {"stdout": said}),
                     [(name, "1/s", "rate", 1, limit)])

    def worker(self) -> None:
        """Runs whose step is a worker, beside the same runs with a process each."""
        step = {"worker": {"command": [self.tool("worker")], "size": 2}}
        self.measure(lambda: self.runs({"exec": {"command": ["/bin/echo", "said"]}}, RUNS, {"stdout": "said\n"}),
                     lambda: self.runs(step, WORKER_RUNS, "said"),
                     [(f"worker runs, {WORKER_RUNS}, beside exec runs", "1/s", "rate", 1, "≥5")])

    def completed(self, d: Daemon) -> int:
        text = d.http("GET", "/metrics").body.decode()
        return round(sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines()
                         if line.startswith("triggerd_runs_total{") and 'status="completed"' in line))

    def runs(self, step: dict[str, Any], count: int, output: Any, *more: dict[str, Any], steps: int = 1) -> Figures:
        """Emits that run `steps` such steps each, all at once, until every run is recorded; `more`: what they need."""
        all_steps = [{"id": f"s{i}", "needs": [], **step} for i in range(steps)]
        files = {"m.yaml": documents(*more, pipeline("p", *all_steps), custom(
            "t", "p", "bench", max_concurrent=CONNECTIONS // steps, queue_limit=1000000))}
        args = ["-c", str(CONNECTIONS), "-n", str(count), "-p", "/api/v1/triggers/emit", "-b", self.body()]
        with self.fresh("daemon") as dir, self.daemon(dir, files) as d:
            begin = time.monotonic()
            self.load("--unix", str(d.socket), *args)
            wait_for(lambda: self.completed(d) == count, 300, "every run ended")
            # Runs are counted when they end; what is recorded of the last ones is committed a moment later.
            wait_for(lambda: d.get("/api/v1/triggers/events?status=completed&page_size=1")["total"] == count, 30,
                     f"{count} acknowledged, every one completed")
            seconds = time.monotonic() - begin
            last = d.get("/api/v1/runs?page_size=1")["runs"][0]
            assert d.run(last["id"])["outputs"]["out"] == output
            return {"rate": count / seconds, "steps": count * steps / seconds}

    # -- pending --

    def pending(self) -> None:
        """Of one trigger: what a run costs the daemon's processors, with many waiting behind it and with ten."""
        def ended(d: Daemon) -> int:
            text = d.http("GET", "/metrics").body.decode()
            return round(sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines()
                             if line.startswith("triggerd_runs_total{")))

        def round_of(d: Daemon, count: int) -> float:
            d.post("/api/v1/triggers/t/pause")
            before = ended(d)
            self.load("--unix", str(d.socket), "-c", "16", "-n", str(count), "-p", "/api/v1/triggers/emit", "-b", self.body())
            begin = self.processor(d)
            d.post("/api/v1/triggers/t/resume")
            time.sleep(0.3)  # for few that is enough, and looking would cost more than they do
            spent = self.processor(d) - begin
            if ended(d) == before + count:
                return spent
            wait_for(lambda: ended(d) == before + count, 300, f"{count} runs")
            return self.processor(d) - begin

        def daemon() -> Figures:
            files = {"m.yaml": documents(
                pipeline("p", {"id": "s", "exec": {"command": ["/bin/true"]}}),
                custom("t", "p", "bench", max_concurrent=8, queue_limit=1000000, pause_policy="hold"))}
            with self.fresh("daemon") as dir, self.daemon(dir, files) as d:
                round_of(d, 200)
                few = sum(round_of(d, PENDING_FEW) for _ in range(PENDING_ROUNDS)) / (PENDING_FEW * PENDING_ROUNDS)
                many = round_of(d, PENDING_MANY) / PENDING_MANY
                return {"few": few * 1e6, "many": many * 1e6, "ratio": many / few}

        self.measure(None, daemon, [
            (f"processor time a run, {PENDING_FEW} pending of one trigger", "us", "few", 1, ""),
            (f"processor time a run, {PENDING_MANY} pending of one trigger", "us", "many", 1, ""),
            (f"{PENDING_MANY} pending against {PENDING_FEW}", "", "ratio", 1, "≤1.1")])

    def output(self) -> None:
        """What the daemon holds of a step that prints without end: the most while it prints, beside what it had before."""
        def daemon() -> Figures:
            with self.fresh("daemon") as dir:
                printed = dir / "printed"
                steps = [pipeline("little", {"id": "s", "exec": {"script": "true"}}, outputs={}),
                         pipeline("much", {"id": "s", "exec": {
                             "script": f"head -c {1 << 30} /dev/zero; touch {printed}; sleep 0.2"}}, outputs={})]
                with self.daemon(dir, {"m.yaml": documents(*steps)}) as d:
                    d.post("/api/v1/pipelines/little/run", {})
                    time.sleep(7)  # what was needed for the start is given back after 6 s
                    before = d.memory("RssAnon")
                    run, most = d.post("/api/v1/pipelines/much/run", {})["id"], before
                    while not printed.exists():
                        most = max(most, d.memory("RssAnon"))
                    wait_for(lambda: d.run(run)["status"] == "completed", 60)
                    return {"more": (most - before) / 1024}

        self.measure(None, daemon, [("memory held while a step prints 1 GiB", "MiB", "more", 1, "≤2")])

    @staticmethod
    def processor(d: Daemon) -> float:
        """Seconds that its threads have run; not its children."""
        return sum(int((task / "schedstat").read_text().split()[0])
                   for task in Path(f"/proc/{d.pid}/task").iterdir()) / 1e9

    # -- file --

    def marks(self, out: Path) -> dict[str, int]:
        """What mark wrote: the path and its first instruction's time in ns."""
        lines = out.read_text().splitlines() if out.exists() else []
        return {path: int(ns) for ns, path in (line.split(" ", 1) for line in lines)}

    def latencies(self, watched: Path, out: Path) -> Figures:
        found = []
        for i in range(LATENCY_FILES):
            path = watched / f"f{i}"
            fd = os.open(path, os.O_WRONLY | os.O_CREAT)
            os.write(fd, b"x")
            closed = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
            os.close(fd)
            found.append((wait_for(lambda: self.marks(out), 10, str(path))[str(path)] - closed) / 1e6)
            out.unlink()
            time.sleep(0.005)
        found.sort()
        return {"p50": found[len(found) // 2], "p99": found[len(found) * 99 // 100]}

    def burst(self, watched: Path, out: Path) -> Figures:
        begin = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        for i in range(FILES):
            fd = os.open(watched / f"b{i}", os.O_WRONLY | os.O_CREAT)
            os.write(fd, b"x")
            os.close(fd)
        wait_for(lambda: out.exists() and out.read_bytes().count(b"\n") >= FILES, 120, "a process for every file")
        found = self.marks(out)
        assert len(found) == FILES, f"{len(found)} of {FILES} files ran"
        return {"rate": FILES / ((max(found.values()) - begin) / 1e9)}

    @contextmanager
    def watched(self) -> Iterator[Path]:
        """A folder in memory: ext4 passes over what was deleted within the last minutes to find an inode for a new
        file, so that after some rounds the making of the files would be measured, and nothing else."""
        with tempfile.TemporaryDirectory(prefix="triggerd-bench-", dir="/dev/shm") as path:
            yield Path(path)

    def file(self) -> None:
        def floor(measure: Callable[[Path, Path], Figures]) -> Figures:
            with self.fresh("floor") as dir, self.watched() as watched:
                with self.floor(dir, "file", ["--dir", str(watched), "-j", str(CONNECTIONS)],
                                [self.tool("mark"), str(dir / "out")]):
                    return measure(watched, dir / "out")

        def daemon(measure: Callable[[Path, Path], Figures]) -> Figures:
            with self.fresh("daemon") as dir, self.watched() as watched:
                mark = {"id": "s", "exec": {"command": [self.tool("mark"), str(dir / "out"), "{{ $.inputs.path }}"]}}
                config = {"debounce_seconds": 0, "events": ["created"], "input_mapping": {"path": "$.path"}}
                files = {"m.yaml": documents(pipeline("p", mark), file_watch(
                    "t", watched / "*", config=config, max_concurrent=CONNECTIONS, queue_limit=1000000))}
                with self.daemon(dir, files):
                    return measure(watched, dir / "out")

        self.measure(lambda: floor(self.latencies), lambda: daemon(self.latencies), [
            ("close of a file to first instruction: median", "ms", "p50", 1, "≤1.5"),
            ("close of a file to first instruction: p99", "ms", "p99", 1, "≤2")])
        self.measure(lambda: floor(self.burst), lambda: daemon(self.burst), [
            (f"burst of {FILES} files, a process each, none missed", "1/s", "rate", 1, "≥0.9")])

    # -- memory, startup, idle: against numbers --

    def many(self, count: int) -> dict[str, str]:
        files = {"p.yaml": documents(pipeline("p", {"id": "s", "exec": {"command": ["/bin/true"]}}))}
        for i in range(count):
            files[f"t{i}.yaml"] = documents(custom(f"t{i}", "p", f"e{i % 100}", config={"filter": {"kind": f"k{i}"}}))
        return files

    def resident(self, d: Daemon) -> float:
        """KiB."""
        found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{d.pid}/status").read_text())
        assert found
        return float(found[1])

    def memory(self) -> None:
        def resident(count: int) -> float:
            with self.fresh("daemon") as dir, self.daemon(dir, self.many(count)) as d:
                time.sleep(8)
                return self.resident(d)

        def daemon() -> Figures:
            few, many = resident(10), resident(10 + MANY)
            return {"idle": few / 1024, "each": (many - few) / MANY}

        self.measure(None, daemon, [("resident memory, idle, 10 triggers", "MiB", "idle", 1, "≤10"),
                                    (f"each further trigger, of {MANY}", "KiB", "each", 1, "≤4")])

    # -- RabbitMQ --

    def rabbitmq(self) -> None:
        """Messages of 100 bytes that wait, until each is recorded and acknowledged, beside a consumer that acknowledges
        alone. The pipeline is not there, so that nothing else is done with an event."""
        if not RabbitMQ.installed():
            print("rabbitmq: not installed (tests/install-brokers.sh)")
            return

        @contextmanager
        def server(dir: Path, count: int) -> Iterator[RabbitMQ]:
            with serve(RabbitMQ, dir / "rabbitmq") as rabbit:
                rabbit.call("declare", "q")
                rabbit.call("publish", "q", *(f"{i:010}" + "x" * 90 for i in range(count)))
                yield rabbit

        def reader(port: int, prefetch: int) -> str:
            return documents({"kind": "trigger", "id": "t", "name": "t", "pipeline_id": "nothing",
                              "trigger_type": "message_queue", "queue_limit": 1000000,
                              "config": {"queue_type": "rabbitmq", "connection_url": f"amqp://127.0.0.1:{port}",
                                         "queue_name": "q", "prefetch": prefetch}})

        def floor() -> Figures:
            with self.fresh("floor") as dir, server(dir, AMQP_MESSAGES) as rabbit:
                done = subprocess.run([self.tool("floor_amqp"), str(rabbit.port), "q", str(AMQP_PREFETCH), str(AMQP_MESSAGES)],
                                      capture_output=True, text=True, check=True)
                return json.loads(done.stdout)

        def daemon() -> Figures:
            with self.fresh("daemon") as dir, server(dir, AMQP_MESSAGES) as rabbit, self.daemon(dir, {}) as d:
                begin, spent = time.monotonic(), self.processor(d)
                d.write("m.yaml", reader(rabbit.port, AMQP_PREFETCH))
                wait_for(lambda: self.total(d) == AMQP_MESSAGES, 120, "all recorded")
                seconds, spent = time.monotonic() - begin, self.processor(d) - spent
                d.stop()
                assert rabbit.call("count", "q") == 0, "all acknowledged"
                return {"rate": AMQP_MESSAGES / seconds, "us": spent * 1e6 / AMQP_MESSAGES}

        def backlog(count: int) -> float:
            """Resident memory with all of the prefetch held: the trigger's queue is full."""
            with self.fresh("daemon") as dir, server(dir, count) as rabbit, self.daemon(dir, {}) as d:
                d.write("m.yaml", documents(
                    pipeline("p", {"id": "s", "exec": {"command": ["/bin/sleep", "600"]}}),
                    {"kind": "trigger", "id": "t", "name": "t", "pipeline_id": "p", "trigger_type": "message_queue",
                     "config": {"queue_type": "rabbitmq", "connection_url": f"amqp://127.0.0.1:{rabbit.port}", "queue_name": "q",
                                "ack_mode": "manual", "prefetch": 100}}))
                wait_for(lambda: self.total(d) == 100, 60, "the prefetch is taken")
                time.sleep(1)
                found = self.resident(d)
                d.post("/api/v1/triggers/t/pause")
                for run in d.get("/api/v1/runs?status=running")["runs"]:
                    d.post(f"/api/v1/runs/{run['id']}/cancel")
                return found

        self.measure(floor, daemon, [(f"RabbitMQ: recorded and acknowledged, {AMQP_MESSAGES}", "1/s", "rate", 1, "≥0.6")])
        if self.has_daemon:
            self.measure(None, daemon, [("RabbitMQ: the daemon's processor time a message", "us", "us", 1, "")])
            self.measure(None, lambda: {"more": (backlog(1000000) - backlog(100)) / 1024},
                         [("RabbitMQ: memory, a backlog of 1 000 000 beside one of 100", "MiB", "more", 1, "≤1")])

    # -- Redis --

    def redis(self) -> None:
        """Messages of 100 bytes that wait, until each is recorded and acknowledged, beside consumers that acknowledge
        alone under the same `prefetch`: the least one, a command at a time, and one that says as much at once as it can,
        which is the server's own speed. The pipeline is not there, so that nothing else is done with an event."""
        if not Redis.installed():
            print("redis: not installed (tests/install-brokers.sh)")
            return
        for mode in ("list", "stream"):
            @contextmanager
            def server(dir: Path, count: int, mode: str = mode) -> Iterator[Redis]:
                with serve(Redis, dir / "redis", durable=False) as redis:
                    client = redis.client()
                    for first in range(0, count, 1000):
                        messages = [f"{i:010}" + "x" * 90 for i in range(first, first + 1000)]
                        if mode == "list":
                            client.call("RPUSH", "q", *messages)
                        else:
                            client.pipeline(*(("XADD", "q", "*", "body", m) for m in messages))
                    yield redis

            def consumer(how: str, count: int, mode: str = mode) -> float:
                with self.fresh("floor") as dir, server(dir, count) as redis:
                    done = subprocess.run([self.tool("floor_redis"), mode, how, str(redis.port), "q", str(PREFETCH), str(count)],
                                          capture_output=True, text=True, check=True)
                    return float(json.loads(done.stdout)["rate"])

            def floor(consumer: Callable[[str, int], float] = consumer) -> Figures:
                return {"least": consumer("least", LEAST_MESSAGES), "most": consumer("most", MESSAGES)}

            def daemon(mode: str = mode) -> Figures:
                with self.fresh("daemon") as dir, server(dir, MESSAGES) as redis, self.daemon(dir, {}) as d:
                    begin, spent = time.monotonic(), self.processor(d)
                    d.write("m.yaml", message_queue(redis.port, mode))

                    def acknowledged() -> bool:
                        return (redis.call("EXISTS", f"q:triggerd:{d.node_id()}:t") == 0 if mode == "list" else
                                redis.call("XPENDING", "q", "triggerd-t")[0] == 0)

                    wait_for(lambda: self.total(d) == MESSAGES and acknowledged(), 120, "all recorded and acknowledged")
                    rate = MESSAGES / (time.monotonic() - begin)
                    return {"least": rate, "most": rate, "us": (self.processor(d) - spent) * 1e6 / MESSAGES}

            self.measure(floor, daemon, [
                (f"Redis {mode}: recorded and acknowledged, {MESSAGES}", "1/s", "least", 1, "≥0.6"),
                (f"Redis {mode}: beside {PREFETCH} at once, the server's own speed", "1/s", "most", 1, "")])
            if self.has_daemon:
                self.measure(None, daemon, [(f"Redis {mode}: the daemon's processor time a message", "us", "us", 1, "")])

        def jobs() -> Figures:
            with self.fresh("daemon") as dir, server(dir, RUNS, "list") as redis, self.daemon(dir, {}) as d:
                begin = time.monotonic()
                d.write("m.yaml", documents(pipeline("p", {"id": "s", "exec": {"command": ["/bin/true"]}}),
                                            message_queue(redis.port, "list", "p")))
                wait_for(lambda: self.completed(d) == RUNS, 300, "every run ended")
                return {"rate": RUNS / (time.monotonic() - begin)}

        self.measure(lambda: self.floor_runs(["/bin/true"]), jobs,
                     [(f"Redis list: jobs that run a process each, {RUNS}", "1/s", "rate", 1, "≥0.85")])

        def backlog(count: int) -> float:
            with self.fresh("daemon") as dir, serve(Redis, dir / "redis", durable=False) as redis, \
                    self.daemon(dir, {"m.yaml": documents(pipeline("p", {"id": "s", "exec": {"command": ["/bin/sleep", "600"]}}),
                                                          message_queue(redis.port, "list", "p", prefetch=100,
                                                                        ack_mode="manual"))}) as d:
                client = redis.client()
                for first in range(0, count, 1000):
                    client.call("RPUSH", "q", *(f"{i:010}" + "x" * 90 for i in range(first, first + 1000)))
                wait_for(lambda: redis.call("LLEN", f"q:triggerd:{d.node_id()}:t") == 100, 60, "prefetch is taken")
                time.sleep(1)
                found = self.resident(d)
                for run in d.get("/api/v1/runs?status=running")["runs"]:
                    d.post(f"/api/v1/runs/{run['id']}/cancel")
                return found

        if self.has_daemon:
            self.measure(None, lambda: {"more": (backlog(1000000) - backlog(1000)) / 1024},
                         [("Redis list: resident memory, a backlog of a million beside one of 1,000: more", "MiB", "more", 1, "≤1")])

    # -- Kafka --

    def kafka(self) -> None:
        """Messages of 100 bytes that wait in one partition, until each is recorded and its offset committed, beside a
        consumer that commits alone. The pipeline is not there, so that nothing else is done with an event."""
        if not Kafka.installed():
            print("kafka: not installed (tests/install-brokers.sh)")
            return

        @contextmanager
        def server(dir: Path, count: int = MESSAGES) -> Iterator[Kafka]:
            with serve(Kafka, dir / "kafka") as kafka:
                client = kafka.client()
                client.create("q")
                for i in range(count):
                    client.produce("q", f"{i:010}" + "x" * 90, partition=0)
                client.flush()
                yield kafka

        def committed(kafka: Kafka, group: str) -> int:
            with closing(KafkaClient(f"127.0.0.1:{kafka.port}")) as client:
                return client.committed(group, "q")

        def floor() -> Figures:
            with self.fresh("floor") as dir, server(dir) as kafka:
                done = subprocess.run([self.tool("floor_kafka"), str(kafka.port), "q", str(PREFETCH), str(MESSAGES)],
                                      capture_output=True, text=True, check=True)
                assert committed(kafka, "floor") == MESSAGES, "all committed"
                return json.loads(done.stdout)

        def daemon() -> Figures:
            with self.fresh("daemon") as dir, server(dir) as kafka, self.daemon(dir, {}) as d:
                begin, spent = time.monotonic(), self.processor(d)
                d.write("m.yaml", documents({
                    "kind": "trigger", "id": "t", "name": "t", "pipeline_id": "nothing", "trigger_type": "message_queue",
                    "queue_limit": 1000000,
                    "config": {"queue_type": "kafka", "connection_url": f"kafka://127.0.0.1:{kafka.port}", "queue_name": "q",
                               "start": "earliest", "prefetch": PREFETCH}}))
                wait_for(lambda: self.total(d) == MESSAGES, 120, "all recorded")
                seconds, spent = time.monotonic() - begin, self.processor(d) - spent
                d.stop()
                assert committed(kafka, "triggerd-t") == MESSAGES, "all committed"
                return {"rate": MESSAGES / seconds, "us": spent * 1e6 / MESSAGES}

        def backlog(count: int) -> float:
            """Resident memory with all of the prefetch held: the trigger's queue is full, and so is what is read ahead."""
            with self.fresh("daemon") as dir, server(dir, count) as kafka, self.daemon(dir, {}) as d:
                d.write("m.yaml", documents(
                    pipeline("p", {"id": "s", "exec": {"command": ["/bin/sleep", "600"]}}),
                    {"kind": "trigger", "id": "t", "name": "t", "pipeline_id": "p", "trigger_type": "message_queue",
                     "config": {"queue_type": "kafka", "connection_url": f"kafka://127.0.0.1:{kafka.port}", "queue_name": "q",
                                "start": "earliest", "ack_mode": "manual", "prefetch": 100}}))
                wait_for(lambda: self.total(d) == 100, 60, "the prefetch is taken")
                time.sleep(2)
                found = self.resident(d)
                d.post("/api/v1/triggers/t/pause")
                for run in d.get("/api/v1/runs?status=running")["runs"]:
                    d.post(f"/api/v1/runs/{run['id']}/cancel")
                return found

        self.measure(floor, daemon, [(f"Kafka: recorded and committed, {MESSAGES}", "1/s", "rate", 1, "≥0.6")])
        if self.has_daemon:
            self.measure(None, daemon, [("Kafka: the daemon's processor time a message", "us", "us", 1, "")])
            self.measure(None, lambda: {"more": (backlog(1000000) - backlog(100)) / 1024},
                         [("Kafka: memory, a backlog of 1 000 000 beside one of 100", "MiB", "more", 1, "≤8")])

    # -- memory over time: not by default, as they take minutes --

    def recording(self) -> dict[str, str]:
        """A trigger that records the body's events and, paused, runs nothing."""
        return {"m.yaml": documents(pipeline("p", {"id": "s", "exec": {"command": ["/bin/true"]}}),
                                    custom("t", "p", "bench"))}

    def total(self, d: Daemon) -> int:
        return int(d.get("/api/v1/triggers/events?page_size=1")["total"])

    def store(self) -> None:
        def daemon() -> Figures:
            with self.fresh("daemon") as dir:
                settings = dir / "triggerd.yaml"
                settings.write_text(json.dumps({"retention": {"events": 2 * STORED}}))
                files = self.recording()
                with self.daemon(dir, files, settings=settings) as d:
                    self.total(d)
                    time.sleep(1)
                    empty = self.resident(d)
                    d.post("/api/v1/triggers/t/pause")
                    self.load("--unix", str(d.socket), "-c", str(CONNECTIONS), "-n", str(STORED), "-p",
                              "/api/v1/triggers/emit", "-b", self.body())
                with self.daemon(dir, files, settings=settings) as d:
                    assert self.total(d) == STORED
                    time.sleep(1)
                    return {"more": (self.resident(d) - empty) / 1024}

        self.measure(None, daemon, [(f"resident memory, {STORED} events stored, a page read: more", "MiB", "more", 1, "≤1")])

    def soak(self) -> None:
        """Emits at full speed, in slices; retention keeps SOAK_KEPT events, so that the store has turned over many times."""
        def daemon() -> Figures:
            with self.fresh("daemon") as dir:
                settings = dir / "triggerd.yaml"
                settings.write_text(json.dumps({"retention": {"events": SOAK_KEPT}}))
                with self.daemon(dir, self.recording(), settings=settings) as d:
                    d.post("/api/v1/triggers/t/pause")
                    begin, emitted, first = time.monotonic(), 0.0, 0.0
                    while (passed := time.monotonic() - begin) < self.soaking:
                        if passed >= SOAK_FIRST and not first:
                            first = self.resident(d)
                        left = (SOAK_FIRST if not first else self.soaking) - passed
                        emitted += self.load("--unix", str(d.socket), "-c", str(CONNECTIONS), "-s", str(min(left, 30)),
                                             "-p", "/api/v1/triggers/emit", "-b", self.body())["requests"]
                        print(f"  after {time.monotonic() - begin:.0f} s: {emitted:,.0f} events emitted, "
                              f"{self.total(d):,} kept, {self.resident(d) / 1024:.1f} MiB resident", flush=True)
                    return {"first": first / 1024, "last": self.resident(d) / 1024, "grown": self.resident(d) / first,
                            "turns": emitted / SOAK_KEPT}

        if self.soaking < 2 * SOAK_FIRST:
            raise SystemExit(f"soak: at least {2 * SOAK_FIRST} seconds")
        if self.has_daemon:
            self.rounds, rounds = 1, self.rounds
            self.measure(None, daemon, [
                (f"full load, {SOAK_KEPT} events kept: times the store turned over", "", "turns", 1, "≥1"),
                (f"full load: resident after {SOAK_FIRST} s", "MiB", "first", 1, ""),
                (f"full load: resident after {self.soaking:.0f} s", "MiB", "last", 1, ""),
                (f"full load: resident after {self.soaking:.0f} s over after {SOAK_FIRST} s", "", "grown", 1, "≤1.05")])
            self.rounds = rounds

    def startup(self) -> None:
        def ready(count: int) -> float:
            with self.fresh("daemon") as dir:
                daemon = Daemon(dir, build=self.build, args=("--log-level", "error"))
                for name, text in self.many(count).items():
                    (daemon.manifests / name).write_text(text)
                try:
                    begin = time.monotonic()
                    daemon.spawn()
                    while not daemon.ready():
                        assert daemon.process and daemon.process.poll() is None, daemon.output()
                        time.sleep(0.0005)
                    return (time.monotonic() - begin) * 1000
                finally:
                    daemon.close()

        self.measure(None, lambda: {"few": ready(10), "many": ready(MANY)}, [
            ("start to ready, 10 manifests", "ms", "few", 1, "≤50"),
            (f"start to ready, {MANY} manifests", "ms", "many", 1, "≤3000")])

    def edit(self) -> None:
        """From close(2) of one manifest among many, in a git work tree, to the changed trigger; the daemon's processor
        time for it; and `git status` there."""
        edits = 20

        def spent(d: Daemon) -> float:
            return self.processor(d) * 1e6

        def among(count: int) -> Callable[[], Figures]:
            def git(dir: Path, *args: str) -> None:
                subprocess.run(["git", "-C", str(dir), "-c", "user.name=n", "-c", "user.email=n@example.org", *args],
                               check=True, capture_output=True)

            def measure() -> Figures:
                with self.fresh("daemon") as dir, self.daemon(dir, self.many(count)) as d:
                    git(d.manifests, "init", "-q")
                    git(d.manifests, "add", "-A")
                    git(d.manifests, "commit", "-q", "-m", "all")
                    connection = UnixConnection(d.socket, 30)

                    def trigger(id: str) -> dict[str, Any]:
                        connection.request("GET", f"/api/v1/triggers/{id}")
                        return json.loads(connection.getresponse().read())

                    wait_for(lambda: trigger("t1")["source"]["dirty"] is False, 60)
                    live, cost, status = [], [], []
                    for i in range(edits):
                        id = f"t{(i * 7919 + 1) % count}"
                        time.sleep(0.3)  # what the last round left to do
                        text = documents(custom(id, "p", f"e{i}", cooldown_seconds=i + 1))
                        with open(d.manifests / f"{id}.yaml", "w") as f:
                            f.write(text)
                        begin = time.monotonic()
                        while trigger(id)["cooldown_seconds"] != i + 1:
                            time.sleep(0.002)
                        live.append(time.monotonic() - begin)
                        time.sleep(0.2)
                        before = spent(d)
                        (d.manifests / f"{id}.yaml").write_text(text + "# and nobody asks meanwhile\n")
                        time.sleep(0.4)
                        cost.append(spent(d) - before)
                        begin = time.monotonic()
                        git(d.manifests, "status", "--porcelain")
                        status.append(time.monotonic() - begin)
                    connection.close()
                    return {"live": statistics.median(live), "cost": statistics.median(cost),
                            "status": statistics.median(status)}
            return measure

        if not self.has_daemon or not shutil.which("git"):
            return
        figures = {}
        for count in (10, 1000, MANY):
            rounds = [among(count)() for _ in range(self.rounds)]
            f = figures[count] = {key: statistics.median(r[key] for r in rounds) for key in rounds[0]}
            for row in (Row(f"one edit among {count} manifests, close to live", "ms", None, f["live"] * 1000, "≤250"),
                        Row("  … beside git status in the same tree", "ms", f["status"] * 1000, f["live"] * 1000, ""),
                        Row("  … processor time of the daemon, beside 10 manifests", "µs", figures[10]["cost"], f["cost"],
                            "≤1.5" if count > 10 else "")):
                self.rows.append(row)
                self.show(row)

    @staticmethod
    def woken(d: Daemon, seconds: float) -> int:
        """How often one of its threads woke up in so many seconds of an idle machine."""
        def switches() -> int:
            texts = [p.read_text() for p in Path(f"/proc/{d.pid}/task").glob("*/status")]
            # Who wakes goes back to sleep of its own will; others that take the processor from it wake nobody.
            return sum(int(n) for t in texts for n in re.findall(r"^voluntary_ctxt_switches:\s+(\d+)", t, re.M))

        with open("/proc/self/mountinfo") as mounts:
            changes = select.poll()
            changes.register(mounts, select.POLLPRI)
            for _ in range(5):  # it looks at its directories when something is mounted: then it was not idle
                changes.poll(0)
                before = switches()
                time.sleep(seconds)
                found = switches() - before
                if not changes.poll(0):
                    break
                print("  something was mounted or unmounted meanwhile", flush=True)
        return found

    def idle(self) -> None:
        if not self.has_daemon:
            return
        with self.fresh("daemon") as dir:
            watched = dir / "watched"
            watched.mkdir()
            files = self.many(50)
            for i in range(50):
                files[f"f{i}.yaml"] = documents(file_watch(f"f{i}", watched / f"*.{i}"))
            with self.daemon(dir, files) as d:
                time.sleep(8)  # what was recorded at the start is looked at for retention once, after 5 s
                self.figure("wake-ups of all threads in 30 s, 100 triggers, idle", "", self.woken(d, 30), "≤0")
                if shutil.which("strace"):
                    done = subprocess.run(["timeout", "-s", "INT", "10", "strace", "-c", "-f", "-p", str(d.pid)],
                                          capture_output=True, text=True, check=False)
                    print("  strace over 10 s (attaching wakes each thread once):")
                    print("    " + "\n    ".join(line for line in done.stderr.splitlines() if "strace:" not in line))

    def match(self) -> None:
        program = self.build / "tests" / "bench_match"
        if not program.exists():
            print("match: no bench_match in the build")
            return
        def patterns() -> Figures:
            done = subprocess.run([str(program)], check=True, stdout=subprocess.PIPE, text=True)
            table, last = done.stdout.rstrip().rsplit("\n", 1)
            print("  " + table.replace("\n", "\n  "))
            return {f"{kind}_{key}": n for kind, figures in json.loads(last).items() for key, n in figures.items()}

        self.measure(None, patterns, [row for kind in ("plain", "mixed") for row in (
            (f"matching, {MANY} {kind} patterns", "1/s", f"{kind}_rate", 1, ""),
            (f"an event parsed and matched, {kind}: {MANY} patterns over 1", "", f"{kind}_parsed", 1, "≤2"),
            (f"a match alone, {kind}: {MANY} patterns over 1", "", f"{kind}_ratio", 1, "≤2"))])

    # -- mount --

    def files(self, mode: str, path: Path, threads: int, *text: str) -> Figures:
        done = subprocess.run([self.tool("load_mount"), mode, str(path), str(threads), str(self.seconds), *text],
                              capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"load_mount {mode} {path}: {done.stderr}")
        return json.loads(done.stdout)

    def mount(self) -> None:
        """Reads of status.json, verbs, a listing, and emits, over the mount."""
        size = 0.0

        def measured(file: Path, ctl: Path, verb: str, folder: Path) -> Figures:
            nonlocal size
            one = self.files("read", file, 1)
            size = one["bytes"]
            return {"read1": one["rate"], "read4": self.files("read", file, 4)["rate"],
                    "write": self.files("write", ctl, 1, verb)["rate"],
                    "list": self.files("list", folder, 1)["rate"]}

        def floor() -> Figures:
            with self.fresh("floor") as dir:
                with subprocess.Popen([self.tool("floor_mount"), str(dir), str(int(size or 1100)), str(TRIGGERS)],
                                      stdout=subprocess.PIPE, text=True) as process:
                    try:
                        assert process.stdout and process.stdout.readline() == "ready\n"
                        return measured(dir / "file", dir / "ctl", "{}", dir / "list")
                    finally:
                        process.terminate()
                        process.wait()

        def daemon() -> Figures:
            files = {"p.yaml": documents(pipeline("p", {"id": "s", "exec": {"command": ["/bin/true"]}})),
                     "t.yaml": documents(*(custom(f"t{i}", "p", f"e{i}") for i in range(TRIGGERS)))}
            with self.fresh("daemon") as dir, self.daemon(dir, files, mount=dir / "mount") as d:
                m = dir / "mount"
                return measured(m / "triggers/t500/status.json", m / "triggers/t500/test", "{}", m / "triggers")

        self.measure(floor, daemon, [
            ("mount: open-read-close of status.json, 1 reader", "1/s", "read1", 1, "≥0.8"),
            ("mount: open-read-close of status.json, 4 readers", "1/s", "read4", 1, "≥0.8"),
            ("mount: control writes (test)", "1/s", "write", 1, "≥0.7"),
            (f"mount: listings of {TRIGGERS} triggers", "1/s", "list", 1, "≥0.7")])

        def over_rest() -> Figures:
            with self.fresh("floor") as dir, self.daemon(dir, emitting) as d:
                d.post("/api/v1/triggers/t/pause")
                return self.load("--unix", str(d.socket), "-c", "4", "-s", str(self.seconds), "-p",
                                 "/api/v1/triggers/emit", "-b", json.dumps({"endpoint": "bench", "data": {"n": 1}}))

        def over_files() -> Figures:
            with self.fresh("daemon") as dir, self.daemon(dir, emitting, mount=dir / "mount") as d:
                d.post("/api/v1/triggers/t/pause")
                return self.files("write", dir / "mount/emit/bench", 4, '{"n": 1}')

        emitting = {"p.yaml": documents(pipeline("p", {"id": "s", "exec": {"command": ["/bin/true"]}}),
                                        custom("t", "p", "bench"))}
        if self.has_daemon:
            self.measure(over_rest, over_files, [
                ("mount: durable emits by 4 writers, over 4 unix connections", "1/s", "rate", 1, "≥0.5")])


    def rest(self) -> None:
        """GET of a trigger beside libmicrohttpd alone; many readers of the stream."""
        rest.rest(self)

    def lists(self) -> None:
        """A page of events by every filter, of few and of many."""
        rest.lists(self)

    def mcp(self) -> None:
        """What a server sends, recorded; steps that call its tools; many servers that say nothing."""
        mcp_rows.notifications(self)
        mcp_rows.calls(self)
        mcp_rows.idle(self)

    def validate(self) -> None:
        """triggerctl validate beside libyaml's events alone: processor time of the whole program over the same files."""
        with self.fresh("manifests") as dir:
            for i in range(MANY):
                folder = dir / f"{i // 500:02}"
                folder.mkdir(exist_ok=True)
                (folder / f"{i}.yaml").write_text(MANIFEST.replace("@", str(i)))

            def rate(*command: str | Path) -> Callable[[], Figures]:
                def run() -> Figures:
                    before = os.times()
                    done = subprocess.run([*command, dir], capture_output=True, text=True, check=False)
                    after = os.times()
                    if done.returncode or "warning" in done.stderr:
                        raise SystemExit(f"{command[0]}: {done.stdout[:500]}{done.stderr[:500]}")
                    spent = after.children_user + after.children_system - before.children_user - before.children_system
                    return {"rate": MANY / spent}
                return run

            self.measure(rate(self.tool("yaml_events")), rate(self.build / "triggerctl", "validate"), [
                (f"validate, {MANY} files of {len(MANIFEST)} bytes, beside libyaml's events", "1/s", "rate", 1, "≥0.3")])


def build(dir: Path) -> None:
    """Configure and build the release preset with the measuring tools."""
    subprocess.run(["cmake", "--preset", "release", "-B", str(dir), "-DTRIGGERD_BENCH=ON"], cwd=ROOT, check=True,
                   stdout=subprocess.DEVNULL)
    subprocess.run(["cmake", "--build", str(dir)], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def main() -> int:
    names = ["emit", "run", "exec", "worker", "pending", "output", "file", "memory", "startup", "edit", "idle", "match", "validate",
             "mount", "rest", "lists", "mcp", "rabbitmq", "redis", "kafka", "store", "soak"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {' '.join(names)} (default: all but the last two)")
    parser.add_argument("--build", type=Path, help="a build directory to take as it is")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--soak", type=float, default=300, metavar="SECONDS")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    options = parser.parse_args()
    wrong = set(options.names) - set(names)
    if wrong:
        parser.error(f"unknown: {' '.join(sorted(wrong))}")
    if options.build is None:
        options.build = ROOT / "build" / "release"
        build(options.build)
    options.build = options.build.resolve()
    bench = Bench(options)
    print(f"{'':<58} {'unit':>7} {'floor':>10} {'triggerd':>10} {'ratio':>7}  limit", flush=True)
    try:
        for name in names:
            if name in (options.names or names[:-2]):
                getattr(bench, name)()
    finally:
        shutil.rmtree(bench.dir, ignore_errors=True)
        if options.json:
            rows = [{**asdict(r), "ratio": r.ratio, "good": r.good} for r in bench.rows]
            options.json.write_text(json.dumps({"cpus": os.cpu_count(), "rows": rows}, indent=1) + "\n")
    return 1 if any(r.good is False for r in bench.rows) else 0


if __name__ == "__main__":
    sys.exit(main())
