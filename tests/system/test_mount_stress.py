"""Everything at once over the mount, from a seed: for MOUNT_STRESS_SECONDS (4), and with MOUNT_SAVES saves (300) and
MOUNT_KILLS kills (3), and over MOUNT_ENTRIES events and files (2000). By hand, which -s lets tell its figures:

    MOUNT_STRESS_SECONDS=600 MOUNT_SAVES=10000 MOUNT_KILLS=200 MOUNT_ENTRIES=100000 python3 -m pytest -s tests/system/test_mount_stress.py
"""
from __future__ import annotations

import errno
import json
import os
import random
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from harness import ECHO, wait_for
from mounted import Mounted, needs_fuse
from test_mount_manifests import bad, text

pytestmark = needs_fuse

SECONDS = float(os.environ.get("MOUNT_STRESS_SECONDS", "4"))
SAVES = int(os.environ.get("MOUNT_SAVES", "300"))
KILLS = int(os.environ.get("MOUNT_KILLS", "3"))
ENTRIES = int(os.environ.get("MOUNT_ENTRIES", "2000"))
SEED = int(os.environ.get("MOUNT_SEED", "0")) or random.randrange(1 << 30)


@pytest.fixture
def s(make_mounted: Callable[..., Mounted]) -> Mounted:
    d = make_mounted()
    d.write("p.yaml", ECHO)
    for i in range(4):
        d.write(f"w{i}.yaml", text(f"w{i}"))
    d.start()
    return d


class Worker(threading.Thread):
    def __init__(self, work: Callable[[random.Random, Callable[[], bool]], None], seed: int) -> None:
        super().__init__(daemon=True)
        self.work, self.random = work, random.Random(seed)
        self.failure: BaseException | None = None
        self.end = time.monotonic() + SECONDS
        self.rounds = 0

    def going(self) -> bool:
        self.rounds += 1
        return time.monotonic() < self.end

    def run(self) -> None:
        try:
            self.work(self.random, self.going)
        except BaseException as e:
            self.failure = e


def run_all(workers: list[Worker]) -> None:
    for w in workers:
        w.start()
    for w in workers:
        w.join(SECONDS + 60)
        assert not w.is_alive(), f"hangs (seed {SEED})"
        if w.failure:
            raise AssertionError(f"seed {SEED}") from w.failure


def fsx(file: Path) -> Callable[[random.Random, Callable[[], bool]], None]:
    """Writes, truncations and reads at places, against a model of what the file holds."""
    def work(rnd: random.Random, going: Callable[[], bool]) -> None:
        model = bytearray()
        fd = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
        while going():
            at, size = rnd.randrange(200_000), rnd.randrange(1, 30_000)
            match rnd.randrange(6):
                case 0 | 1:
                    data = rnd.randbytes(size)
                    model.extend(bytes(max(0, at + size - len(model))))
                    model[at:at + size] = data
                    assert os.pwrite(fd, data, at) == size
                case 2 | 3:
                    assert os.pread(fd, size, at) == model[at:at + size]
                case 4:
                    if len(model) < at:
                        model.extend(bytes(at - len(model)))
                    del model[at:]
                    os.ftruncate(fd, at)
                case 5:
                    os.fsync(fd) if rnd.random() < 0.1 else None
                    os.close(fd)
                    fd = os.open(file, os.O_RDWR)
                    assert os.fstat(fd).st_size == len(model)
        os.close(fd)
        assert file.read_bytes() == model
    return work


