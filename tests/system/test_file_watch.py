"""file_watch: which files, when they are complete, and that none is missed."""
from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from harness import ECHO, Daemon, Gate, file_watch, never, pipeline, script, wait_for


def watch(d: Daemon, pattern: str | Path, **config: Any) -> None:
    d.put("m.yaml", ECHO, file_watch("w", pattern, config=config))
    wait_for(lambda: d.condition("w", "Ready").get("status") == "True" or
             d.condition("w", "Waiting").get("status") == "True", what="watching")


def told(d: Daemon) -> list[tuple[str, str]]:
    return [(e["event_data"]["event"], os.path.relpath(e["event_data"]["path"], d.data)) for e in d.events("w")]


def wait_told(d: Daemon, *wanted: tuple[str, str]) -> None:
    """Exactly these events, in any order."""
    wait_for(lambda: Counter(told(d)) >= Counter(wanted), what=f"{wanted}")
    never(lambda: Counter(told(d)) - Counter(wanted), 0.4, "more events than wanted")


def names(d: Daemon) -> set[str]:
    return {path for _, path in told(d)}


# ---- which files ----


@pytest.mark.parametrize("pattern, recursive, wanted", [
    ("*.csv", True, {"a.csv", "in/b.csv", "in/deep/c.csv"}), ("*.csv", False, {"a.csv"}),
    ("**/in/[a-z].csv", False, {"in/b.csv"}), ("in/?.csv", False, {"in/b.csv"}),
    ("in/[!a-b].*", True, {"in/deep/c.csv", "in/deep/c.txt"}), ("**", True, {"a.csv", "in/b.csv", "in/deep/c.csv",
                                                                              "in/deep/c.txt", "a.csv.tmp"})])
def test_globs(daemon: Daemon, pattern: str, recursive: bool, wanted: set[str]) -> None:
    (daemon.data / "in" / "deep").mkdir(parents=True)
    watch(daemon, daemon.data / pattern, recursive=recursive, events=["created"], debounce_seconds=0)
    for name in ("a.csv", "a.csv.tmp", "in/b.csv", "in/deep/c.csv", "in/deep/c.txt"):
        (daemon.data / name).write_text("x")
    wait_for(lambda: names(daemon) >= wanted, what=f"{wanted}")
    never(lambda: names(daemon) - wanted, 0.4)


def test_ignored_patterns(daemon: Daemon) -> None:
    watch(daemon, daemon.data / "*", ignore_patterns=["*.tmp", "*.part"])
    for name in ("a.tmp", "b.part", "c"):
        (daemon.data / name).write_text("x")
    wait_told(daemon, ("created", "c"))


def test_only_the_events_asked_for(daemon: Daemon) -> None:
    daemon.put("all.yaml", file_watch("all", daemon.data / "*"))  # tells when the other has seen it, too
    watch(daemon, daemon.data / "*", events=["deleted"])
    path = daemon.data / "a"
    for count, text in enumerate(("x", "y"), 1):
        path.write_text(text)
        daemon.wait_events(count, "all")
    path.unlink()
    wait_told(daemon, ("deleted", "a"))


def test_a_filter(daemon: Daemon) -> None:
    watch(daemon, daemon.data / "*", filter={"size": [{"numeric": [">", 3]}]})
    (daemon.data / "small").write_text("x")
    (daemon.data / "large").write_text("xxxx")
    wait_told(daemon, ("created", "large"))


@pytest.mark.parametrize("name", ["with blank", 'quote"s', "line\nbreak", "tab\t", "ünïcode-😀", "{{ $.path }}", "$(id)", "-rf",
                                  "back\\slash", "*"])
def test_odd_names(daemon: Daemon, name: str) -> None:
    daemon.put("m.yaml", pipeline("p", {"id": "s", "exec": {"command": ["/usr/bin/printf", "%s", "{{ $.inputs.path }}"]}}),
               file_watch("w", daemon.data / "*", config={"input_mapping": {"path": "$.path"}}))
    path = daemon.data / name
    path.write_text("x")
    event = daemon.wait_event(daemon.wait_events(1)[0]["id"], "completed")
    assert event["event_data"]["name"] == name and event["event_data"]["path"] == str(path)
    out = daemon.http("GET", f"/api/v1/runs/{event['run_id']}/steps/s/stdout").body
    assert out == os.fsencode(path)


