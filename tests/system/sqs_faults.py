#!/usr/bin/env python3
"""Messages through what speaks as SQS does, while connections are cut and the daemon is killed, at random moments: what is
lost, and what comes twice. (moto's queues are in memory: killing it would lose them, so the server itself stays.)

    tests/system/sqs_faults.py [--ack auto|manual] [--messages 100000] [--cuts 50] [--daemon-kills 20]

Prints one line of JSON. Exit 1 where a message is lost or came twice.
"""
from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import faults  # noqa: E402
from brokers import Proxy, Sqs, serve  # noqa: E402
from harness import wait_for  # noqa: E402

CHUNK = 10
BACKLOG = 500
VISIBILITY = 5


def through_faults(root: Path, messages: int, cuts: int, daemon_kills: int, ack: str = "auto",
                   seed: int | None = None) -> dict[str, Any]:
    begun = time.monotonic()
    with serve(Sqs, root / "sqs") as sqs, Proxy(sqs.port) as proxy:
        queue = sqs.queue("q")
        d = faults.watching(root, queue_type="sqs", connection_url=f"sqs://KEY:SECRET@{sqs.region}",
                            endpoint_url=f"http://127.0.0.1:{proxy.port}", queue_name="q", ack_mode=ack,
                            visibility_timeout_seconds=VISIBILITY)

        def put(numbers: range) -> None:
            sqs.call("SendMessageBatch", QueueUrl=queue,
                     Entries=[{"Id": str(n), "MessageBody": str(n)} for n in numbers])

        try:
            d.start()
            faults.send(d, messages, CHUNK, put, lambda _: sqs.count(queue)[0] < BACKLOG, [(proxy.cut, cuts)], daemon_kills,
                        seed)
            wait_for(lambda: sqs.count(queue) == (0, 0), 300, "every message is taken and deleted")
            wait_for(lambda: faults.open_events(d) == 0, 300, "every run has ended")
            return faults.outcome(d, messages, begun, ack=ack, cuts=cuts, daemon_kills=daemon_kills)
        finally:
            d.close()


if __name__ == "__main__":
    faults.main(__doc__ or "", lambda root, o: through_faults(root, o.messages, o.cuts, o.daemon_kills, o.ack, o.seed),
                lambda o: False)
