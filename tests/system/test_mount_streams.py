"""log and stream over the mount (section 6): what happens, as JSON lines."""
from __future__ import annotations

import errno
import json
import os
import re
import select
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from harness import custom, wait_for
from mounted import Mounted, needs_fuse

pytestmark = needs_fuse


def lines(data: bytes | str) -> list[Any]:
    return [json.loads(line) for line in data.splitlines()]


def read_lines(fd: int, count: int, timeout: float = 20) -> list[Any]:
    """So many lines from a descriptor that may wait."""
    data = b""
    end = time.monotonic() + timeout
    while data.count(b"\n") < count:
        assert select.select([fd], [], [], max(0.0, end - time.monotonic()))[0], f"only {data!r}"
        data += os.read(fd, 65536)
    assert data.endswith(b"\n")
    return lines(data)


def has_open(pid: int, path: Path, at_end: bool = False) -> bool:
    """Does that process have the file open, and has it gone to its end?"""
    with suppress(FileNotFoundError):
        for fd in Path(f"/proc/{pid}/fd").iterdir():
            if os.readlink(fd) == str(path):
                position = int(Path(f"/proc/{pid}/fdinfo/{fd.name}").read_text().split()[1])
                return not at_end or position == path.stat().st_size
    return False


def resident(d: Mounted) -> int:
    """KiB."""
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{d.pid}/status").read_text())[1])  # type: ignore[index]


def test_a_log_grows(d: Mounted) -> None:
    log = d.m / "events/log"
    assert log.read_text() == "" and log.stat().st_size == 0
    d.fire("orders", {"n": 1})
    seen = lines(log.read_text())
    assert [e["status"] for e in seen] == ["executing", "completed"]
    assert seen[-1] == d.events()[0]
    assert (d.m / "triggers/a/log").read_text() == log.read_text()
    assert log.stat().st_size == len(log.read_bytes())
    d.put("b.yaml", custom("b"))
    d.emit("b")
    wait_for(lambda: len(lines((d.m / "triggers/b/log").read_text())) >= 2, what="b's own")
    assert {e["trigger_id"] for e in lines((d.m / "triggers/b/log").read_text())} == {"b"}
    assert {e["trigger_id"] for e in lines(log.read_text())} == {"a", "b"}
    assert d.ok("grep -c 'status.:.completed' triggers/a/log").strip() == "1"


def test_tail_f_follows_a_log(d: Mounted) -> None:
    d.fire("orders", {"n": 0})
    tail = subprocess.Popen(["tail", "-n", "0", "-s", "0.1", "-f", str(d.m / "triggers/a/log")], stdout=subprocess.PIPE)
    try:
        assert tail.stdout
        wait_for(lambda: has_open(tail.pid, d.m / "triggers/a/log", at_end=True), what="at its end")
        for n in range(1, 4):
            d.fire("orders", {"n": n})
        seen = read_lines(tail.stdout.fileno(), 6)
        assert [e["event_data"]["n"] for e in seen] == [1, 1, 2, 2, 3, 3]
    finally:
        tail.kill()
        tail.wait()


def test_an_open_log_goes_on_where_it_was(d: Mounted) -> None:
    d.fire("orders", {"n": 0})
    with (d.m / "events/log").open("rb", buffering=0) as f:
        first = f.read(100)
        d.fire("orders", {"n": 1})
        rest = f.read()
        assert [e["event_data"]["n"] for e in lines(first + rest)] == [0, 0, 1, 1]
        assert os.fstat(f.fileno()).st_size == len(first + rest)
        assert os.pread(f.fileno(), 50, 10) == (first + rest)[10:60]
        assert f.read() == b""


def test_a_log_begins_with_its_last_ten_thousand_lines(d: Mounted) -> None:
    d.post("/api/v1/triggers/a/pause")  # an event is one line then
    held = (d.m / "events/log").open("rb", buffering=0)
    fd = os.open(d.m / "emit/orders", os.O_WRONLY)
    for n in range(10_500):
        os.write(fd, b"%d" % n + b"\n")
    os.close(fd)
    fresh = lines((d.m / "events/log").read_bytes())
    assert len(fresh) == 10_000 and [e["event_data"] for e in fresh] == list(range(500, 10_500))
    assert (d.m / "events/log").stat().st_size == len((d.m / "events/log").read_bytes())
    old = lines(held.readall())
    gap = old.pop(0)["gap"] if "gap" in old[0] else 0
    assert [e["event_data"] for e in old] == list(range(gap, 10_500)) and gap <= 500
    assert os.fstat(held.fileno()).st_ino == (d.m / "events/log").stat().st_ino
    held.close()