def test_a_name_that_is_not_utf8(daemon: Daemon) -> None:
    watch(daemon, daemon.data / "*")
    with open(os.fsencode(daemon.data) + b"/\xff\xfe", "w") as f:
        f.write("x")
    (daemon.data / "b").write_text("x")
    events = daemon.wait_events(2)  # and every answer was JSON
    assert "b" in {e["event_data"]["name"] for e in events}


# ---- complete files ----


def test_created_means_complete(daemon: Daemon) -> None:
    watch(daemon, daemon.data / "*", debounce_seconds=0)
    with open(daemon.data / "a", "w") as f:
        for _ in range(5):
            f.write("x" * 10)
            f.flush()
            never(lambda: told(daemon), 0.15)
    event = daemon.wait_events(1)[0]
    assert event["event_type"] == "file_created" and event["event_data"]["size"] == 50


def test_a_held_file_is_not_reported(daemon: Daemon) -> None:
    watch(daemon, daemon.data / "*", debounce_seconds=0.2)
    path = daemon.data / "a"
    with open(path, "w") as f:
        f.write("one")
        f.flush()
        path.open("a").close()  # another writer comes and goes
        never(lambda: told(daemon), 1)
    wait_told(daemon, ("created", "a"))


def test_net_changes(daemon: Daemon) -> None:
    (daemon.data / "old").write_text("x")
    watch(daemon, daemon.data / "*", debounce_seconds=2)
    for n in range(4):
        (daemon.data / "new").write_text("x" * n)
        (daemon.data / "old").write_text("x" * n)
    (daemon.data / "short").write_text("x")
    (daemon.data / "short").unlink()
    wait_told(daemon, ("created", "new"), ("modified", "old"))
    assert next(e for e in daemon.events("w") if e["event_data"]["name"] == "new")["event_data"]["size"] == 3
    (daemon.data / "old").unlink()
    (daemon.data / "old").write_text("again")
    wait_told(daemon, ("created", "new"), ("modified", "old"), ("modified", "old"))


def test_debounce_is_trailing(daemon: Daemon) -> None:
    watch(daemon, daemon.data / "*", debounce_seconds=0.6)

    def once_and_late(path: Path) -> bool:
        for _ in range(8):
            last = time.monotonic()
            path.write_text("x")
            time.sleep(0.2)
        wait_for(lambda: path.name in names(daemon))
        late = time.monotonic() - last >= 0.6
        never(lambda: ("modified", path.name) in told(daemon), 0.4) if late else None
        return late and told(daemon).count(("created", path.name)) == 1

    # Several times: where the machine stands still, one burst is two.
    assert any(once_and_late(daemon.data / name) for name in "abcdef")


@pytest.mark.parametrize("way", ["link", "tmpfile"])
def test_a_file_without_a_close(daemon: Daemon, way: str) -> None:
    watch(daemon, daemon.data / "*", debounce_seconds=0)
    begin = time.monotonic()
    if way == "link":
        source = daemon.root / "source"
        source.write_text("x")
        os.link(source, daemon.data / "a")
    else:
        try:
            fd = os.open(daemon.data, os.O_WRONLY | os.O_TMPFILE)
        except OSError:
            pytest.skip("no O_TMPFILE here")
        os.write(fd, b"x")
        os.close(os.open(f"/proc/self/fd/{fd}", os.O_RDONLY))
        # os.link() does not follow the link in /proc: linkat() with AT_SYMLINK_FOLLOW does.
        linkat = ctypes.CDLL(None, use_errno=True).linkat
        assert linkat(-100, f"/proc/self/fd/{fd}".encode(), -100, os.fsencode(daemon.data / "a"), 0x400) == 0
        os.close(fd)
    wait_told(daemon, ("created", "a"))
    assert time.monotonic() - begin > 0.9


