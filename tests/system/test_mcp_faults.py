"""Servers that do everything wrong, from a seed: the connection always comes back, and every event that they sent whole
is recorded, once and in order. TRIGGERD_TEST_FAULTS faults each, where that is set."""
from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from typing import Any

from harness import Daemon, documents, pipeline, wait_for
from mcp_faults import ANSWERS, SPOKEN, STREAM_ENDS, FaultyHttp
from test_mcp import connected, listener, run

import mcp_faults

SEED = int(os.environ.get("TRIGGERD_TEST_SEED", "1"))
FAULTS = int(os.environ.get("TRIGGERD_TEST_FAULTS", "0"))
LIVES = 6
QUIET = {"kind": "pipeline", "id": "p", "steps": [{"id": "s", "emit": {"endpoint": "nobody"}}]}
CALL = pipeline("t", {"id": "s", "mcp": {"server": "database", "tool": "echo", "arguments": {"n": "{{ $.inputs.n }}"}}})


def put(daemon: Daemon, *docs: dict[str, Any]) -> None:
    done = daemon.ctl("apply", daemon.write("mcp.yaml", documents(*docs, QUIET)))
    assert done.returncode == 0, done.stdout + done.stderr


def seen(daemon: Daemon, trigger: str, n: int) -> list[int]:
    wait_for(lambda: daemon.trigger(trigger)["trigger_count"] >= n, 60, f"{n} events of {trigger}")
    return [e["event_data"]["i"] for e in daemon.settle(trigger, 60)]


def test_faults(daemon: Daemon) -> None:
    place, faults = daemon.data / "state.json", FAULTS or 10_000
    server = {"kind": "mcp_server", "name": "database", "command": sys.executable,
              "args": [mcp_faults.__file__, str(place), str(SEED), str(faults), str(LIVES)]}
    put(daemon, server, listener())
    state = wait_for(lambda: place.exists() and (s := json.loads(place.read_text())).get("done") and s, 120, "all lives lived")
    assert state["faults"] >= faults - LIVES
    assert seen(daemon, "orders", state["next"]) == list(range(state["next"]))
    wait_for(lambda: daemon.trigger("orders")["status"] == "active")


def test_faults_over_http(daemon: Daemon) -> None:
    peer = FaultyHttp(SEED, FAULTS or 600)
    put(daemon, {"kind": "mcp_server", "name": "database", "url": peer.url, "timeout_seconds": 1}, listener(),
        listener("posted", "row_posted"), CALL)
    asked: dict[str, int] = {}  # runs that are not over, and their n
    ends: Counter[str] = Counter()
    told, began = 0, time.monotonic()

    def look() -> None:
        for id, n in list(asked.items()):
            done = daemon.run(id)
            if done["status"] in ("completed", "failed"):
                assert done["status"] == "failed" or done["outputs"]["out"] == {"n": n}
                ends[done["status"]] += 1
                del asked[id]

    def go_on() -> bool:
        nonlocal told
        while len(asked) < 4:
            told += 1
            asked[run(daemon, "t", n=told)] = told
        look()
        return not peer.left()

    wait_for(go_on, 120 + (FAULTS or 600) / 10, "all faults")
    peer.calm_down()
    wait_for(lambda: look() or not asked, what="each call is over")

    def works() -> bool:
        asked[run(daemon, "t", n=0)] = 0
        before = ends["completed"]
        wait_for(lambda: look() or not asked)
        return ends["completed"] > before

    wait_for(works, what="calls are answered again")
    connected(daemon)
    at = peer.events
    wait_for(lambda: peer.events > at, what="events come again")
    peer.quiet = True
    print(f"{sum(peer.kinds.values())} faults: {dict(peer.kinds)}; {peer.n_sessions} sessions, {peer.events} + {len(peer.posted)} "
          f"events, {dict(ends)}, {time.monotonic() - began:.0f} s")
    time.sleep(0.1)
    assert seen(daemon, "orders", peer.events) == list(range(peer.events))
    assert sorted(seen(daemon, "posted", len(peer.posted))) == sorted(peer.posted)
    assert set(peer.kinds) >= {*SPOKEN, *(f"stream: {k}" for k in STREAM_ENDS), *(f"answer: {k}" for k in ANSWERS)}
    peer.close()