def test_a_stream_waits_and_starts_with_what_comes(d: Mounted) -> None:
    d.fire("orders", {"n": 0})
    cat = subprocess.Popen(["cat", str(d.m / "triggers/a/stream")], stdout=subprocess.PIPE)
    every = subprocess.Popen(["bash", "-c", 'read -r line; echo "$line"'], stdin=open(d.m / "events/stream"),
                             stdout=subprocess.PIPE)
    try:
        assert cat.stdout and every.stdout
        wait_for(lambda: has_open(cat.pid, d.m / "triggers/a/stream"), what="open")
        d.fire("orders", {"n": 1})
        assert [(e["event_data"]["n"], e["status"]) for e in read_lines(cat.stdout.fileno(), 2)] == [
            (1, "executing"), (1, "completed")]
        assert lines(every.communicate(timeout=20)[0])[0]["event_data"] == {"n": 1}
        cat.terminate()  # (SIGINT is ignored where the tests run in the background)
        cat.wait(20)  # an interrupted reader is gone, though nothing comes
    finally:
        cat.kill()
        cat.wait()


def test_killed_readers_are_gone_at_once(d: Mounted) -> None:
    readers = [subprocess.Popen(["cat", str(d.m / "events/stream")], stdout=subprocess.DEVNULL) for _ in range(10)]
    wait_for(lambda: all(has_open(r.pid, d.m / "events/stream") for r in readers), what="open")
    for reader in readers:
        reader.kill()
    for reader in readers:
        reader.wait(20)
    d.fire("orders")


def test_nonblocking_and_poll(d: Mounted) -> None:
    fd = os.open(d.m / "triggers/a/stream", os.O_RDONLY | os.O_NONBLOCK)
    with pytest.raises(BlockingIOError):
        os.read(fd, 100)
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    epoll = select.epoll()
    epoll.register(fd, select.EPOLLIN)
    assert poll.poll(0) == [] and epoll.poll(0) == []
    d.emit("orders")
    assert poll.poll(20000) == [(fd, select.POLLIN)]
    assert epoll.poll(20)[0][0] == fd
    assert read_lines(fd, 1)[0]["trigger_id"] == "a"
    assert select.select([d_health := os.open(d.m / "health", os.O_RDONLY)], [], [], 0)[0] == [d_health]
    with pytest.raises(OSError) as e:
        os.lseek(fd, 0, os.SEEK_SET)
    assert e.value.errno == errno.ESPIPE
    os.close(fd)
    os.close(d_health)
    epoll.close()


def test_small_reads_give_whole_lines_in_the_end(d: Mounted) -> None:
    fd = os.open(d.m / "events/stream", os.O_RDONLY)
    d.fire("orders", {"text": "x" * 5000})
    data = b""
    while data.count(b"\n") < 2:
        data += os.read(fd, 100)
    assert [e["status"] for e in lines(data)] == ["executing", "completed"]
    os.close(fd)


def test_a_slow_reader_is_told_what_it_lost(d: Mounted) -> None:
    d.post("/api/v1/triggers/a/pause")
    slow = os.open(d.m / "events/stream", os.O_RDONLY | os.O_NONBLOCK)
    fd = os.open(d.m / "emit/orders", os.O_WRONLY)
    for n in range(9_000):
        os.write(fd, b"%d" % n + b"\n")
    os.close(fd)
    data = b""
    try:
        while piece := os.read(slow, 1 << 20):
            data += piece
    except BlockingIOError:
        pass
    seen = lines(data)
    lost = sum(e["gap"] for e in seen if "gap" in e)
    assert lost > 0 and lost + len([e for e in seen if "gap" not in e]) == 9_000
    os.close(slow)


def test_a_thousand_waiting_readers_cost_no_thread_and_little_memory(d: Mounted) -> None:
    def threads() -> int:
        return len(os.listdir(f"/proc/{d.pid}/task"))

    d.fire("orders")
    before, memory = threads(), resident(d)
    readers = subprocess.Popen(["bash", "-c", f"ulimit -n 4096; for i in $(seq 1000); do exec {{fd}}< {d.m}/events/stream; done; "
                                "echo open; sleep 60"], stdout=subprocess.PIPE)
    try:
        assert readers.stdout and readers.stdout.readline() == b"open\n"
        assert threads() == before
        if "asan" not in str(d.build):
            assert resident(d) - memory < 8 * 1000
        d.fire("orders")
    finally:
        readers.kill()
        readers.wait()


def test_waiting_readers_do_not_hold_up_the_end(d: Mounted) -> None:
    readers = [subprocess.Popen(["cat", str(d.m / "events/stream")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
               for _ in range(20)]
    wait_for(lambda: all(has_open(r.pid, d.m / "events/stream") for r in readers), what="open")
    d.stop()
    for reader in readers:
        reader.wait(20)