def test_a_burst_misses_nothing(daemon: Daemon) -> None:
    daemon.put("m.yaml", pipeline("p", {"id": "s", "exec": {"command": ["/bin/true"]}}),
               file_watch("w", daemon.data / "**", config={"debounce_seconds": 0, "events": ["created"]}, max_concurrent=8))
    for n in range(500):
        (daemon.data / f"{n}").write_text("x")
    wait_for(lambda: daemon.get("/api/v1/triggers/events?status=completed&page_size=1")["total"] == 500, 60)
    assert len(names(daemon)) == 500


def test_a_queue_overflow_loses_nothing(daemon: Daemon) -> None:
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    if limit > 20000:
        pytest.skip("the kernel's queue is too long to fill")
    watch(daemon, daemon.data / "*", debounce_seconds=0, events=["created"])
    daemon.signal(19)  # SIGSTOP: nobody reads the queue
    try:
        for n in range(limit // 2 + 500):  # each file makes several events
            (daemon.data / f"{n}").write_text("x")
    finally:
        daemon.signal(18)
    total = limit // 2 + 500
    wait_for(lambda: daemon.get("/api/v1/triggers/w/events?page_size=1")["total"] >= total, 120)
    never(lambda: daemon.get("/api/v1/triggers/w/events?page_size=1")["total"] > total, 0.5)


# ---- directories ----


def test_fresh_directories(daemon: Daemon) -> None:
    watch(daemon, daemon.data / "**" / "*.txt", debounce_seconds=0, events=["created"])
    wanted = set()
    for n in range(30):
        folder = daemon.data / f"d{n}" / "x" / "y"
        folder.mkdir(parents=True)
        (folder / "f.txt").write_text("x")
        wanted.add(f"d{n}/x/y/f.txt")
    wait_for(lambda: names(daemon) >= wanted, what="a file in every fresh directory")
    assert len(told(daemon)) == 30, "each once"


def test_a_directory_moved_in_and_out(daemon: Daemon) -> None:
    watch(daemon, daemon.data / "*.txt")
    outside = daemon.root / "outside"
    outside.mkdir()
    (outside / "a.txt").write_text("x")
    outside.rename(daemon.data / "in")
    wait_told(daemon, ("created", "in/a.txt"))
    (daemon.data / "in").rename(outside)
    wait_told(daemon, ("created", "in/a.txt"), ("deleted", "in/a.txt"))
    (outside / "b.txt").write_text("no longer ours")
    never(lambda: "in/b.txt" in names(daemon), 0.5)


def test_a_directory_is_never_modified(daemon: Daemon) -> None:
    """... not even one that is removed and made again within the debounce; what is in it is another file."""
    folder = daemon.data / "d"
    folder.mkdir()
    (folder / "a").write_text("x")
    watch(daemon, daemon.data / "**", debounce_seconds=1)
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "a").write_text("y")
    wait_told(daemon, ("modified", "d/a"))


def test_moves(daemon: Daemon) -> None:
    (daemon.data / "a").write_text("x")
    watch(daemon, daemon.data / "*")
    (daemon.data / "a").rename(daemon.data / "b")
    event = daemon.wait_events(1)[0]
    assert event["event_type"] == "file_moved"
    data = event["event_data"]
    assert (data["event"], data["old_path"], data["path"]) == ("moved", str(daemon.data / "a"), str(daemon.data / "b"))
    outside = daemon.root / "outside"
    (daemon.data / "b").rename(outside)
    wait_told(daemon, ("moved", "b"), ("deleted", "b"))
    outside.rename(daemon.data / "c")
    wait_told(daemon, ("moved", "b"), ("deleted", "b"), ("created", "c"))


def test_a_write_beside_and_rename(daemon: Daemon) -> None:
    """How careful programs write: the name appears complete."""
    watch(daemon, daemon.data / "*.csv")
    (daemon.data / ".a.tmp").write_text("x")
    (daemon.data / ".a.tmp").rename(daemon.data / "a.csv")
    wait_told(daemon, ("created", "a.csv"))


