"""Control groups: a daemon that was given some gives each step one of its own."""
from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from harness import Daemon, alive, finished, pipeline, script, wait_for
from test_leaks import check_nothing_is_left

# Leaves its session, its environment and its parent; says its pid in $OUT.
AWAY = """(setsid env -i sh -c 'trap "" TERM HUP; echo $$ > '$OUT'.tmp; mv '$OUT'.tmp '$OUT'; exec sleep 300' &)
until [ -e $OUT ]; do sleep 0.01; done
"""
numbers = itertools.count()


class Delegated(Daemon):
    """Started in a control group as systemd's Delegate=yes makes it."""

    group: Path

    def command(self) -> list[str]:
        # A group that has given controllers to its children takes no member.
        enter = 'if [ -d "$0/daemon" ]; then set -- "$0/daemon" "$@"; else set -- "$0" "$@"; fi\n' \
                'echo $$ > "$1/cgroup.procs"; shift; exec "$@"'
        return ["/bin/sh", "-euc", enter, str(self.group), *super().command()]

    @property
    def steps(self) -> list[Path]:
        return [g for s in self.group.glob("steps-*") for g in s.iterdir() if g.is_dir()]

    def has(self, controller: str) -> bool:
        return controller in (self.group / "cgroup.controllers").read_text().split()


def mounted() -> Path | None:
    for line in Path("/proc/self/mounts").read_text().splitlines():
        if line.split()[2] == "cgroup2":
            return Path(line.split()[1])
    return None


def remove(group: Path) -> None:
    (group / "cgroup.kill").write_text("1")
    for path in sorted((p for p in group.rglob("*") if p.is_dir()), reverse=True):
        with suppress(OSError):
            path.rmdir()
    with suppress(OSError):
        group.rmdir()


@pytest.fixture
def group() -> Iterator[Path]:
    root = mounted()
    if not root:
        pytest.skip("no cgroup version 2")
    path = root / f"triggerd-test-{os.getpid()}-{next(numbers)}"
    try:
        path.mkdir()
        os.setxattr(path, "trusted.delegate", b"1")
    except OSError as e:
        pytest.skip(f"no control group can be made: {e}")
    if not (path / "cgroup.kill").exists():
        path.rmdir()
        pytest.skip("Linux before 5.14")
    yield path
    wait_for(lambda: remove(path) or not path.exists(), what="it is empty in the end")


@pytest.fixture
def daemon(group: Path, make_daemon: Callable[..., Any]) -> Delegated:
    d = make_daemon(type=Delegated)
    d.group = group
    return d.start()


def members(d: Delegated) -> list[str]:
    found = []
    for group in d.steps:
        with suppress(OSError):
            found += (group / "cgroup.procs").read_text().split()
    return found


def start(d: Daemon, id: str) -> Any:
    return d.post(f"/api/v1/pipelines/{id}/run", {})


def by_hand(d: Daemon, id: str) -> dict[str, Any]:
    return finished(d, start(d, id)["id"])


def escaped(d: Daemon, name: str = "pid") -> int:
    file = d.data / name
    return int(wait_for(lambda: file.exists() and file.read_text(), what="it got away"))


def test_where_they_are_is_told(daemon: Delegated) -> None:
    assert str(daemon.group) in daemon.get("/api/v1/status")["cgroup"]
    assert (daemon.group / "daemon" / "cgroup.procs").read_text().split() == [str(daemon.pid)]
    found = daemon.ctl("doctor").stdout
    assert f"steps have groups of their own in {daemon.group}" in found, found


def test_without_any_it_says_why(make_daemon: Callable[..., Any]) -> None:
    assert not make_daemon().start().get("/api/v1/status")["cgroup"].startswith("/")


def test_each_step_has_one_and_they_are_used_again(daemon: Delegated) -> None:
    daemon.put("m.yaml", pipeline("p", script("cat /proc/self/cgroup")))
    seen = []
    for _ in range(5):
        lines = by_hand(daemon, "p")["outputs"]["out"]["stdout"].splitlines()
        seen += [line.rsplit("/", 2)[1:] for line in lines if line.startswith("0::")]
    assert len(seen) == 5 and all(steps.startswith("steps-") for steps, _ in seen)
    assert len({number for _, number in seen}) < 5, "one of them was used again"
    daemon.stop()
    assert not daemon.steps and not list(daemon.group.glob("steps-*"))


def test_what_gets_away_ends_with_its_step(daemon: Delegated) -> None:
    daemon.put("m.yaml", pipeline("p", script(AWAY,
                                              env={"OUT": str(daemon.data / "pid")})))
    assert by_hand(daemon, "p")["status"] == "completed"
    pid = escaped(daemon)
    wait_for(lambda: not alive(pid), what="it is dead")


def test_without_groups_it_gets_away(make_daemon: Callable[..., Any]) -> None:
    """What the others show would be nothing if this one ended with its step."""
    d = make_daemon().start()
    d.put("m.yaml", pipeline("p", script(AWAY, env={"OUT": str(d.data / "pid")})))
    assert by_hand(d, "p")["status"] == "completed"
    pid = escaped(d)
    d.stop()
    assert alive(pid)
    os.kill(pid, signal.SIGKILL)


