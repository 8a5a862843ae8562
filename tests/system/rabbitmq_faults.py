#!/usr/bin/env python3
"""Messages through RabbitMQ while connections are cut, the server is killed and the daemon is killed, at random moments: what
is lost, and what comes twice.

    tests/system/rabbitmq_faults.py [--ids] [--ack auto|manual] [--messages 100000] [--cuts 50] [--broker-kills 20]
                                    [--daemon-kills 20]

With --ids each message has a message_id. Prints one line of JSON. Exit 1 where a message is lost, or made two events though it
has an id.
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
from brokers import Proxy, RabbitMQ, serve  # noqa: E402
from harness import Daemon, pipeline, script, wait_for  # noqa: E402

CHUNK = 100
BACKLOG = 2000
# A run without a process.
QUICK = pipeline("p", script("exit 1", **{"if": "$.inputs.never"}), outputs={})


def through_faults(root: Path, messages: int, cuts: int, broker_kills: int, daemon_kills: int, ids: bool = True,
                   ack: str = "auto", seed: int | None = None) -> dict[str, Any]:
    rng = random.Random(seed)
    begun = time.monotonic()
    with serve(RabbitMQ, root / "rabbitmq") as rabbit, Proxy(rabbit.port) as proxy:
        d = Daemon(root / "d", args=("--log-level", "warning"))
        config = {"queue_type": "rabbitmq", "connection_url": f"amqp://127.0.0.1:{proxy.port}", "queue_name": "q", "ack_mode": ack}
        rabbit.call("declare", "q")
        d.write("m.yaml", QUICK, {"kind": "trigger", "id": "t", "name": "t", "pipeline_id": "p",
                                  "trigger_type": "message_queue", "config": config, "max_concurrent": 32})
        d.start()

        def send(numbers: range) -> None:
            """What the server does not confirm before it is killed is sent again; so it may be there twice, with one id."""
            for n in numbers if ids else ():
                rabbit.call("publish", "q", str(n), message_id=f"id-{n}")
            if not ids:
                rabbit.call("publish", "q", *map(str, numbers))

        def kill_daemon() -> None:
            d.kill9()
            d.start()

        def ended() -> bool:
            states = ("pending", "executing")
            return (rabbit.call("count", "q") == 0 and
                    not any(d.get(f"/api/v1/triggers/events?status={s}&page_size=1")["total"] for s in states))

        faults: list[tuple[int, Callable[[], Any]]] = [
            (rng.randrange(messages), fault)
            for fault, count in ((proxy.cut, cuts), (lambda: rabbit.restart(kill=True), broker_kills),
                                 (kill_daemon, daemon_kills)) for _ in range(count)]
        faults.sort(key=lambda f: f[0])
        try:
            sent = 0
            while sent < messages:
                n = min(CHUNK, messages - sent)
                send(range(sent, sent + n))
                sent += n
                while faults and faults[0][0] < sent:
                    time.sleep(rng.random() * 0.2)
                    faults.pop(0)[1]()
                wait_for(lambda: rabbit.call("count", "q") < BACKLOG, 120, "messages are taken")
            wait_for(ended, 300, "every message is taken, every run has ended")
            # What is unacknowledged is in no count: it comes back when the daemon leaves.
            d.stop()
            left = rabbit.call("count", "q")
            d.start()
            wait_for(ended, 300, "what was left is taken")
            seen = Counter(e["event_data"]["body"] for e in d.events("t"))
        finally:
            d.close()
    return {"ids": ids, "ack": ack, "messages": messages, "cuts": cuts, "broker_kills": broker_kills,
            "daemon_kills": daemon_kills, "lost": sum(seen[i] == 0 for i in range(messages)),
            "doubles": sum(n - 1 for n in seen.values()), "strange": sum(k not in range(messages) for k in seen),
            "left_at_stop": left, "seconds": round(time.monotonic() - begun)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ids", action="store_true")
    parser.add_argument("--ack", choices=["auto", "manual"], default="auto")
    parser.add_argument("--messages", type=int, default=100000)
    parser.add_argument("--cuts", type=int, default=50)
    parser.add_argument("--broker-kills", type=int, default=20)
    parser.add_argument("--daemon-kills", type=int, default=20)
    parser.add_argument("--seed", type=int)
    o = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="rabbitmq-faults-", dir="/var/tmp") as root:
        found = through_faults(Path(root), o.messages, o.cuts, o.broker_kills, o.daemon_kills, o.ids, o.ack, o.seed)
    print(json.dumps(found))
    return 1 if found["lost"] or found["strange"] or (found["doubles"] and o.ids) else 0


if __name__ == "__main__":
    sys.exit(main())