def test_a_base_that_comes_and_goes(daemon: Daemon) -> None:
    base = daemon.data / "later" / "in"
    watch(daemon, base / "*")
    assert daemon.condition("w", "Waiting")["status"] == "True"
    assert daemon.trigger("w")["status"] == "active"
    for n in range(3):
        base.mkdir(parents=True)
        (base / "a").write_text("x")
        wait_for(lambda n=n: told(daemon).count(("created", "later/in/a")) == n + 1, what=f"round {n}")
        assert daemon.condition("w", "Waiting").get("status", "False") == "False"
        shutil.rmtree(daemon.data / "later")
        wait_for(lambda: daemon.condition("w", "Waiting").get("status") == "True", what="waiting again")


def test_a_base_that_is_mounted_over(daemon: Daemon) -> None:
    """The directory that has the path counts: the one mounted there, and after it the one below."""
    def mount(*command: str | Path) -> None:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            pytest.skip(f"cannot mount: {done.stderr}")

    (daemon.data / "below").write_text("x")
    watch(daemon, daemon.data / "*")
    mount("mount", "-t", "tmpfs", "none", daemon.data)
    try:
        wait_told(daemon, ("deleted", "below"))
        (daemon.data / "above").write_text("x")
        wait_told(daemon, ("deleted", "below"), ("created", "above"))
    finally:
        mount("umount", "-l", daemon.data)
    wait_told(daemon, ("deleted", "below"), ("created", "above"), ("deleted", "above"), ("created", "below"))


# ---- while the daemon was down ----


def test_changes_while_down(daemon: Daemon) -> None:
    for name in ("same", "changed", "gone"):
        (daemon.data / name).write_text("x")
    watch(daemon, daemon.data / "*")
    assert told(daemon) == [], "the first start takes the snapshot and fires nothing"
    for crash in (False, True):
        before = Counter(told(daemon))
        daemon.kill9() if crash else daemon.stop()
        (daemon.data / "changed").write_text("longer" * (2 + crash))
        (daemon.data / "gone").unlink()
        (daemon.data / f"new{crash}").write_text("x")
        daemon.start()
        wanted = Counter({("modified", "changed"): 1, ("deleted", "gone"): 1, ("created", f"new{crash}"): 1})
        wait_for(lambda b=before, w=wanted: Counter(told(daemon)) - b >= w, what=f"{wanted}")
        never(lambda b=before, w=wanted: Counter(told(daemon)) - b - w, 0.4)
        (daemon.data / "gone").write_text("back")
        wait_for(lambda n=crash + 1: told(daemon).count(("created", "gone")) == n)


@pytest.mark.parametrize("on_start, wanted", [("none", set()), ("all", {"a", "b"})])
def test_on_start(daemon: Daemon, on_start: str, wanted: set[str]) -> None:
    (daemon.data / "a").write_text("x")
    watch(daemon, daemon.data / "*", on_start=on_start, events=["created"])
    wait_for(lambda: names(daemon) >= wanted - {"b"})
    daemon.stop()
    (daemon.data / "b").write_text("x")
    daemon.start()
    wait_for(lambda: names(daemon) >= wanted)
    never(lambda: names(daemon) - wanted, 0.5)


def test_no_file_twice_over_a_kill(daemon: Daemon) -> None:
    gate = Gate(daemon.root)
    daemon.put("m.yaml", pipeline("p", gate.step()),
               file_watch("w", daemon.data / "*", config={"debounce_seconds": 0, "input_mapping": {"key": "$.name"}}))
    for n in range(5):
        (daemon.data / f"f{n}").write_text("x")
    daemon.wait_events(5)
    daemon.kill9()
    daemon.start()
    gate.open()
    wait_for(lambda: len(gate.lines("end")) >= 5)
    daemon.settle()
    assert sorted(gate.keys("end")) == [f"f{n}" for n in range(5)]
    assert len(daemon.events()) == 5


# ---- loops ----


