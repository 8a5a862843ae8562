"""The FUSE view: the system as files (section 6), with the tools that people use on files."""
from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from harness import ECHO, custom, file_watch, pipeline, script, wait_for
from mounted import Mounted, ask, fails, needs_fuse, wedged_reads, wedged_syncs

pytestmark = needs_fuse

# ---- the tree ----


def test_the_root(d: Mounted) -> None:
    assert sorted(os.listdir(d.m)) == sorted([
        "README", "version", "health", "manifests", "triggers", "pipelines", "events", "by-type", "by-pipeline",
        "by-status", "emit", "errors", "stats.json", "metrics", "schemas"])
    assert (d.m / "version").read_text() == d.get("/api/v1/status")["version"] + "\n"
    assert (d.m / "health").read_text() == "ok\n"
    assert len((d.m / "README").read_text().splitlines()) == 30
    assert json.loads((d.m / "stats.json").read_text()) == d.get("/api/v1/triggers/stats")
    assert "triggerd_queue_depth{" in (d.m / "metrics").read_text()
    schemas = Path(__file__).parents[2] / "schemas"
    assert sorted(os.listdir(d.m / "schemas")) == sorted(os.listdir(schemas))
    for name in os.listdir(schemas):
        assert json.loads((d.m / "schemas" / name).read_text()) == json.loads((schemas / name).read_text())


def test_sizes_are_what_is_read_and_texts_end_in_a_newline(d: Mounted) -> None:
    d.fire("orders")
    d.settle()
    seen = 0
    for folder, _, files in os.walk(d.m):
        for name in files:
            path = Path(folder) / name
            if path.is_symlink() or name in ("metrics", "stream", "stats.json", "log"):
                continue
            text = path.read_bytes()
            assert path.stat().st_size == len(text), path
            if name not in ("stdout", "stderr"):
                assert not text or text.endswith(b"\n"), path
            seen += 1
    assert seen > 20


def test_all_views_say_the_same(d: Mounted) -> None:
    d.fire("orders", {"n": 1})
    event = d.settle("a")[0]
    assert json.loads((d.m / "triggers/a/status.json").read_text()) == d.trigger("a")
    assert json.loads((d.m / f"events/{event['id']}.json").read_text()) == event
    assert json.loads((d.m / f"triggers/a/events/{event['id']}.json").read_text()) == event
    run = d.m / "pipelines/p/runs" / event["run_id"]
    assert json.loads((run / "status.json").read_text()) == d.run(event["run_id"])
    assert json.loads((run / "inputs.json").read_text()) == event["resolved_inputs"]
    assert (run / "steps/s/stdout").read_bytes() == d.http("GET", f"/api/v1/runs/{event['run_id']}/steps/s/stdout").body
    assert os.listdir(d.m / "triggers/a/events") == [f"{event['id']}.json"]
    assert os.listdir(d.m / "pipelines/p/runs") == [event["run_id"]]
    lines = (d.m / "triggers/a/conditions").read_text().splitlines()
    assert {tuple(line.split(" ")[:3]) for line in lines} >= {("Accepted", "True", "Valid")}
    assert {line.split(" ")[0] for line in lines} == {c["type"] for c in d.trigger("a")["conditions"]}


def test_health_tells_of_a_missing_pipeline(d: Mounted) -> None:
    d.put("b.yaml", custom("b", pipeline="gone"))
    assert (d.m / "health").read_text() == 'trigger b: pipeline "gone" not found\n'
    d.post("/api/v1/triggers/b/pause")
    assert (d.m / "health").read_text() == "ok\n"


def test_links_by_type_pipeline_and_status(d: Mounted) -> None:
    for folder in ("by-type/custom", "by-pipeline/p", "by-status/active"):
        assert os.readlink(d.m / folder / "a") == "../../triggers/a"
        assert os.listdir(d.m / folder) == ["a"]
        assert (d.m / folder / "a/status").read_text() == "active\n"
    d.post("/api/v1/triggers/a/pause")
    assert os.listdir(d.m / "by-status/active") == []
    assert os.listdir(d.m / "by-status/paused") == ["a"]


def test_what_is_not_there(d: Mounted) -> None:
    for path in ("triggers/b", "pipelines/x", "by-type/x", "by-status/x", "events/evt_x.json", "emit/nobody", "x",
                 "events/evt_01M87Z4ME3HHW5216V0QB2P719.json", "pipelines/p/runs/x", "triggers/a/x"):
        assert not (d.m / path).exists(), path
    assert "Permission denied" in d.sh("echo x > health").stderr


