"""A server that does everything wrong, from a seed: its connection always comes back, and every event that it sent whole is
recorded, once and in order."""
from __future__ import annotations

import json
import os
import sys
from collections import Counter
from typing import Any

from harness import Daemon, documents, wait_for
from test_mcp import listener

SEED = int(os.environ.get("TRIGGERD_TEST_SEED", "1"))
FAULTS = 10_000
LIVES = 6

SERVER = r'''
import json, os, random, sys, time
place, seed, faults, lives = sys.argv[1], *map(int, sys.argv[2:5])
state = json.load(open(place)) if os.path.exists(place) else {"life": 0, "next": 0, "faults": 0, "kinds": {}}
state["life"] += 1
rng = random.Random(seed * 1000 + state["life"])
out = sys.stdout.buffer

def send(o):
    out.write(json.dumps({"jsonrpc": "2.0", **o}).encode() + b"\n")

for line in sys.stdin:
    m = json.loads(line)
    if m.get("method") == "initialize":
        send({"id": m["id"], "result": {"protocolVersion": m["params"]["protocolVersion"], "capabilities": {},
                                        "serverInfo": {"name": "faulty", "version": "1"}}})
        out.flush()
    if m.get("method") == "notifications/initialized":
        break

KINDS = {
    "garbage": lambda: out.write(bytes(rng.choice(b"abc{}[]\",:\\ \t\x00\xff") for _ in range(rng.randrange(200))) + b"\n"),
    "half": lambda: out.write(b'{"jsonrpc": "2.0", "method": "notifications/row_inser\n'),
    "bad utf-8": lambda: out.write(b'{"jsonrpc": "2.0", "method": "notifications/row_inserted", "params": {"i": "\xff"}}\n'),
    "twice": lambda: out.write(b'{"jsonrpc": "2.0", "jsonrpc": "2.0", "method": "notifications/row_inserted"}\n'),
    "deep": lambda: out.write(b"[" * 5000 + b"\n"),
    "unknown id": lambda: send({"id": rng.randrange(10**6), "result": {}}),
    "answered again": lambda: send({"id": 1, "result": {"protocolVersion": "1"}}),
    "odd id": lambda: send({"id": {"a": 1}, "result": {}}),
    "both": lambda: send({"id": 5, "result": {}, "error": {}}),
    "asks": lambda: send({"id": rng.randrange(100), "method": rng.choice(["ping", "roots/list", "sampling/createMessage", "x"])}),
    "batch": lambda: out.write(b'[{"jsonrpc": "2.0", "method": "notifications/row_inserted", "params": {}}]\n'),
    "empty": lambda: out.write(b"\n\r\n"),
    "params": lambda: send({"method": "notifications/row_inserted", "params": [1]}),
    "long": lambda: out.write(b"x" * 300000 + b"\n"),
    "complains": lambda: (sys.stderr.write("oh no\n"), sys.stderr.flush()),
}
per_life = faults // lives
for n in range(per_life):
    kind = rng.choice(list(KINDS))
    KINDS[kind]()
    state["kinds"][kind] = state["kinds"].get(kind, 0) + 1
    state["faults"] += 1
    if rng.random() < 0.2:
        send({"method": "notifications/row_inserted", "params": {"i": state["next"]}})
        out.flush()
        state["next"] += 1
out.flush()
if state["life"] < lives:
    out.write(b'{"jsonrpc": "2.0", "method": "notifications/row_inserted", "params": {"i": -1}}')  # not whole
    out.flush()
state["done"] = state["life"] >= lives
json.dump(state, open(place + ".new", "w"))
os.rename(place + ".new", place)
if state["life"] < lives:
    os.kill(os.getpid(), 9)
for line in sys.stdin:
    pass
'''


def test_faults(daemon: Daemon) -> None:
    place, script = daemon.data / "state.json", daemon.data / "faulty.py"
    script.write_text(SERVER)
    server: dict[str, Any] = {"kind": "mcp_server", "name": "database", "command": sys.executable,
                              "args": [str(script), str(place), str(SEED), str(FAULTS), str(LIVES)]}
    pipeline = {"kind": "pipeline", "id": "p", "steps": [{"id": "s", "emit": {"endpoint": "nobody"}}]}
    done = daemon.ctl("apply", daemon.write("mcp.yaml", documents(server, listener(), pipeline)))
    assert done.returncode == 0, done.stdout + done.stderr
    state = wait_for(lambda: place.exists() and (s := json.loads(place.read_text())).get("done") and s, 120, "all lives lived")
    assert state["faults"] >= FAULTS - LIVES
    wait_for(lambda: daemon.trigger("orders")["trigger_count"] >= state["next"], 60, f"{state['next']} events")
    seen = [e["event_data"]["i"] for e in daemon.settle("orders", 60)]
    assert seen == list(range(state["next"])), Counter(seen).most_common(3)
    wait_for(lambda: daemon.trigger("orders")["status"] == "active")