def test_a_pipeline_that_writes_what_it_watches(daemon: Daemon) -> None:
    daemon.put("m.yaml", pipeline("p", script('date +%N >> "$INPUT_PATH"')),
               file_watch("w", daemon.data / "*", config={"debounce_seconds": 0, "input_mapping": {"path": "$.path"}}))
    (daemon.data / "a").write_text("x")
    wait_for(lambda: any(e["decision"] == "loop_blocked" for e in daemon.events("w")), 30)
    fired = [e for e in daemon.events("w") if e["decision"] == "fired"]
    assert 4 <= len(fired) <= 7


def test_a_pipeline_that_writes_new_files_where_it_watches(daemon: Daemon) -> None:
    daemon.put("m.yaml", pipeline("p", script(f'cp "$INPUT_PATH" {daemon.data}/$TRIGGERD_RUN_ID')),
               file_watch("w", daemon.data / "*", config={"debounce_seconds": 0, "input_mapping": {"path": "$.path"}}))
    (daemon.data / "a").write_text("x")
    blocked = wait_for(lambda: [e for e in daemon.events("w") if e["decision"] == "loop_blocked"
                                and e["status"] == "skipped"], 30)
    assert len(blocked) == 1 and "none came while nothing ran" in blocked[0]["reason"]
    assert 5 <= sum(e["decision"] == "fired" for e in daemon.events("w")) <= 8
    (daemon.data / "b").write_text("x")  # by somebody else: it fires
    wait_for(lambda: any(e["decision"] == "fired" and e["event_data"]["name"] == "b" for e in daemon.events("w")), 30)