def test_hard_links_devices_and_attributes_are_refused_cleanly(d: Mounted) -> None:
    for call in (lambda: os.link(d.m / "health", d.m / "health2"), lambda: os.mkfifo(d.m / "fifo"),
                 lambda: os.symlink("x", d.m / "link"), lambda: os.mkdir(d.m / "folder"),
                 lambda: os.rename(d.m / "health", d.m / "h"), lambda: os.unlink(d.m / "health")):
        with pytest.raises(PermissionError):
            call()
    with pytest.raises(OSError) as e:
        os.setxattr(d.m / "health", "user.x", b"1")
    assert e.value.errno == errno.ENOTSUP


# ---- ctl, status, test, emit ----


def test_status_is_written(d: Mounted) -> None:
    d.ok("echo paused > triggers/a/status")
    assert d.trigger("a")["status"] == "paused"
    assert (d.m / "triggers/a/status").read_text() == "paused\n"
    d.ok("echo active > triggers/a/status")
    assert d.trigger("a")["status"] == "active"
    assert "Invalid argument" in d.sh("echo broken > triggers/a/status").stderr
    assert "triggers/a/status: paused uid=0 gid=0 pid=" in d.output()


def test_verbs(d: Mounted) -> None:
    ctl = d.m / "triggers/a/ctl"
    assert ctl.read_text() == "pause\nresume [--discard]\ntest [JSON]\n"
    d.ok("echo pause > triggers/a/ctl")
    assert d.trigger("a")["status"] == "paused"
    d.ok("printf resume > triggers/a/ctl")  # complete when it is closed
    assert d.trigger("a")["status"] == "active"
    event = json.loads(ask(ctl, 'test {"n": 12345678901234567890}\n'))
    assert event["event_type"] == "test"
    assert "12345678901234567890" in (d.m / f"events/{event['id']}.json").read_text()
    for inputs in ("[1]", "null", "7", '"a"'):
        fails(errno.EINVAL, d.m / "pipelines/p/ctl", f"run {inputs}\n")
    run = json.loads(ask(d.m / "pipelines/p/ctl", 'run {"a": 1}\n'))
    assert run["pipeline_id"] == "p" and run["inputs"] == {"a": 1}
    for bad in ("fly\n", "f", "pause now\n", "test {\n", "test {]", "resume --x"):
        fails(errno.EINVAL, ctl, bad)


def test_a_write_of_verbs_is_all_or_nothing(d: Mounted) -> None:
    fails(errno.EINVAL, d.m / "triggers/a/ctl", "pause\nfly\n")
    assert d.trigger("a")["status"] == "active"
    d.ok("printf 'pause\\nresume\\npause\\n' > triggers/a/ctl")
    assert d.trigger("a")["status"] == "paused"


def test_test_tells_and_runs_nothing(d: Mounted) -> None:
    answer = json.loads(ask(d.m / "triggers/a/test", '{"n": 1}\n'))
    assert answer == {**d.post("/api/v1/triggers/a/test?dry_run=true", {"n": 1}),
                      "resolved_inputs": answer["resolved_inputs"]}
    assert answer["decision"] == "fired" and answer["resolved_inputs"]["_trigger_event"]["data"] == {"n": 1}
    assert d.events() == []


def test_emit(d: Mounted) -> None:
    d.ok("echo '{\"n\": 1}' > emit/orders")
    d.ok("jq -n '{n: 2}' > emit/orders")
    d.ok("echo '{\"n\": 3}' | tee emit/orders")
    d.ok("printf 7 > emit/orders")
    answer = json.loads(ask(d.m / "emit/orders", '{"n": 5}', size=7))
    assert answer["triggered_count"] == 1
    assert [e["event_data"] for e in d.wait_events(5, "a")] == [{"n": 1}, {"n": 2}, {"n": 3}, 7, {"n": 5}]


