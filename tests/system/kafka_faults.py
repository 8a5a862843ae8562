#!/usr/bin/env python3
"""Messages through Kafka while connections are cut, the server is killed and the daemon is killed, at random moments: what is
lost, and what comes twice.

    tests/system/kafka_faults.py [--messages 100000] [--cuts 50] [--broker-kills 20] [--daemon-kills 20] [--ack auto|manual]

Prints one line of JSON. Exit 1 where a message is lost or came twice.
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
from brokers import Kafka, Proxy  # noqa: E402
from harness import Daemon, pipeline, script, wait_for  # noqa: E402

CHUNK = 50
BACKLOG = 1000
PARTITIONS = 3
# A run without a process.
QUICK = pipeline("p", script("exit 1", **{"if": "$.inputs.never"}), outputs={})


def through_faults(root: Path, messages: int, cuts: int, broker_kills: int, daemon_kills: int, ack: str = "auto",
                   seed: int | None = None) -> dict[str, Any]:
    rng = random.Random(seed)
    begun = time.monotonic()
    server = Kafka(root / "kafka")
    with Proxy(server.port) as proxy:
        server.advertised = proxy.port
        d = Daemon(root / "d", args=("--log-level", "warning"))
        config = {"queue_type": "kafka", "connection_url": f"kafka://127.0.0.1:{proxy.port}", "queue_name": "q",
                  "start": "earliest", "ack_mode": ack, "options": {"session.timeout.ms": 3000, "heartbeat.interval.ms": 500}}
        try:
            server.start()
            client = server.client()
            client.create("q", PARTITIONS)
            d.write("m.yaml", QUICK, {"kind": "trigger", "id": "t", "name": "t", "pipeline_id": "p",
                                      "trigger_type": "message_queue", "config": config, "max_concurrent": 32})
            d.start()

            def taken() -> int:
                return d.get("/api/v1/triggers/t/events?page_size=1")["total"]

            def kill_daemon() -> None:
                d.kill9()
                d.start()

            faults: list[tuple[int, Callable[[], Any]]] = [
                (rng.randrange(messages), fault)
                for fault, count in ((proxy.cut, cuts), (lambda: server.restart(kill=True), broker_kills),
                                     (kill_daemon, daemon_kills)) for _ in range(count)]
            faults.sort(key=lambda f: f[0])
            sent = 0
            while sent < messages:
                for i in range(sent, min(sent + CHUNK, messages)):
                    client.produce("q", str(i), partition=i % PARTITIONS)
                client.flush(120)
                sent = min(sent + CHUNK, messages)
                while faults and faults[0][0] < sent:
                    time.sleep(rng.random() * 0.2)
                    faults.pop(0)[1]()
                wait_for(lambda: taken() > sent - BACKLOG, 180, "messages are taken")
            # Our own producer may have repeated itself over a cut: what the log holds is what counts.
            held = Counter(int(r.value or b"-1") for r in client.read("q", PARTITIONS))
            wait_for(lambda: taken() >= sum(held.values()), 180, "every message is taken")
            d.settle("t", 300)
            seen = Counter(e["event_data"]["body"] for e in d.events("t"))
        finally:
            d.close()
            server.close()
    return {"ack": ack, "messages": messages, "cuts": cuts, "broker_kills": broker_kills, "daemon_kills": daemon_kills,
            "lost": sum(seen[i] == 0 for i in range(messages)), "doubles": sum((seen - held).values()),
            "repeated_by_the_test": sum(held.values()) - len(held), "strange": sum(k not in range(messages) for k in seen),
            "seconds": round(time.monotonic() - begun)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ack", choices=["auto", "manual"], default="auto")
    parser.add_argument("--messages", type=int, default=100000)
    parser.add_argument("--cuts", type=int, default=50)
    parser.add_argument("--broker-kills", type=int, default=20)
    parser.add_argument("--daemon-kills", type=int, default=20)
    parser.add_argument("--seed", type=int)
    o = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kafka-faults-", dir="/var/tmp") as root:
        found = through_faults(Path(root), o.messages, o.cuts, o.broker_kills, o.daemon_kills, o.ack, o.seed)
    print(json.dumps(found))
    return 1 if found["lost"] or found["strange"] or found["doubles"] else 0


if __name__ == "__main__":
    sys.exit(main())
