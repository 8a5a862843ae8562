#!/usr/bin/env python3
"""Messages through Redis while connections are cut, the server is killed and the daemon is killed, at random moments: what is
lost, and what comes twice.

    tests/system/redis_faults.py --mode list|stream [--messages 100000] [--cuts 50] [--broker-kills 20] [--daemon-kills 20]

Prints one line of JSON. Exit 1 where a message is lost, or came twice though it has an identity (streams).
"""
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

sys.path.insert(0, str(Path(__file__).parent))
from brokers import Proxy, Redis, serve  # noqa: E402
from harness import Daemon, pipeline, script, wait_for  # noqa: E402

CHUNK = 50
BACKLOG = 1000
# A run without a process.
QUICK = pipeline("p", script("exit 1", **{"if": "$.inputs.never"}), outputs={})


def through_faults(root: Path, mode: str, messages: int, cuts: int, broker_kills: int, daemon_kills: int, ack: str = "auto",
                   seed: int | None = None) -> dict[str, Any]:
    rng = random.Random(seed)
    begun = time.monotonic()
    with serve(Redis, root / "redis") as redis, Proxy(redis.port) as proxy:
        d = Daemon(root / "d", args=("--log-level", "warning"))
        config = {"queue_type": "redis", "connection_url": f"redis://127.0.0.1:{proxy.port}", "queue_name": "q",
                  "redis_mode": mode, "ack_mode": ack,
                  **({"start": "earliest", "claim_idle_seconds": 2} if mode == "stream" else {})}
        d.write("m.yaml", QUICK, {"kind": "trigger", "id": "t", "name": "t", "pipeline_id": "p",
                                  "trigger_type": "message_queue", "config": config, "max_concurrent": 32})
        d.start()

        def waiting() -> int:
            if mode == "list":
                return redis.call("LLEN", "q") + redis.call("LLEN", f"q:triggerd:{d.node_id()}:t")
            groups = [dict(zip(g[::2], g[1::2])) for g in redis.call("XINFO", "GROUPS", "q")] if redis.call("EXISTS", "q") else []
            return sum((g.get(b"lag") or 0) + g[b"pending"] for g in groups) if groups else redis.call("XLEN", "q")

        def kill_daemon() -> None:
            d.kill9()
            d.start()

        faults: list[tuple[int, Callable[[], Any]]] = [
            (rng.randrange(messages), fault)
            for fault, count in ((proxy.cut, cuts), (lambda: redis.restart(kill=True), broker_kills),
                                 (kill_daemon, daemon_kills)) for _ in range(count)]
        faults.sort(key=lambda f: f[0])
        try:
            sent = 0
            while sent < messages:
                n = min(CHUNK, messages - sent)
                if mode == "list":
                    redis.call("RPUSH", "q", *range(sent, sent + n))
                else:
                    for i in range(sent, sent + n):
                        redis.call("XADD", "q", "*", "body", i)
                sent += n
                while faults and faults[0][0] < sent:
                    time.sleep(rng.random() * 0.2)
                    faults.pop(0)[1]()
                wait_for(lambda: waiting() < BACKLOG, 120, "messages are taken")
            wait_for(lambda: waiting() == 0, 120, "every message is taken")
            wait_for(lambda: d.get("/api/v1/triggers/events?status=pending&page_size=1")["total"] == 0 and
                     d.get("/api/v1/triggers/events?status=executing&page_size=1")["total"] == 0, 300, "every run has ended")
            seen = Counter(e["event_data"]["body"] for e in d.events("t"))
        finally:
            d.close()
    return {"mode": mode, "ack": ack, "messages": messages, "cuts": cuts, "broker_kills": broker_kills,
            "daemon_kills": daemon_kills, "lost": sum(seen[i] == 0 for i in range(messages)),
            "doubles": sum(n - 1 for n in seen.values()), "strange": sum(k not in range(messages) for k in seen),
            "seconds": round(time.monotonic() - begun)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mode", choices=["list", "stream"], default="list")
    parser.add_argument("--ack", choices=["auto", "manual"], default="auto")
    parser.add_argument("--messages", type=int, default=100000)
    parser.add_argument("--cuts", type=int, default=50)
    parser.add_argument("--broker-kills", type=int, default=20)
    parser.add_argument("--daemon-kills", type=int, default=20)
    parser.add_argument("--seed", type=int)
    o = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="redis-faults-", dir="/var/tmp") as root:
        found = through_faults(Path(root), o.mode, o.messages, o.cuts, o.broker_kills, o.daemon_kills, o.ack, o.seed)
    print(json.dumps(found))
    return 1 if found["lost"] or found["strange"] or (found["doubles"] and o.mode == "stream") else 0


if __name__ == "__main__":
    sys.exit(main())