def test_cancel_ends_all_of_it(daemon: Delegated) -> None:
    daemon.put("m.yaml", pipeline("p", script("trap '' TERM\n" + AWAY + "while :; do sleep 1; done",
                                              env={"OUT": str(daemon.data / "pid")})))
    run = start(daemon, "p")
    pid = escaped(daemon)
    daemon.post(f"/api/v1/runs/{run['id']}/cancel")
    assert finished(daemon, run["id"])["status"] == "cancelled"
    wait_for(lambda: not alive(pid), what="it is dead")


def test_what_an_earlier_life_left_is_ended(daemon: Delegated) -> None:
    daemon.put("m.yaml", pipeline("p", script("if [ $TRIGGERD_ATTEMPT -gt 1 ]; then exit 0; fi\n" + AWAY + "sleep 60",
                                              env={"OUT": str(daemon.data / "pid")})))
    run = start(daemon, "p")
    pid = escaped(daemon)
    daemon.kill9()
    assert alive(pid)
    daemon.start()
    assert not alive(pid)
    assert finished(daemon, run["id"])["status"] == "completed"


def test_groups_in_a_group_are_removed(daemon: Delegated) -> None:
    daemon.put("m.yaml", pipeline("p", script("cd $GROUP/steps-*/$(sed -n 's,^0::.*/,,p' /proc/self/cgroup)\n"
                                              "mkdir a a/b\n(sh -c 'echo $$ > a/b/cgroup.procs; exec sleep 300' &)\n"
                                              "until grep -q . a/b/cgroup.procs; do sleep 0.01; done",
                                              env={"GROUP": str(daemon.group)}, limits={"cpu_seconds": 100})))
    assert by_hand(daemon, "p")["status"] == "completed"
    wait_for(lambda: not daemon.steps, what="with limits it was of this attempt alone")


def test_cpu_time_is_that_of_all_its_processes(daemon: Delegated) -> None:
    burn = "python3 -c 'import time\nwhile time.process_time() < 0.3: pass'\n"
    daemon.put("m.yaml", pipeline("p", script(burn * 30, limits={"cpu_seconds": 1})))
    run = by_hand(daemon, "p")
    assert run["status"] == "failed"
    assert "killed by SIGTERM (limits.cpu_seconds is 1)" in run["error_message"], run


def test_memory_is_that_of_all_its_processes(daemon: Delegated) -> None:
    if not daemon.has("memory"):
        pytest.skip("no memory controller")
    hold = "python3 -c 'b = bytearray(40 << 20); import time; time.sleep(20)' &\n"
    daemon.put("m.yaml", pipeline("p", script(hold * 4 + "wait", limits={"memory_bytes": 100 << 20})),
               pipeline("q", script("python3 -c 'import mmap; mmap.mmap(-1, 300 << 20); print(1)'",
                                    limits={"memory_bytes": 100 << 20})))
    run = by_hand(daemon, "p")
    assert run["status"] == "failed"
    assert f"killed by SIGKILL, out of memory (limits.memory_bytes is {100 << 20})" in run["error_message"], run
    assert by_hand(daemon, "q")["outputs"] == {"out": 1}, "address space is no memory"
    wait_for(lambda: not members(daemon), what="half of a step is no step")


def test_processes_are_those_of_the_step(daemon: Delegated) -> None:
    if not daemon.has("pids"):
        pytest.skip("no pids controller")
    daemon.put("m.yaml", pipeline("p", script("for i in 1 2 3 4 5 6 7 8 9; do sleep 30 & done\nwait",
                                              limits={"processes": 5})))
    run = by_hand(daemon, "p")
    assert run["status"] == "failed" and "(limits.processes is 5)" in run["error_message"], run


def test_a_worker_has_one(daemon: Delegated) -> None:
    program = ("import json, os, sys\nfor line in sys.stdin:\n    r = json.loads(line)\n    if os.fork() == 0:\n"
               "        os.setsid(); os.execvpe('sleep', ['sleep', '300'], {})\n"
               "    print(json.dumps({'id': r['id'], 'output': open('/proc/self/cgroup').read()}), flush=True)\n")
    daemon.put("m.yaml", pipeline("p", {"id": "s", "worker": {"command": ["python3", "-c", program]}}))
    line = next(x for x in by_hand(daemon, "p")["outputs"]["out"].splitlines() if x.startswith("0::"))
    assert "/steps-" in line
    inside = members(daemon)
    assert len(inside) == 2
    daemon.put("m.yaml", pipeline("p", script("true")))
    wait_for(lambda: not any(alive(p) for p in inside), what="both went with the edit")


def test_nothing_is_left_behind(daemon: Delegated) -> None:
    stranger = "setsid env -i sh -c '(trap \"\" TERM HUP; exec sleep 300) &' </dev/null >/dev/null 2>&1; echo 1"
    check_nothing_is_left(daemon, {"stranger": (100, stranger)})
    wait_for(lambda: not members(daemon), what="nor what nothing else would find")
    assert len(daemon.steps) <= 64
