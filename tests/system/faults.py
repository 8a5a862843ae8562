"""What the programs *_faults.py have in common: one trigger at a queue whose runs are no processes, messages sent while
connections are cut and the server and the daemon are killed at random moments, and what became of each message. A
message's body is its number."""
from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness import Daemon, pipeline, script, wait_for

TRIGGER = "t"


def watching(root: Path, **config: Any) -> Daemon:
    """A daemon, not yet started, with a trigger at the queue that `config` names."""
    d = Daemon(root / "d", args=("--log-level", "warning"))
    d.write("m.yaml", pipeline("p", script("exit 1", **{"if": "$.inputs.never"}), outputs={}),
            {"kind": "trigger", "id": TRIGGER, "name": TRIGGER, "pipeline_id": "p", "trigger_type": "message_queue",
             "config": config, "max_concurrent": 32})
    return d


def send(d: Daemon, messages: int, chunk: int, put: Callable[[range], Any], keeps_up: Callable[[int], bool],
         faults: list[tuple[Callable[[], Any], int]], daemon_kills: int, seed: int | None) -> None:
    """Put them in chunks; each fault comes so many times, at random moments. `keeps_up(sent)`: few enough wait."""
    rng = random.Random(seed)

    def kill_daemon() -> None:
        d.kill9()
        d.start()

    plan = sorted(((rng.randrange(messages), fault) for fault, count in [*faults, (kill_daemon, daemon_kills)]
                   for _ in range(count)), key=lambda f: f[0])
    sent = 0
    while sent < messages:
        n = min(chunk, messages - sent)
        put(range(sent, sent + n))
        sent += n
        while plan and plan[0][0] < sent:
            time.sleep(rng.random() * 0.2)
            plan.pop(0)[1]()
        wait_for(lambda: keeps_up(sent), 180, "messages are taken")


def open_events(d: Daemon) -> int:
    """Events that wait or run."""
    return sum(int(d.get(f"/api/v1/triggers/events?status={s}&page_size=1")["total"]) for s in ("pending", "executing"))


def outcome(d: Daemon, messages: int, begun: float, **more: Any) -> dict[str, Any]:
    """Of events that are all there. `begun`: monotonic."""
    seen = Counter(e["event_data"]["body"] for e in d.events(TRIGGER))
    return {**more, "messages": messages, "lost": sum(seen[i] == 0 for i in range(messages)),
            "doubles": sum(n - 1 for n in seen.values()), "strange": sum(k not in range(messages) for k in seen),
            "seconds": round(time.monotonic() - begun)}


def main(doc: str, run: Callable[[Path, argparse.Namespace], dict[str, Any]],
         may_double: Callable[[argparse.Namespace], bool], *more: tuple[str, dict[str, Any]], ack: bool = True) -> None:
    """Prints the outcome as a line of JSON; exit 1 where it is wrong."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, options in more:
        parser.add_argument(name, **options)
    if ack:
        parser.add_argument("--ack", choices=["auto", "manual"], default="auto")
    for name, default in (("--messages", 100000), ("--cuts", 50), ("--broker-kills", 20), ("--daemon-kills", 20)):
        parser.add_argument(name, type=int, default=default)
    parser.add_argument("--seed", type=int)
    o = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="faults-", dir="/var/tmp") as root:
        found = run(Path(root), o)
    print(json.dumps(found))
    sys.exit(1 if found["lost"] or found["strange"] or (found["doubles"] and not may_double(o)) else 0)