def test_an_emit_where_nobody_listens_reaches_nobody(d: Mounted) -> None:
    """As over REST; but no file says that somebody listens."""
    assert not (d.m / "emit/nobody").exists() and os.listdir(d.m / "emit") == ["orders"]
    d.ok("echo '{}' > emit/nobody")
    fd = os.open(d.m / "emit/nobody", os.O_RDWR | os.O_CREAT)
    os.write(fd, b"{}")
    assert json.loads(os.read(fd, 65536)) == d.emit("nobody") == {"triggered_count": 0, "events": []}
    os.close(fd)
    assert not (d.m / "emit/nobody").exists() and os.listdir(d.m / "emit") == ["orders"]
    assert "Invalid argument" in d.sh("echo '{}' > emit/.hidden").stderr
    assert "Invalid argument" in d.sh("echo nonsense > emit/nobody").stderr
    d.put("b.yaml", custom("b", endpoint="off", enabled=False))  # who is only disabled is somebody
    assert (d.m / "emit/off").exists() and sorted(os.listdir(d.m / "emit")) == ["off", "orders"]


def test_an_endpoint_is_one_file_whoever_has_it_open(d: Mounted) -> None:
    """Those who write at the same time have inodes of their own in the kernel: nobody sees that."""
    path = d.m / "emit/orders"
    with subprocess.Popen(["timeout", "20", "inotifywait", "-q", "-e", "modify", "--format", "%e", str(path)], text=True,
                          stdout=subprocess.PIPE) as watch:
        def watches() -> bool:
            tools = Path(f"/proc/{watch.pid}/task/{watch.pid}/children").read_text().split()
            return any("inotify wd" in info.read_text() for tool in tools
                       for info in Path(f"/proc/{tool}/fdinfo").iterdir())

        wait_for(watches, what="a watch")
        d.ok("echo '{}' > emit/orders")
        assert watch.communicate()[0] == "MODIFY\n"
    fds = [os.open(path, os.O_RDWR) for _ in range(4)]
    seen = {(s.st_dev, s.st_ino) for s in (path.stat(), *(os.fstat(fd) for fd in fds))}
    assert seen == {(d.m.stat().st_dev, next(e.inode() for e in os.scandir(d.m / "emit")))}

    def emit(fd: int) -> list[str]:
        answers = []
        for n in range(20):
            os.write(fd, json.dumps({"fd": fd, "n": n}).encode())
            answers.append(json.loads(os.read(fd, 65536))["events"][0]["id"])
        os.close(fd)
        return answers

    with ThreadPoolExecutor() as writers:
        ids = list(writers.map(emit, fds))
    events = {e["id"]: e["event_data"] for e in d.wait_events(81, "a")}
    assert [[events[id] for id in of] for of in ids] == [[{"fd": fd, "n": n} for n in range(20)] for fd in fds]
    assert path.stat().st_ino in {ino for _, ino in seen} and "orders" in d.ok("find emit -samefile emit/orders")


def test_documents_are_gathered_over_writes(d: Mounted) -> None:
    big = json.dumps({"text": "x" * 300_000})
    for tool in ("cat", "jq .", "tee", "dd bs=1k status=none"):
        subprocess.run(["bash", "-c", f"{tool} > emit/orders"], input=big, text=True, cwd=d.m, check=True,
                       capture_output=True)
    assert [e["event_data"] == json.loads(big) for e in d.wait_events(4, "a")] == [True] * 4
    fd = os.open(d.m / "emit/orders", os.O_WRONLY)
    os.write(fd, b'{"a": [')
    with pytest.raises(OSError) as e:
        os.write(fd, b"}")
    assert e.value.errno == errno.EINVAL
    os.write(fd, b'{"a"')
    with pytest.raises(OSError) as e:
        os.close(fd)
    assert e.value.errno == errno.EINVAL
    for bad in ('{"a": 1} {"a": 2}', '{"a": 1, "a": 2}', '"\\ud800"', "01 "):
        fails(errno.EINVAL, d.m / "emit/orders", bad)
    assert len(d.events("a")) == 4


def test_an_answer_is_given_once_whatever_the_offset(d: Mounted) -> None:
    fd = os.open(d.m / "triggers/a/test", os.O_RDWR)
    os.write(fd, b"{}")
    first = os.pread(fd, 10, 1000)
    rest = os.pread(fd, 100_000, 0)
    assert json.loads(first + rest)["decision"] == "fired"
    assert os.pread(fd, 10, 0) == b""
    os.close(fd)


def test_a_full_queue_is_eagain(d: Mounted) -> None:
    d.put("b.yaml", custom("b", pipeline="slow", endpoint="b", queue_limit=1),
          pipeline("slow", script("sleep 60")))
    for _ in range(2):
        d.ok("echo '{}' > emit/b")
    fails(errno.EAGAIN, d.m / "emit/b", "{}")
    run = next(e["run_id"] for e in d.events("b") if e["status"] == "executing")
    d.ok(f"echo cancel > pipelines/slow/runs/{run}/ctl")
    wait_for(lambda: d.run(run)["status"] == "cancelled", what="cancelled")
    d.post("/api/v1/triggers/b/pause")
    for e in d.events("b"):
        if e["status"] == "executing":
            d.http("POST", f"/api/v1/runs/{e['run_id']}/cancel")


