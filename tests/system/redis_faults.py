#!/usr/bin/env python3
"""Messages through Redis while connections are cut, the server is killed and the daemon is killed, at random moments: what is
lost, and what comes twice.

    tests/system/redis_faults.py --mode list|stream [--ack auto|manual] [--messages 100000] [--cuts 50] [--broker-kills 20]
                                 [--daemon-kills 20]

Prints one line of JSON. Exit 1 where a message is lost, or came twice though it has an identity (streams).
"""
from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import faults  # noqa: E402
from brokers import Proxy, Redis, serve  # noqa: E402
from harness import wait_for  # noqa: E402

CHUNK = 50
BACKLOG = 1000


def through_faults(root: Path, mode: str, messages: int, cuts: int, broker_kills: int, daemon_kills: int, ack: str = "auto",
                   seed: int | None = None) -> dict[str, Any]:
    begun = time.monotonic()
    with serve(Redis, root / "redis") as redis, Proxy(redis.port) as proxy:
        stream = {"start": "earliest", "claim_idle_seconds": 2} if mode == "stream" else {}
        d = faults.watching(root, queue_type="redis", connection_url=f"redis://127.0.0.1:{proxy.port}", queue_name="q",
                            redis_mode=mode, ack_mode=ack, **stream)

        def waiting() -> int:
            if mode == "list":
                return redis.call("LLEN", "q") + redis.call("LLEN", f"q:triggerd:{d.node_id()}:t")
            if not redis.call("EXISTS", "q"):
                return 0
            groups = [dict(zip(g[::2], g[1::2])) for g in redis.call("XINFO", "GROUPS", "q")]
            if not groups:
                return int(redis.call("XLEN", "q"))
            # After a restart the server may not know its lag: it is counted.
            unread = redis.call("XRANGE", "q", "(" + groups[0][b"last-delivered-id"].decode(), "+")
            return len(unread) + int(groups[0][b"pending"])

        def put(numbers: range) -> None:
            if mode == "list":
                redis.call("RPUSH", "q", *numbers)
            else:
                for i in numbers:
                    redis.call("XADD", "q", "*", "body", i)

        try:
            d.start()
            faults.send(d, messages, CHUNK, put, lambda _: waiting() < BACKLOG,
                        [(proxy.cut, cuts), (lambda: redis.restart(kill=True), broker_kills)], daemon_kills, seed)
            wait_for(lambda: waiting() == 0, 120, "every message is taken")
            wait_for(lambda: faults.open_events(d) == 0, 300, "every run has ended")
            return faults.outcome(d, messages, begun, mode=mode, ack=ack, cuts=cuts, broker_kills=broker_kills,
                                  daemon_kills=daemon_kills)
        finally:
            d.close()


if __name__ == "__main__":
    faults.main(__doc__ or "", lambda root, o: through_faults(root, o.mode, o.messages, o.cuts, o.broker_kills, o.daemon_kills,
                                                              o.ack, o.seed),
                lambda o: o.mode == "list", ("--mode", {"choices": ["list", "stream"], "default": "list"}))
