"""Replays by a filter: what they find, in which order, and what stops them."""
from __future__ import annotations

from typing import Any

import pytest
from harness import Daemon, Gate, custom, pipeline, script

R = "/api/v1/events/replay"


def failed_ones(daemon: Daemon, count: int) -> list[str]:
    """Events of trigger t that failed, the oldest first; then its pipeline works."""
    daemon.put("t.yaml", custom("t", "q", max_concurrent=8), custom("u", "q"))
    daemon.put("q.yaml", pipeline("q", script("exit 1")))
    ids = [daemon.emit1("t", {"n": n})["id"] for n in range(count)]
    daemon.emit("u")
    daemon.settle()
    daemon.put("q.yaml", pipeline("q", script("exec cat")))
    return ids


def test_all_that_a_filter_finds_in_order(daemon: Daemon) -> None:
    old = failed_ones(daemon, 70)  # more than a page
    dry = daemon.post(R, {"trigger_id": "t", "status": "failed", "dry_run": True})
    assert (dry["matched"], dry["replayed"]) == (70, 0) and [e["id"] for e in dry["events"]] == old
    assert len(daemon.events("t")) == 70
    done = daemon.post(R, {"trigger_id": "t", "status": "failed", "since": "1h"})
    assert (done["matched"], done["replayed"], done["gone"], done["message"]) == (70, 70, 0, None)
    assert [e["replay_of"] for e in done["events"]] == old
    new = daemon.settle("t")[70:]
    assert [e["event_data"]["n"] for e in new] == list(range(70)), "the oldest first"
    assert {e["status"] for e in new} == {"completed"} and len(daemon.events("u")) == 1


def test_what_still_fails_is_not_found_by_its_own_replay(daemon: Daemon) -> None:
    daemon.put("m.yaml", pipeline("q", script("exit 1")), custom("t", "q", max_concurrent=8))
    for n in range(40):
        daemon.emit("t")
    daemon.settle()
    assert daemon.post(R, {"status": "failed"})["replayed"] == 40
    assert len(daemon.settle()) == 80


def test_filters(daemon: Daemon) -> None:
    failed_ones(daemon, 3)
    def matched(**filter: str) -> int:
        return daemon.post(R, {**filter, "dry_run": True})["matched"]
    assert matched(pipeline_id="q") == 4 and matched(event_type="custom_u") == 1 and matched(decision="cooldown") == 0
    assert matched(since="1h") == 4 and matched(until="1h") == 0 and matched(trigger_id="none") == 0


@pytest.mark.parametrize("body", [{}, {"dry_run": True}, {"status": 1}, {"event_id": 7}, {"event_id": "e", "status": "failed"},
                                  {"since": "soon"}, {"status": "broken"}, {"decision": "broken"}, {"statos": "failed"},
                                  {"status": "failed", "dry_run": "yes"}, []])
def test_what_is_refused(daemon: Daemon, body: Any) -> None:
    assert daemon.http("POST", R, body).problem(422)["errors"]


def test_a_full_queue_stops_it(daemon: Daemon) -> None:
    gate = Gate(daemon.data)
    old = failed_ones(daemon, 50)
    daemon.put("t.yaml", custom("t", "q", queue_limit=10), custom("u", "q"))
    daemon.put("q.yaml", pipeline("q", gate.step()))
    done = daemon.ctl("replay", "--trigger", "t", "--status", "failed")
    assert done.returncode == 1 and "stopped: " in done.stderr and "of 50 events replayed" in done.stderr
    replayed = [e for e in daemon.events("t") if e["replay_of"]]
    assert 10 <= len(replayed) < 50 and [e["replay_of"] for e in replayed] == old[:len(replayed)]
    gate.open()
    daemon.settle()


def test_triggers_that_are_gone(daemon: Daemon) -> None:
    failed_ones(daemon, 2)
    daemon.ctl("delete", "trigger", "u")
    done = daemon.ctl("replay", "--pipeline", "q")
    assert done.returncode == 1 and "1 of them are gone" in done.stderr and "2 of 3 events replayed" in done.stderr
    daemon.settle("t")


def test_triggerctl(daemon: Daemon) -> None:
    old = failed_ones(daemon, 2)
    done = daemon.ctl("replay", "--trigger", "t", "--status", "failed", "--dry-run")
    assert done.returncode == 0 and [line.split()[0] for line in done.stdout.splitlines()] == old
    assert done.stderr == "2 events would be replayed\n"
    done = daemon.ctl("replay", "--trigger", "t", "--status", "failed")
    assert done.returncode == 0 and done.stderr == "2 of 2 events replayed\n" and len(done.stdout.splitlines()) == 2
    for usage in ([], ["--dry-run"], [old[0], "--trigger", "t"], ["--status", "broken"]):
        assert daemon.ctl("replay", *usage).returncode == 2
    daemon.settle()