# ---- the mount itself ----


def test_with_a_wedged_store_a_read_ends(d: Mounted) -> None:
    d.fire("orders")
    event = d.settle("a")[0]
    stream = os.open(d.m / "events/stream", os.O_RDONLY | os.O_NONBLOCK)

    def ends(path: str) -> None:
        begin = time.monotonic()
        with pytest.raises(OSError) as e:
            (d.m / path).read_text() if "." in path else os.listdir(d.m / path)
        assert e.value.errno == errno.EIO
        assert time.monotonic() - begin < 5  # the contract's own bound

    with wedged_reads(d.pid):
        with ThreadPoolExecutor() as readers:
            list(readers.map(ends, (f"events/{event['id']}.json", "stats.json", "events",
                                    f"pipelines/p/runs/{event['run_id']}/status.json")))
        assert (d.m / "triggers/a/status").read_text() == "active\n"  # what the store is not asked for
        assert (d.m / "events/log").read_text()
    assert json.loads((d.m / f"events/{event['id']}.json").read_text()) == event
    assert f"{event['id']}.json" in os.listdir(d.m / "events")
    os.close(stream)


def test_with_a_wedged_store_a_write_ends(d: Mounted) -> None:
    """Nobody waits for ever, nor for the others; who is killed is gone at once. What was asked for is done later."""
    d.put("b.yaml", custom("b", endpoint="b"))
    d.ok("echo '{}' > emit/orders")
    d.settle("a")

    def ends(fd: int, text: bytes) -> None:
        with pytest.raises(OSError) as e:
            os.write(fd, text)
        assert e.value.errno == errno.ETIMEDOUT

    with wedged_syncs(d.pid):
        fds = [os.open(d.m / "emit/orders", os.O_WRONLY) for _ in range(2)]
        killed = [subprocess.Popen(["python3", "-c", f"import os; os.write({fd}, b'{{}}')"], pass_fds=[fd],
                                   stderr=subprocess.DEVNULL) for fd in fds]
        wait_for(lambda: all(Path(f"/proc/{p.pid}/wchan").read_text() == "request_wait_answer" for p in killed),
                 what="they wait")
        assert (d.m / "health").read_text()  # (asked after theirs, which therefore are with the daemon)
        for process, signum in zip(killed, (signal.SIGINT, signal.SIGKILL)):
            process.send_signal(signum)
            assert process.wait(20) == -signum
        for fd in fds:
            os.close(fd)
        writes = [*[("emit/orders", b"{}")] * 4, ("triggers/b/ctl", b"pause\n"), ("triggers/a/ctl", b"test\n"),
                  ("pipelines/p/ctl", b"run\n")]
        fds = [os.open(d.m / path, os.O_WRONLY) for path, _ in writes]
        begin = time.monotonic()
        with ThreadPoolExecutor(len(fds)) as writers:
            list(writers.map(ends, fds, [text for _, text in writes]))
        assert time.monotonic() - begin < 55, "one after the other, of 30 s each"
        for fd in fds:
            os.close(fd)
        assert (d.m / "triggers/a/ctl").read_text().startswith("pause\n")
    assert len(d.wait_events(8, "a")) == 8
    assert json.loads(ask(d.m / "emit/orders", "{}"))["triggered_count"] == 1


def test_it_goes_at_the_end_and_a_dead_one_is_replaced(d: Mounted) -> None:
    d.kill9()
    with pytest.raises(OSError) as e:
        os.listdir(d.m)
    assert e.value.errno == errno.ENOTCONN
    d.start()
    assert (d.m / "health").read_text() == "ok\n"
    d.stop()
    assert not os.path.ismount(d.m) and os.listdir(d.m) == []


def test_unmounted_from_outside_it_comes_back(d: Mounted) -> None:
    subprocess.run(["fusermount3", "-u", str(d.m)], check=True)
    wait_for(lambda: "it was unmounted" in d.output(), what="noticed")
    wait_for(lambda: os.path.ismount(d.m), what="mounted again")
    assert (d.m / "triggers/a/status").read_text() == "active\n"
    wait_for(lambda: d.condition("a", "Mounted").get("status") == "True", what="the condition")


