#!/usr/bin/env python3
"""Kill a loaded daemon with SIGKILL at random moments and look at what became of every event it acknowledged.

    crash.py [--kills 200] [--tree] [--seed N] [--dir DIR]

Checked at the end: no acknowledged event is lost, none has run to its end twice after its end was recorded, no two attempts
of one event overlapped or had one number, no process is left. With --tree the processes of the steps are killed as well, as a
power cut does.

A step that ran to its end twice is told by when it ended first: after the kill (nobody was there to record it), within the
5 ms that an end may wait for its record, or earlier.
"""
from __future__ import annotations

import argparse
import random
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from http.client import HTTPException
from pathlib import Path
from typing import Any

from harness import Daemon, custom, documents, pipeline, wait_for

WINDOW = 0.005  # seconds from a step's exit to its record

# Each attempt holds a lock directory while it lives: two at a time would show. A lock of a killed attempt is told from a
# live one by its process.
STEP = r"""
lock=$DIR/lock-$INPUT_KEY
if ! mkdir "$lock" 2>/dev/null; then
    read -r old < "$lock/pid" || old=0
    if [ "$old" != 0 ] && readlink "/proc/$old/exe" >/dev/null; then
        echo "overlap $INPUT_KEY $TRIGGERD_ATTEMPT $$ $old" >> "$LOG"
    fi
fi
echo $$ > "$lock/pid"
echo "start $INPUT_KEY $TRIGGERD_ATTEMPT $$" >> "$LOG"
sleep "0.0$INPUT_WAIT"
rm -r "$lock"
echo "end $INPUT_KEY $TRIGGERD_ATTEMPT $$ $EPOCHREALTIME" >> "$LOG"
"""


class Load:
    """Emits with an idempotency key each, again until it is acknowledged, over lives of the daemon."""

    def __init__(self, daemon: Daemon, threads: int = 3) -> None:
        self.daemon = daemon
        self.acknowledged: dict[str, str] = {}  # key: event
        self.stop = threading.Event()
        self.lock = threading.Lock()
        self.failure: str | None = None
        self.threads = [threading.Thread(target=self._work, args=(n,), daemon=True) for n in range(threads)]
        for t in self.threads:
            t.start()

    def _work(self, thread: int) -> None:
        n = 0
        while not self.stop.is_set():
            key = f"{thread}-{n}"
            body = {"endpoint": "t" if n % 2 else "u", "data": {"key": key, "wait": n % 10}}
            try:
                answer = self.daemon.http("POST", "/api/v1/triggers/emit", body, {"Idempotency-Key": key}, timeout=20)
            except (OSError, HTTPException):
                time.sleep(0.02)
                continue
            if answer.status in (429, 503):
                time.sleep(0.05)
                continue
            if answer.status != 200:
                self.failure = f"{answer.status}: {answer.body!r}"
                return
            with self.lock:
                self.acknowledged[key] = answer.json()["events"][0]["id"]
            n += 1
            time.sleep(0.005)

    def end(self) -> None:
        self.stop.set()
        for t in self.threads:
            t.join()
        assert self.failure is None, self.failure


def see_ends(daemon: Daemon, log: Path, seen: Counter[str]) -> None:
    """For events whose end is recorded: how often their step has run to its end until now."""
    fresh = {e["event_data"]["key"] for page in (1, 2) for e in
             daemon.get(f"/api/v1/triggers/events?status=completed&page={page}&page_size=100")["events"]} - seen.keys()
    ends = count_ends(log.read_text().splitlines()) if fresh else Counter()
    seen.update({key: ends[key] for key in fresh})


def count_ends(lines: list[str]) -> Counter[str]:
    return Counter(line.split()[1] for line in lines if line.startswith("end "))