def edits(d: Mounted, id: str, names: dict[str, str]) -> Callable[[random.Random, Callable[[], bool]], None]:
    """Saves of every kind of one trigger's manifest; `names` gets the name it must have in the end."""
    def work(rnd: random.Random, going: Callable[[], bool]) -> None:
        number = 0
        while going():
            number += 1
            file = d.m / rnd.choice([f"manifests/{id}.yaml", f"triggers/{id}/manifest.yaml"])
            beside = file.with_name(rnd.choice([f"{id}.yaml~", f".{id}.yaml.swp", f"sed{id}XYZ1"]))
            good = text(id, f"n{number}")
            match rnd.randrange(6):
                case 0 | 1:
                    file.write_text(good)
                    names[id] = f"n{number}"
                case 2:
                    beside.write_text(good)
                    beside.rename(file)
                    names[id] = f"n{number}"
                case 3:
                    with pytest.raises(OSError):
                        file.write_text(bad(id))
                case 4:
                    file.rename(beside)
                    file.write_text(good)
                    beside.unlink()
                    names[id] = f"n{number}"
                case 5:
                    shown = file.read_text()
                    assert shown.endswith("\n") and f"id: {id}\n" in shown
            status = json.loads((d.m / f"triggers/{id}/status.json").read_text())
            assert status["name"] == names.get(id, id), file
    return work


def looks(d: Mounted) -> Callable[[random.Random, Callable[[], bool]], None]:
    """Walks, reads at places, and readers of streams that go away at any moment."""
    def work(rnd: random.Random, going: Callable[[], bool]) -> None:
        held: list[int] = []
        while going():
            match rnd.randrange(4):
                case 0:
                    for folder, _, files in os.walk(d.m / rnd.choice(["triggers", "by-status", "pipelines", "manifests"])):
                        for name in files:
                            if name not in ("stream",):
                                with suppress(OSError):  # it may be gone by now, or be a link to a folder
                                    (Path(folder) / name).read_bytes()
                case 1:
                    held.append(os.open(d.m / "events/stream", os.O_RDONLY | os.O_NONBLOCK))
                    with suppress(BlockingIOError):
                        os.read(rnd.choice(held), 100)
                    if len(held) > 20:
                        os.close(held.pop(0))
                case 2:
                    waiting = subprocess.Popen(["cat", str(d.m / "events/stream")], stdout=subprocess.DEVNULL)
                    time.sleep(rnd.random() / 50)
                    waiting.kill()
                    waiting.wait()
                case 3:
                    with suppress(OSError):
                        (d.m / "emit/w0").write_text(rnd.choice(['{"n": 1}', "{", "7", "[1"]))
        for fd in held:
            os.close(fd)
    return work


def folders(d: Mounted) -> Callable[[random.Random, Callable[[], bool]], None]:
    """Triggers that come and go with their folders."""
    def work(rnd: random.Random, going: Callable[[], bool]) -> None:
        while going():
            id = f"f{rnd.randrange(3)}"
            home = d.m / "triggers" / id
            with suppress(FileExistsError):
                home.mkdir()
            (home / "manifest.yaml").write_text(text(id))
            assert (home / "status").read_text() == "active\n"
            if rnd.random() < 0.7:
                home.rmdir()
                assert not home.exists()
    return work


def test_everything_at_once(s: Mounted) -> None:
    names: dict[str, str] = {}
    work = [fsx(s.m / "manifests/one.bin"), fsx(s.m / "manifests/two.bin"), folders(s), looks(s), looks(s)]
    work += [edits(s, f"w{i}", names) for i in range(4)]
    workers = [Worker(w, SEED + i) for i, w in enumerate(work)]
    run_all(workers)
    for id, name in names.items():
        assert s.trigger(id)["name"] == name
        assert f"name: {name}\n" in (s.manifests / f"{id}.yaml").read_text()
    print(f"seed {SEED}, {SECONDS:g} s: {sum(w.rounds for w in workers)} rounds of {len(workers)} workers")
    left = {n for n in os.listdir(s.manifests) if not n.startswith("f")}
    assert left == {"p.yaml", "one.bin", "two.bin", *(f"w{i}.yaml" for i in range(4))}


def test_no_save_is_lost_or_doubled(s: Mounted) -> None:
    begin = s.trigger("w1")["generation"]
    for i in range(SAVES):
        file = s.m / ("manifests/w1.yaml" if i % 2 else "triggers/w1/manifest.yaml")
        match i % 3:
            case 0:
                file.write_text(text("w1", f"s{i}"))
            case 1:
                file.with_name("w1.tmp").write_text(text("w1", f"s{i}"))
                file.with_name("w1.tmp").rename(file)
            case 2:
                file.rename(file.with_name("w1.yaml~"))
                file.write_text(text("w1", f"s{i}"))
                file.with_name("w1.yaml~").unlink()
    assert s.trigger("w1")["generation"] == begin + SAVES
    print(f"{SAVES} saves, {s.trigger('w1')['generation'] - begin} generations")