def test_unmounted_lazily_it_comes_back(d: Mounted) -> None:
    with (d.m / "events/stream").open():  # in use: the old one stays for this reader
        subprocess.run(["fusermount3", "-u", "-z", str(d.m)], check=True)
        wait_for(lambda: "it was unmounted" in d.output(), what="noticed")
        wait_for(lambda: os.path.ismount(d.m), what="mounted again")
        assert (d.m / "triggers/a/status").read_text() == "active\n"


def test_a_mount_that_fails_stops_nothing_else(make_mounted: Callable[..., Mounted]) -> None:
    d = make_mounted()
    d.m.rmdir()
    d.m.write_text("in the way")
    d.write("a.yaml", custom("a"), ECHO)
    d.start()
    assert d.condition("a", "Mounted")["status"] == "False"
    assert d.fire("a")["status"] == "completed"
    d.put("b.yaml", custom("b"))
    assert d.condition("b", "Mounted") == {**d.condition("a", "Mounted"), "observed_generation": 1}
    d.m.unlink()
    wait_for(lambda: d.condition("a", "Mounted")["status"] == "True", what="mounted after all")
    assert d.condition("b", "Mounted")["status"] == "True"


def test_a_trigger_does_not_watch_the_mount_itself(make_mounted: Callable[..., Mounted]) -> None:
    """By whatever way it would get there; and what is above the mount is watched without it."""
    d = make_mounted("self")
    link = d.root / "link"
    link.symlink_to(d.m / "triggers")
    d.write("m.yaml", ECHO, file_watch("inside", d.m / "manifests" / "*.yaml"), file_watch("later", d.m / "no" / "*"),
            file_watch("link", link / "*"), file_watch("above", d.root / "**" / "*.csv", config={"debounce_seconds": 0}))
    d.start()

    def reason(id: str) -> str:
        trigger = d.get(f"/api/v1/triggers/{id}")
        return f"{trigger['status']} " + next(c["reason"] for c in trigger["conditions"] if c["type"] == "Connected")

    for id in ("inside", "later", "link"):
        wait_for(lambda i=id: reason(i) == "error SelfMount", 20, f"{id} is refused")
        assert "own mount" in d.get(f"/api/v1/triggers/{id}")["error_message"]
    wait_for(lambda: reason("above") == "active Watching", 20, "what is above is watched")
    (d.root / "new.csv").write_text("x")
    wait_for(lambda: d.get("/api/v1/triggers/above/events")["total"] == 1, 20, "its files are seen")


def test_what_triggerd_needs_itself_is_not_in_its_mount(make_mounted: Callable[..., Mounted]) -> None:
    for option in ("--state", "--manifests"):
        d = make_mounted(option.strip("-"))
        link = d.root / "way"
        link.symlink_to(d.m)
        d.args += [option, str(link / "inside")]
        d.spawn()
        assert d.wait(20) == 1 and "(SelfMount)" in d.output()


def test_no_manifest_is_a_link_into_the_mount(d: Mounted) -> None:
    d.put("a.yaml", custom("a"))
    (d.manifests / "b.yaml").symlink_to(d.m / "triggers/a/manifest.yaml")
    wait_for(lambda: [e for e in d.errors() if "b.yaml" in e and "SelfMount" in e], what="refused")
    assert d.exists("a")


def test_no_step_is_started_in_the_mount(d: Mounted) -> None:
    tool = d.m / "manifests/tool.sh"
    tool.write_text("#!/bin/sh\necho ran\n")
    tool.chmod(0o755)
    link = d.root / "way"
    link.symlink_to(d.m / "manifests")
    d.put("s.yaml", pipeline("cwd", {"id": "s", "exec": {"command": ["true"], "cwd": str(link)}}),
          pipeline("command", {"id": "s", "exec": {"command": [str(link / "tool.sh")]}}),
          pipeline("relative", {"id": "s", "exec": {"command": ["./tool.sh"], "cwd": str(d.manifests)}}))
    for name in ("cwd", "command"):
        run = d.post(f"/api/v1/pipelines/{name}/run")
        wait_for(lambda r=run["id"]: d.run(r)["status"] == "failed", what="refused")
        assert "SelfMount" in d.run(run["id"])["error_message"]
    run = d.post("/api/v1/pipelines/relative/run")
    wait_for(lambda: d.run(run["id"])["status"] == "completed", what="beside the mount it runs")


