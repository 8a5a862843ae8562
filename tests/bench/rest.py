"""What bench.py measures of the REST view: `rest` (a trigger, over and over; many streams) and `lists` (pages of many events)."""
from __future__ import annotations

import itertools
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "system"))
from fill import COMMON, RARE, fill  # noqa: E402
from harness import Daemon, UnixConnection, custom, documents, pipeline  # noqa: E402

if TYPE_CHECKING:
    from bench import Bench, Figures

STREAMS = 1000
FEW, MANY = 10000, 1000000
PAGES = 20
STREAM = b"GET /api/v1/events/stream HTTP/1.1\r\nHost: x\r\n\r\n"


def spent(pid: int) -> float:
    """Seconds of processor time of a process."""
    return sum(int((task / "schedstat").read_text().split()[0]) for task in Path(f"/proc/{pid}/task").iterdir()) / 1e9


# ---- a trigger ----


def manifests() -> dict[str, str]:
    return {"m.yaml": documents(pipeline("p", {"id": "s", "exec": {"command": ["/bin/true"]}}),
                                *(custom(f"t{i}", "p", f"e{i}") for i in range(1000)))}


def trigger(bench: Bench) -> None:
    size = 0

    def load(socket_path: Path, pid: int) -> Figures:
        before = spent(pid)
        figures = bench.load("--unix", str(socket_path), "-c", "64", "-s", str(bench.seconds), "-m", "GET", "-p",
                             "/api/v1/triggers/t500")
        return {"rate": figures["rate"], "each": figures["requests"] / (spent(pid) - before)}

    def daemon() -> Figures:
        nonlocal size
        with bench.fresh("daemon") as dir, bench.daemon(dir, manifests()) as d:
            size = len(d.http("GET", "/api/v1/triggers/t500").body)
            return load(d.socket, d.pid)

    def floor() -> Figures:
        with bench.fresh("floor") as dir, subprocess.Popen([bench.tool("floor_http"), str(dir / "s"), str(size or 900)],
                                                          stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout and process.stdout.readline() == "ready\n"
                return load(dir / "s", process.pid)
            finally:
                process.terminate()

    bench.measure(floor, daemon, [
        ("GET /triggers/{id}, 64 connections, beside libmicrohttpd alone", "1/s", "rate", 1, "≥0.6"),
        ("  … for each second of the server's processor time", "1/s", "each", 1, "")])


# ---- streams ----


@contextmanager
def streams(d: Daemon, count: int) -> Iterator[list[socket.socket]]:
    with ExitStack() as stack:
        found = []
        for _ in range(count):
            s = stack.enter_context(socket.socket(socket.AF_UNIX))
            s.connect(str(d.socket))
            s.sendall(STREAM)
            found.append(s)
        for s in found:
            assert s.recv(4096).startswith(b"HTTP/1.1 200 ")
        yield found


def readers(bench: Bench) -> None:
    def emits(d: Daemon) -> float:
        """The daemon's processor time for an emit."""
        before, count = spent(d.pid), 5000
        bench.load("--unix", str(d.socket), "-c", "64", "-n", str(count), "-p", "/api/v1/triggers/emit", "-b",
                   json.dumps({"endpoint": "bench", "data": {"pad": "x" * 300}}))
        return (spent(d.pid) - before) * 1e6 / count

    def daemon() -> Figures:
        files = bench.recording()
        with bench.fresh("daemon") as dir, bench.daemon(dir, files) as d:
            d.post("/api/v1/triggers/t/pause")
            emits(d)
            alone = emits(d)
            time.sleep(1)
            threads, before = len(os.listdir(f"/proc/{d.pid}/task")), bench.resident(d)
            with streams(d, STREAMS):
                idle = bench.resident(d) - before
                more = len(os.listdir(f"/proc/{d.pid}/task")) - threads
                one = [emits(d) for _ in range(2)][1]  # nobody reads any more: after the first round their sockets are full
                stuck = bench.resident(d) - before
            return {"idle": idle / STREAMS, "threads": more, "slower": one / alone, "stuck": stuck / 1024}

    bench.measure(None, daemon, [
        (f"{STREAMS} readers of events/stream: resident each", "KiB", "idle", 1, "≤16"),
        (f"{STREAMS} readers of events/stream: threads more", "", "threads", 1, "≤0"),
        (f"an emit while {STREAMS} readers do not read: processor time, times", "", "slower", 1, "≤1.5"),
        (f"{STREAMS} readers that do not read: resident in all", "MiB", "stuck", 1, "≤64")])


def rest(bench: Bench) -> None:
    trigger(bench)
    if bench.has_daemon:
        readers(bench)


# ---- lists ----


def filters(count: int) -> list[dict[str, str]]:
    """Every pair of filters, each by a value that nearly all events have and one that hardly any has; with and without a time."""
    names = list(COMMON)
    plain = [dict(zip(chosen, values)) for n in range(3) for chosen in itertools.combinations(names, n)
             for values in itertools.product(*((COMMON[name], RARE[name]) for name in chosen))]
    last, half = f"{count // 600 // 100 or 1}m", f"{count // 1200}m"
    return plain + [{**f, **time} for f in plain for time in ({"since": last}, {"until": last}, {"since": half})]


def pages(bench: Bench, count: int) -> list[float]:
    """Microseconds of the daemon's processor time for a page of each filter."""
    with bench.fresh("daemon") as dir:
        settings = dir / "triggerd.yaml"
        settings.write_text(json.dumps({"retention": {"events": 2 * MANY}}))
        files = bench.recording()
        with bench.daemon(dir, files, settings=settings) as d:
            database = d.state / "triggerd.db"
        fill(database, count)
        with bench.daemon(dir, files, settings=settings) as d:
            connection = UnixConnection(d.socket, 30)
            times = []
            for f in filters(count):
                query = "&".join(f"{k}={v}" for k, v in f.items())
                for turn in range(PAGES + 2):
                    if turn == 2:  # what was read once is in memory
                        before = spent(d.pid)
                    connection.request("GET", f"/api/v1/triggers/events?{query}")
                    answer = connection.getresponse()
                    body = answer.read()
                    assert answer.status == 200, body
                times.append((spent(d.pid) - before) * 1e6 / PAGES)
            connection.close()
            return times


def lists(bench: Bench) -> None:
    """The same filters over few and over many events."""
    if not bench.has_daemon:
        return
    bench.rounds, rounds = 1, bench.rounds

    def both() -> Figures:
        few, many = pages(bench, FEW), pages(bench, MANY)
        asked = filters(MANY)
        timeless = [i for i, f in enumerate(asked) if "since" not in f and "until" not in f]
        timed = [i for i in range(len(asked)) if i not in timeless]
        slowest = max(range(len(asked)), key=lambda i: many[i])
        print(f"  the slowest over {MANY} events: {asked[slowest]} {many[slowest]:.0f} µs, over {FEW} {few[slowest]:.0f} µs",
              flush=True)
        return {"few": max(few[i] for i in timeless), "many": max(many[i] for i in timeless),
                "ratio": sum(many[i] for i in timeless) / sum(few[i] for i in timeless),
                "timed": sorted(many[i] for i in timed)[len(timed) // 2], "slowest": many[slowest]}

    bench.measure(None, both, [
        (f"GET /events, any filter over {FEW} events: the slowest page", "µs", "few", 1, ""),
        (f"GET /events, any filter over {MANY} events: the slowest page", "µs", "many", 1, "≤3000"),
        (f"GET /events, any filter: {MANY} events over {FEW}", "", "ratio", 1, "≤1.5"),
        (f"GET /events, a filter and a time over {MANY} events: median page", "µs", "timed", 1, "≤3000"),
        (f"GET /events, a filter and a time over {MANY} events: the slowest", "µs", "slowest", 1, "")])
    bench.rounds = rounds
