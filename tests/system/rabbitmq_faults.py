#!/usr/bin/env python3
"""Messages through RabbitMQ while connections are cut, the server is killed and the daemon is killed, at random moments: what
is lost, and what comes twice.

    tests/system/rabbitmq_faults.py [--ids] [--ack auto|manual] [--messages 100000] [--cuts 50] [--broker-kills 20]
                                    [--daemon-kills 20]

With --ids each message has a message_id. Prints one line of JSON. Exit 1 where a message is lost, or made two events though it
has an id.
"""
from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import faults  # noqa: E402
from brokers import Proxy, RabbitMQ, serve  # noqa: E402
from harness import wait_for  # noqa: E402

CHUNK = 100
BACKLOG = 2000


def through_faults(root: Path, messages: int, cuts: int, broker_kills: int, daemon_kills: int, ids: bool = True,
                   ack: str = "auto", seed: int | None = None) -> dict[str, Any]:
    begun = time.monotonic()
    with serve(RabbitMQ, root / "rabbitmq") as rabbit, Proxy(rabbit.port) as proxy:
        rabbit.call("declare", "q")
        d = faults.watching(root, queue_type="rabbitmq", connection_url=f"amqp://127.0.0.1:{proxy.port}", queue_name="q",
                            ack_mode=ack)

        def put(numbers: range) -> None:
            """What the server does not confirm before it is killed is sent again; so it may be there twice, with one id."""
            for n in numbers if ids else ():
                rabbit.call("publish", "q", str(n), message_id=f"id-{n}")
            if not ids:
                rabbit.call("publish", "q", *map(str, numbers))

        def ended() -> bool:
            return rabbit.call("count", "q") == 0 and faults.open_events(d) == 0

        try:
            d.start()
            faults.send(d, messages, CHUNK, put, lambda _: rabbit.call("count", "q") < BACKLOG,
                        [(proxy.cut, cuts), (lambda: rabbit.restart(kill=True), broker_kills)], daemon_kills, seed)
            wait_for(ended, 300, "every message is taken, every run has ended")
            # What is unacknowledged is in no count: it comes back when the daemon leaves.
            d.stop()
            left = rabbit.call("count", "q")
            d.start()
            wait_for(ended, 300, "what was left is taken")
            return faults.outcome(d, messages, begun, ids=ids, ack=ack, cuts=cuts, broker_kills=broker_kills,
                                  daemon_kills=daemon_kills, left_at_stop=left)
        finally:
            d.close()


if __name__ == "__main__":
    faults.main(__doc__ or "", lambda root, o: through_faults(root, o.messages, o.cuts, o.broker_kills, o.daemon_kills, o.ids,
                                                              o.ack, o.seed),
                lambda o: not o.ids, ("--ids", {"action": "store_true"}))