class Paced:
    """Runs that last until they are let go, so that each file can come while the one before it runs."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self.go = daemon.root / "go"
        self.go.mkdir()
        daemon.put("m.yaml", pipeline("p", script(f'until [ -e "{self.go}/$INPUT_NAME" ]; do sleep 0.02; done')),
                   file_watch("w", daemon.data / "*",
                              config={"debounce_seconds": 0, "input_mapping": {"name": "$.name"}}))

    def drop(self, n: int) -> None:
        (self.daemon.data / str(n)).write_text("x")

    def end(self, n: int) -> None:
        (self.go / str(n)).touch()

    def stands(self, n: int, *how: tuple[str, str]) -> None:
        def found() -> bool:
            return any(e["event_data"]["name"] == str(n) and (e["status"], e["decision"]) in how
                       for e in self.daemon.events("w"))
        wait_for(found, 30, f"{n} {how}")

    def rounds(self, n: int) -> None:
        """Files up to `n`, each while the one before it runs, which then ends; the last one waits."""
        self.drop(0)
        for i in range(n):
            self.stands(i, EXECUTING)
            self.drop(i + 1)
            self.stands(i + 1, ("pending", "concurrency"), ("pending", "loop_blocked"))
            if i + 1 < n:
                self.end(i)


@pytest.fixture
def paced(daemon: Daemon) -> Paced:
    return Paced(daemon)


EXECUTING, COMPLETED = ("executing", "fired"), ("completed", "fired")


def test_files_that_come_while_runs_last_are_no_loop(paced: Paced) -> None:
    """... where one comes while none lasts."""
    paced.rounds(5)
    paced.end(4)
    paced.stands(4, COMPLETED)
    paced.drop(7)
    for n in (5, 7):
        paced.end(n)
        paced.stands(n, COMPLETED)


def test_files_that_stopped_coming_are_no_loop(paced: Paced) -> None:
    """... where a run that goes alone writes none."""
    paced.rounds(5)
    paced.drop(6)
    paced.stands(6, ("pending", "concurrency"), ("pending", "loop_blocked"))
    for n in (4, 5, 6):
        paced.end(n)
        paced.stands(n, COMPLETED)


def test_what_each_run_seems_to_write_is_a_loop(paced: Paced) -> None:
    paced.rounds(6)
    paced.end(5)
    paced.stands(6, ("skipped", "loop_blocked"))


def test_a_log_that_others_append_to_is_no_loop(daemon: Daemon) -> None:
    """... though it is written again while each of the runs for it lasts."""
    starts, log = daemon.root / "starts", daemon.data / "log"
    (daemon.root / "go").mkdir()
    daemon.put("m.yaml", pipeline("p", script(f"""
               echo >> {starts}
               n=$(wc -l < {starts})
               until [ -e {daemon.root}/go/$n ]; do sleep 0.02; done""")),
               file_watch("w", daemon.data / "*", config={"debounce_seconds": 0}))

    def append() -> None:
        with log.open("a") as f:
            f.write("line\n")

    def started() -> int:
        return len(starts.read_bytes()) if starts.exists() else 0

    append()
    for n in range(1, 9):
        wait_for(lambda n=n: started() == n, what=f"run {n}")
        append()
        wait_for(lambda: any(e["status"] == "pending" for e in daemon.events("w")), what="the next one waits")
        (daemon.root / "go" / str(n)).touch()
        wait_for(lambda n=n: started() > n or any(e["status"] == "pending" and e["decision"] == "loop_blocked"
                                                  for e in daemon.events("w")))
        while started() == n:
            append()
            time.sleep(0.05)
    for n in range(9, 200):
        (daemon.root / "go" / str(n)).touch()
    assert {e["status"] for e in daemon.settle("w", 60)} == {"completed"}


@pytest.mark.parametrize("debounce, copies", [(0, 2), (0.3, 5)])
def test_a_pipeline_that_writes_more_than_it_reads_is_a_loop(daemon: Daemon, debounce: float, copies: int) -> None:
    copy = "; ".join(f'cp "$INPUT_PATH" {daemon.data}/$TRIGGERD_RUN_ID-{n}' for n in range(copies))
    daemon.put("m.yaml", pipeline("p", script(copy)),
               file_watch("w", daemon.data / "*",
                          config={"debounce_seconds": debounce, "input_mapping": {"path": "$.path"}},
                          max_concurrent=4, queue_limit=1000000))
    (daemon.data / "a").write_text("x")
    wait_for(lambda: any(e["status"] == "skipped" for e in daemon.events("w")), 60, "found")
    decisions = Counter(e["decision"] for e in daemon.settle(timeout=60))
    assert decisions["fired"] < 500, decisions


def test_many_files_at_once_are_no_loop(daemon: Daemon) -> None:
    daemon.put("m.yaml", pipeline("p", {"id": "s", "exec": {"command": ["/bin/true"]}}),
               file_watch("w", daemon.data / "*", config={"debounce_seconds": 0}, max_concurrent=64, queue_limit=2000))
    for n in range(2000):
        (daemon.data / str(n)).write_text("x")
    wait_for(lambda: sum(daemon.get("/api/v1/triggers/stats")[f"{how}_events_24h"]
                         for how in ("successful", "failed", "skipped")) == 2000, 120)
    assert daemon.get("/api/v1/triggers/stats")["successful_events_24h"] == 2000


def test_a_script_that_waits_for_each_result_is_no_loop(daemon: Daemon) -> None:
    """The next file comes as soon as the run's own result shows that it is about to end, and it has ended."""
    daemon.put("m.yaml", pipeline("p", script(f'echo > {daemon.root}/result')),
               file_watch("w", daemon.data / "*", config={"debounce_seconds": 0}))
    result = daemon.root / "result"
    for n in range(60):
        (daemon.data / str(n)).write_text("x")
        wait_for(result.exists, what=f"the result of {n}")
        result.unlink()
        wait_for(lambda: daemon.get("/api/v1/pipelines/p")["running"] == 0)
    assert {e["decision"] for e in daemon.events("w")} == {"fired"}


def test_inotify_watches_are_given_back(daemon: Daemon) -> None:
    def watches() -> int:
        count = 0
        for info in Path(f"/proc/{daemon.pid}/fdinfo").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed since the list was made
                count += info.read_text().count("inotify wd:")
        return count

    before = watches()
    for n in range(20):
        (daemon.data / f"d{n}").mkdir()
    watch(daemon, daemon.data / "**")
    assert watches() >= before + 20
    (daemon.manifests / "m.yaml").unlink()
    wait_for(lambda: watches() == before)
