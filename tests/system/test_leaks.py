"""Runs that misbehave in every way, killed and cancelled at random: in the end no process, zombie or descriptor is left.

TRIGGERD_LEAK_RUNS says how many (some hundreds unless told; 20000 is the full measure), TRIGGERD_LEAK_SEED which.
"""
from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

from harness import Daemon, custom, pipeline, script, wait_for

RUNS = int(os.environ.get("TRIGGERD_LEAK_RUNS", "400"))
SEED = int(os.environ.get("TRIGGERD_LEAK_SEED", "1"))

# What a step does, and how often among a thousand. The last ones end by their time-out and a SIGKILL only.
WAYS: dict[str, tuple[int, str]] = {
    "plain": (300, "cat >/dev/null; echo 1"),
    "fails": (100, "echo sorry >&2; exit 3"),
    "dies": (100, "kill -KILL $$"),
    "unread": (80, "exec <&-; echo '\"not read\"'"),
    "mute": (80, "exec <&- >&- 2>&-; sleep 0.05"),
    "group": (80, "sleep 300 & sleep 300 >/dev/null 2>&1 & echo 1"),
    "session": (60, "setsid sleep 300 >/dev/null 2>&1 </dev/null & echo 1"),
    "double": (60, "(setsid sh -c 'sleep 300 & sleep 300 & wait' >/dev/null 2>&1 </dev/null &) & echo 1"),
    "holder": (20, "setsid sh -c 'trap \"\" TERM HUP INT; sleep 300' & echo 1"),
    "daemon": (40, "(setsid sh -c '(trap \"\" TERM HUP; cd /; exec sleep 300) &' </dev/null >/dev/null 2>&1 &); echo 1"),
    "slow": (60, "sleep 0.$((RANDOM_SEED % 5))"),
    "deaf": (10, "trap '' TERM; while :; do sleep 0.2; done"),
    "stopped": (10, "kill -STOP $$"),
}


def text_of(ways: dict[str, tuple[int, str]]) -> str:
    return "RANDOM_SEED=${INPUT_N}\ncase $INPUT_WAY in\n" + "".join(f"{w}) {t};;\n" for w, (_, t) in ways.items()) + "esac"


def descriptors(d: Daemon) -> Counter[str]:
    """Those that steps use: pipes and pidfds (others come and go with requests and reads of the store)."""
    kinds: Counter[str] = Counter()
    for entry in Path(f"/proc/{d.pid}/fd").iterdir():
        with suppress(OSError):
            target = os.readlink(entry)
            if target.startswith("pipe:") or "pidfd" in target:
                kinds[target.split(":")[0] if target.startswith("pipe") else "pidfd"] += 1
    return kinds


def zombies(d: Daemon) -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                state, parent = (entry / "stat").read_text().rsplit(")", 1)[1].split()[:2]
                if state == "Z" and int(parent) == d.pid:
                    found.append(entry.name)
    return found


def open_runs(d: Daemon) -> int:
    return sum(d.get(f"/api/v1/runs?status={s}&page_size=1")["total"] for s in ("pending", "running"))


def check_nothing_is_left(daemon: Daemon, more: dict[str, tuple[int, str]]) -> None:
    all_ways = {**WAYS, **more}
    r = random.Random(SEED)
    daemon.put("m.yaml", pipeline("p", script(text_of(all_ways), timeout_seconds=3), outputs={}),
               custom("t", max_concurrent=32, config={"input_mapping": {"way": "$.way", "n": "$.n", "big": "$.big"}}))
    daemon.fire("t", {"way": "plain", "n": 1})
    wait_for(lambda: not daemon.children())
    before = descriptors(daemon)
    emitted: Counter[str] = Counter()
    ways, weights = list(all_ways), [w for w, _ in all_ways.values()]
    for n in range(RUNS):
        way = r.choices(ways, weights)[0]
        emitted[way] += 1
        big = "x" * 200000 if way in ("unread", "dies", "mute") and r.random() < 0.3 else ""
        daemon.emit1("t", {"way": way, "n": n, "big": big})
        if n % 10 == 9:  # somebody kills processes of steps, somebody cancels runs
            for child in r.sample(children := daemon.children(), min(len(children), r.randrange(3))):
                with suppress(ProcessLookupError):
                    os.kill(child.pid, r.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV, signal.SIGSTOP]))
            running = daemon.get("/api/v1/runs?status=running&page_size=20")["runs"]
            for run in r.sample(running, min(len(running), r.randrange(2))):
                daemon.http("POST", f"/api/v1/runs/{run['id']}/cancel")
        while n % 100 == 99 and open_runs(daemon) > 1000:
            time.sleep(0.1)
    wait_for(lambda: open_runs(daemon) == 0, 60 + RUNS / 5, f"all of {emitted} ended")
    assert daemon.get("/api/v1/runs?page_size=1")["total"] == RUNS + 1
    wait_for(lambda: not daemon.children(), what="no process is left")
    wait_for(lambda: not zombies(daemon), what="no zombie is left")
    wait_for(lambda: descriptors(daemon) == before, what=f"the descriptors that were there: {before}")
    assert daemon.fire("t", {"way": "plain", "n": 1})["status"] == "completed"


def test_nothing_is_left_behind(daemon: Daemon) -> None:
    check_nothing_is_left(daemon, {})
