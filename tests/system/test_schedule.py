"""schedule: times as they come. The rules of cron and clock changes are tested where they are written (unit tests)."""
from __future__ import annotations

import time
from datetime import datetime
from typing import Any

from harness import ECHO, PATIENCE, Daemon, never, wait_for


def schedule(id: str, **config: Any) -> dict[str, Any]:
    return {"kind": "trigger", "id": id, "name": id, "pipeline_id": "p", "trigger_type": "schedule", "config": config,
            "max_concurrent": 10}


def moment(text: str) -> float:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def test_every_seconds(daemon: Daemon) -> None:
    daemon.put("m.yaml", ECHO, schedule("s", every_seconds=0.5))
    wait_for(lambda: len(daemon.events("s")) >= 5)
    events = daemon.events("s")[:5]
    assert {e["event_type"] for e in events} == {"schedule"}
    times = [moment(e["event_data"]["scheduled_at"]) for e in events]
    for early, late in zip(times, times[1:]):
        assert abs(late - early - 0.5) < 0.01, times
    late = [moment(e["event_data"]["fired_at"]) - moment(e["event_data"]["scheduled_at"]) for e in events]
    assert min(late) >= -0.001 and min(late) < 0.4, late  # (all of them on a machine that has nothing else to do)


def test_cron_with_a_fire_each_minute(daemon: Daemon) -> None:
    """Only that it waits for the minute; its arithmetic is tested without waiting."""
    daemon.put("m.yaml", ECHO, schedule("s", cron="* * * * *", timezone="Europe/Rome"))
    seconds = 60 - time.time() % 60
    if seconds > 12:
        never(lambda: daemon.events("s"), 1)
        return
    event = wait_for(lambda: daemon.events("s"), seconds + PATIENCE)[0]
    assert moment(event["event_data"]["scheduled_at"]) % 60 == 0


def test_pause_and_removal_stop_it(daemon: Daemon) -> None:
    daemon.put("m.yaml", ECHO, schedule("s", every_seconds=0.2))
    wait_for(lambda: daemon.events("s"))
    daemon.post("/api/v1/triggers/s/pause")
    fired = len([e for e in daemon.events("s") if e["decision"] == "fired"])
    never(lambda: len([e for e in daemon.events("s") if e["decision"] == "fired"]) > fired, 0.8)
    daemon.post("/api/v1/triggers/s/resume")
    wait_for(lambda: len([e for e in daemon.events("s") if e["decision"] == "fired"]) > fired)
    (daemon.manifests / "m.yaml").unlink()
    wait_for(lambda: not daemon.exists("s"))
    total = len(daemon.events())
    never(lambda: len(daemon.events()) > total, 0.6)


def test_catching_up(daemon: Daemon) -> None:
    daemon.put("m.yaml", ECHO, schedule("none", every_seconds=1), schedule("one", every_seconds=1, catch_up="one"),
               schedule("all", every_seconds=1, catch_up="all"))
    wait_for(lambda: all(daemon.events(t) for t in ("none", "one", "all")))
    daemon.stop()
    counts = {}
    down = time.time()
    time.sleep(4)
    daemon.start()

    def times(id: str, what: str) -> list[float]:
        data = [e["event_data"] for e in daemon.events(id)]
        return [moment(e[what]) for e in data if moment(e["scheduled_at"]) > down]

    up = min(wait_for(lambda: times("all", "fired_at")))  # when the engine started: what was missed comes at once
    for id in ("none", "one", "all"):
        wait_for(lambda id=id: any(at > up for at in times(id, "scheduled_at")))
        counts[id] = sum(at < up for at in times(id, "scheduled_at"))
    # A regular one may have come while the others of the three started.
    assert counts["none"] <= 1 and 1 <= counts["one"] <= 2 and counts["all"] >= 3, counts


def test_a_bad_timezone_is_an_error(daemon: Daemon) -> None:
    daemon.write("m.yaml", schedule("s", cron="* * * * *", timezone="Europe/Nowhere"))
    assert "timezone" in wait_for(daemon.errors)[0]