def give(d: Mounted, to: str) -> None:
    """All of it is that user's."""
    subprocess.run(["chown", "-R", to, d.root, d.socket.parent], check=True)


def test_owner_group_modes_and_other_users(near: Path, make_mounted: Callable[..., Mounted]) -> None:
    d = make_mounted(str(near / "d"))
    d.args = ["--config", str(d.root / "triggerd.yaml")]
    (d.root / "triggerd.yaml").write_text(
        f'mount: {{dir: {d.m}, allow_other: true, uid: 65534, gid: 12, umask: "0027"}}\n')
    d.write("a.yaml", custom("a"), ECHO)
    d.start()
    st = (d.m / "triggers/a/ctl").stat()
    assert (st.st_uid, st.st_gid, st.st_mode & 0o7777) == (65534, 12, 0o640)
    assert (d.m / "triggers").stat().st_mode & 0o7777 == 0o750

    def as_user(uid: int, command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "sh", "-c", command],
                              capture_output=True, text=True, cwd="/")

    owner = as_user(65534, f"cat {d.m}/health && echo pause > {d.m}/triggers/a/ctl")
    assert owner.returncode == 0 and owner.stdout == "ok\n", owner.stderr
    assert "triggers/a/ctl: pause uid=65534 gid=65534 pid=" in d.output()
    assert "Permission denied" in as_user(1234, f"cat {d.m}/health").stderr


other_user = pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("fusermount3"),
                                reason="needs root, and fusermount3 of fuse3")


@other_user
def test_an_ordinary_user_mounts_by_fusermount3(near: Path, make_mounted: Callable[..., Mounted]) -> None:
    """Mounted at the start, replaced where it is dead, made again where it was taken away, unmounted at the end."""
    d = make_mounted(str(near / "d"), user="nobody")
    d.write("a.yaml", custom("a", endpoint="orders"), ECHO)
    give(d, "nobody:nogroup")

    def sh(command: str) -> str:
        done = subprocess.run(["bash", "-c", command], cwd="/", capture_output=True, text=True, timeout=20,
                              env={**os.environ, "M": str(d.m)}, **d.identity())
        return done.stdout + done.stderr

    def mounted() -> bool:
        return sh("cat $M/health") == "ok\n"

    def mounts() -> int:
        return Path("/proc/self/mountinfo").read_text().count(f" {d.m} ")

    d.start()
    wait_for(mounted, what="mounted")
    assert sh("stat -c %U:%G $M/triggers/a/ctl") == "nobody:nogroup\n"
    with pytest.raises(PermissionError):  # not even root sees it
        os.listdir(d.m)
    assert sh("echo '{\"n\": 1}' > $M/emit/orders") == ""
    assert d.wait_events(1, "a")[0]["event_data"] == {"n": 1}
    assert sh("sed -i 's/\"name\": \"a\"/\"name\": \"edited\"/' $M/triggers/a/manifest.yaml") == ""
    assert d.trigger("a")["name"] == "edited"
    assert sh("fusermount3 -u -z $M") == ""
    wait_for(lambda: "it was unmounted" in d.output() and mounted(), what="mounted again")
    d.kill9()
    assert "not connected" in sh("ls $M") and mounts() == 1
    d.start()
    wait_for(mounted, what="the dead one replaced")
    assert mounts() == 1
    d.stop()
    assert mounts() == 0 and sh("ls $M") == ""


@other_user
def test_others_are_let_in_where_the_system_allows_it(near: Path, make_mounted: Callable[..., Mounted]) -> None:
    """An ordinary user's mount with allow_other: refused without user_allow_other in /etc/fuse.conf, and told."""
    if re.search(r"^user_allow_other", Path("/etc/fuse.conf").read_text(), re.M):
        pytest.skip("/etc/fuse.conf allows it")
    d = make_mounted(str(near / "d"), user="nobody")
    d.write("a.yaml", custom("a", endpoint="orders"), ECHO)
    d.args = ["--config", str(d.root / "triggerd.yaml")]
    (d.root / "triggerd.yaml").write_text(f"mount: {{dir: {d.m}, allow_other: true}}\n")
    give(d, "nobody:nogroup")
    d.start()
    wait_for(lambda: d.condition("a", "Mounted")["status"] == "False", what="not mounted")
    assert "user_allow_other in /etc/fuse.conf" in d.condition("a", "Mounted")["message"]
    assert d.fire("orders")["status"] == "completed"