def crash(root: Path, kills: int, tree: bool = False, seed: int = 1, tell: bool = False) -> dict[str, Any]:
    rng = random.Random(seed)
    daemon = Daemon(root / "crash")
    log = daemon.data / "log"
    mapping = {"input_mapping": {"key": "$.key", "wait": "$.wait"}}
    env = {"LOG": str(log), "DIR": str(daemon.data)}
    step = {"id": "s", "exec": {"command": ["/bin/bash", "-euc", STEP], "env": env}}
    daemon.write("m.yaml", documents(
        pipeline("p", step), custom("t", config=mapping, queue_limit=200, max_interruptions=1000000),
        custom("u", config=mapping, queue_limit=200, max_concurrent=4, max_interruptions=1000000)))
    try:
        daemon.start()
        load = Load(daemon)
        seen: Counter[str] = Counter()
        gaps: list[tuple[float, float]] = []  # from when to when there was no daemon
        for n in range(kills):
            before = len(load.acknowledged)
            time.sleep(rng.uniform(0.05, 1.0))
            if rng.random() < 0.3:
                wait_for(lambda b=before: len(load.acknowledged) > b, 30, "some progress in between")
            see_ends(daemon, log, seen)
            time.sleep(0.02)  # what is seen completed is recorded
            daemon.kill_tree() if tree else daemon.kill9()
            daemon.start(60)
            gaps.append((daemon.killed_at, time.time()))
            if tell:
                print(f"{n + 1}/{kills}: {len(load.acknowledged)} acknowledged, {len(seen)} seen completed", flush=True)
        load.end()
        events = daemon.settle(timeout=120)
        wait_for(lambda: not daemon.children(), 10, "no process left")
        return judge(load, events, log.read_text().splitlines(), seen) | repeats(log.read_text().splitlines(), gaps)
    finally:
        daemon.close()


def repeats(lines: list[str], gaps: list[tuple[float, float]]) -> dict[str, Any]:
    """Why steps ran to their end twice: when did they end before the end that counted?"""
    ends: dict[str, list[float]] = defaultdict(list)
    for line in lines:
        if line.startswith("end "):
            ends[line.split()[1]].append(float(line.split()[4]))
    after, waits = 0, []
    for times in ends.values():
        for at in sorted(times)[:-1]:
            gap = next((g for g in gaps if at <= g[1]), None)
            assert gap is not None, "a step ran again in one life of the daemon"
            if at >= gap[0]:
                after += 1
            else:
                waits.append(gap[0] - at)
    within = sum(w <= WINDOW for w in waits)
    return {"ran_to_the_end_twice": after + len(waits), "ended_after_the_kill": after, "ended_in_the_window": within,
            "ended_earlier": len(waits) - within, "longest_before_ms": round(max(waits, default=0) * 1000, 1),
            "all_ends_in_a_window": sum(0 <= g[0] - t <= WINDOW for g in gaps for times in ends.values() for t in times)}


def judge(load: Load, events: list[dict[str, Any]], lines: list[str], seen: Counter[str]) -> dict[str, Any]:
    by_key: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for e in events:
        by_key[e["event_data"]["key"]].append(e)
    lost = [k for k, id in load.acknowledged.items() if id not in {e["id"] for e in by_key[k]}]
    assert not lost, f"acknowledged and lost: {lost}"
    doubled = [k for k, es in by_key.items() if len(es) > 1]
    assert not doubled, f"one key, two events: {doubled}"
    open_or_bad = [e for e in events if e["status"] != "completed"]
    assert not open_or_bad, f"not completed: {open_or_bad[:3]}"
    ends = count_ends(lines)
    never_ran = [k for k in by_key if not ends[k]]
    assert not never_ran, f"completed without having run: {never_ran}"
    starts = Counter(tuple(line.split()[1:3]) for line in lines if line.startswith("start "))
    shared = [key for key, n in starts.items() if n > 1]
    assert not shared, f"two attempts of one number: {shared}"
    overlaps = [line for line in lines if line.startswith("overlap ")]
    assert not overlaps, f"two attempts at a time: {overlaps}"
    # Once its end was seen recorded, a step must not run again; before, it may (at least once).
    again = [k for k, n in seen.items() if ends[k] > n]
    assert not again, f"run again after its recorded end: {again}"
    return {"acknowledged": len(load.acknowledged), "events": len(events), "interrupted": sum(
        e["attempt"] > 1 for e in events)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--tree", action="store_true")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--dir", type=Path, default=None)
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.randrange(1 << 31)
    print(f"seed {seed}", flush=True)
    with tempfile.TemporaryDirectory(dir=options.dir) as where:
        print(crash(Path(where), options.kills, options.tree, seed, tell=True))
    return 0


if __name__ == "__main__":
    sys.exit(main())
