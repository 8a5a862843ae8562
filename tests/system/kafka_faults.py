#!/usr/bin/env python3
"""Messages through Kafka while connections are cut, the server is killed and the daemon is killed, at random moments: what is
lost, and what comes twice.

    tests/system/kafka_faults.py [--messages 100000] [--cuts 50] [--broker-kills 20] [--daemon-kills 20] [--ack auto|manual]

Prints one line of JSON. Exit 1 where a message is lost or came twice.
"""
from __future__ import annotations

import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import faults  # noqa: E402
from brokers import Kafka, Proxy  # noqa: E402
from harness import wait_for  # noqa: E402

CHUNK = 50
BACKLOG = 1000
PARTITIONS = 3


def through_faults(root: Path, messages: int, cuts: int, broker_kills: int, daemon_kills: int, ack: str = "auto",
                   seed: int | None = None) -> dict[str, Any]:
    begun = time.monotonic()
    server = Kafka(root / "kafka")
    with Proxy(server.port) as proxy:
        server.advertised = proxy.port
        d = faults.watching(root, queue_type="kafka", connection_url=f"kafka://127.0.0.1:{proxy.port}", queue_name="q",
                            start="earliest", ack_mode=ack,
                            options={"session.timeout.ms": 3000, "heartbeat.interval.ms": 500})
        try:
            server.start()
            client = server.client()
            client.create("q", PARTITIONS)
            d.start()

            def taken() -> int:
                return int(d.get("/api/v1/triggers/t/events?page_size=1")["total"])

            def put(numbers: range) -> None:
                for i in numbers:
                    client.produce("q", str(i), partition=i % PARTITIONS)
                client.flush(120)

            faults.send(d, messages, CHUNK, put, lambda sent: taken() > sent - BACKLOG,
                        [(proxy.cut, cuts), (lambda: server.restart(kill=True), broker_kills)], daemon_kills, seed)
            # Our own producer may have repeated itself over a cut: what the log holds is what counts.
            held = Counter(int(r.value or b"-1") for r in client.read("q", PARTITIONS))
            wait_for(lambda: taken() >= sum(held.values()), 180, "every message is taken")
            d.settle("t", 300)
            repeated = sum(held.values()) - len(held)
            found = faults.outcome(d, messages, begun, ack=ack, cuts=cuts, broker_kills=broker_kills,
                                   daemon_kills=daemon_kills, repeated_by_the_test=repeated)
            seen = Counter(e["event_data"]["body"] for e in d.events("t"))
            return {**found, "doubles": sum((seen - held).values())}
        finally:
            d.close()
            server.close()


if __name__ == "__main__":
    faults.main(__doc__ or "", lambda root, o: through_faults(root, o.messages, o.cuts, o.broker_kills, o.daemon_kills, o.ack,
                                                              o.seed), lambda o: False)