def test_kill_under_readers(s: Mounted) -> None:
    """kill -9 with 50 readers at work: none of them hangs, and the next start mounts."""
    loop = "while cat triggers/w1/status.json > /dev/null 2>&1; do :; done"
    gone, mounted = [], []
    for round in range(KILLS):
        readers = [subprocess.Popen(["bash", "-c", loop if i % 2 else "cat events/stream"], cwd=s.m,
                                    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for i in range(50)]
        time.sleep(0.2)
        s.kill9()
        begin = time.monotonic()
        for reader in readers:
            reader.wait(30)
        gone.append(time.monotonic() - begin)
        with pytest.raises(OSError) as e:
            os.listdir(s.m)
        assert e.value.errno == errno.ENOTCONN
        begin = time.monotonic()
        s.start()
        wait_for(lambda: (s.m / "health").read_text() == "ok\n", what=f"mounted again, round {round}")
        mounted.append(time.monotonic() - begin)
    print(f"{KILLS} kills: 50 readers gone within {max(gone):.2f} s, mounted within {max(mounted):.2f} s of a start")


def test_find_du_and_tar_over_many_events(s: Mounted) -> None:
    s.post("/api/v1/triggers/w1/pause")  # an event is a row then, and no run
    fd = os.open(s.m / "emit/w1", os.O_RDWR)
    os.write(fd, b"{}")
    oldest = json.loads(os.read(fd, 65536))["events"][0]["id"]
    for n in range(1, ENTRIES):
        os.write(fd, b'{"n": %d}' % n)
    os.close(fd)
    assert s.get("/api/v1/triggers/events?page_size=1")["total"] == ENTRIES

    def walk() -> None:
        for folder in ("events", "triggers/w1/events"):
            names = s.ok(f"find {folder} -name 'evt_*.json'", 120).splitlines()
            assert len(names) == min(ENTRIES, 1000)
            assert s.ok(f"du -s --apparent-size -B1 {folder}", 120)
            packed = s.ok(f"tar --exclude=stream --exclude=log -cf {s.data}/x.tar {folder} && tar -tf {s.data}/x.tar", 120)
            assert len(packed.splitlines()) == min(ENTRIES, 1000) + 1

    walk()
    before = s.memory()
    for _ in range(3):
        walk()
    grown = s.memory() - before
    assert grown < (30_000 if s.sanitized else 3_000), "KiB"
    assert json.loads((s.m / f"events/{oldest}.json").read_text())["id"] == oldest  # not listed, and there
    print(f"{ENTRIES} events: find, du and tar, three times: {grown} KiB more than before; {s.memory()} KiB resident")


def test_a_listing_of_a_changing_folder(s: Mounted) -> None:
    """What stays is listed once, whatever comes and goes; a folder read anew shows what there is now."""
    folder = s.m / "manifests/.many"
    folder.mkdir()
    real = s.manifests / ".many"
    for n in range(ENTRIES):
        (real / f"stays-{n}").touch()
        if n % 10 == 0:
            (real / f"goes-{n}").touch()
    memory = s.memory()
    with os.scandir(folder) as entries:
        seen = []
        for i, entry in enumerate(entries):
            seen.append(entry.name)
            if i % 100 == 0 and i * 10 < ENTRIES:
                (folder / f"goes-{i * 10}").unlink()
                (folder / f"comes-{i}").touch()
    stays = [name for name in seen if name.startswith("stays-")]
    assert len(stays) == len(set(stays)) == ENTRIES
    assert len(seen) == len(set(seen))
    assert sorted(os.listdir(folder)) == sorted(os.listdir(real))
    print(f"{len(seen)} entries listed while others came and went: {s.memory() - memory} KiB more")
