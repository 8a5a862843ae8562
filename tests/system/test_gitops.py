"""Manifests that arrive by git and its kin: the commit that is shown, one log line a change, and every way in."""
from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness import ECHO, Daemon, custom, documents, never, pipeline, wait_for, write_atomic

pytestmark = pytest.mark.skipif(not shutil.which("git"), reason="no git")


class Git:
    """A work tree, driven as people do it; nothing of this machine's settings counts."""

    def __init__(self, path: Path, init: bool = True) -> None:
        self.path = path
        if init:
            path.mkdir(parents=True, exist_ok=True)
            self("init", "-q", "-b", "main")

    def __call__(self, *args: str | Path, check: bool = True) -> str:
        env = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null", "GIT_EDITOR": "true"}
        names = [w for role in ("AUTHOR", "COMMITTER") for w in (f"GIT_{role}_NAME", f"GIT_{role}_EMAIL")]
        done = subprocess.run(["git", "-C", str(self.path), *map(str, args)], capture_output=True, text=True,
                              env={**env, **dict.fromkeys(names, "n@example.org")})
        assert not check or done.returncode == 0, done.stderr + done.stdout
        return done.stdout.strip()

    def commit(self, subject: str, *options: str) -> str:
        self("add", "-A")
        self("commit", "-q", "-m", subject, *options)
        return self.head()

    def head(self) -> str:
        return self("rev-parse", "HEAD")


@pytest.fixture
def git(daemon: Daemon) -> Git:
    """The manifest directory as a work tree."""
    return Git(daemon.manifests)


def source(d: Daemon, id: str) -> dict[str, Any]:
    found = d.http("GET", f"/api/v1/triggers/{id}")
    return found.json()["source"] if found.status == 200 else {"commit": "", "dirty": None, "file": "", "line": 0}


def at(d: Daemon, id: str, commit: str | None, dirty: bool | None = False) -> None:
    """Wait until the trigger shows that commit, and its file (not) as it is there."""
    wait_for(lambda: (source(d, id)["commit"], source(d, id)["dirty"]) == (commit, dirty),
             what=f"{id} at {commit}, dirty: {dirty}; {source(d, id)}")


def lines(d: Daemon, word: str) -> list[str]:
    return [line for line in d.output().splitlines() if " reconcile: " in line and word in line]


def line(d: Daemon, word: str, count: int = 1) -> str:
    """The newest of exactly `count` lines of the log that have the word."""
    found = wait_for(lambda: (have := lines(d, word)) and len(have) >= count and have, what=f"{word!r} in the log")
    assert len(found) == count, found
    return found[-1]


# ---- provenance ----


def test_commit_subject_time_and_dirty(daemon: Daemon, git: Git) -> None:
    daemon.put("p.yaml", ECHO)
    daemon.put("t.yaml", custom("t"))
    assert source(daemon, "t")["commit"] is None and source(daemon, "t")["dirty"] is None
    os.environ["GIT_AUTHOR_DATE"] = "2026-01-02T03:04:05+02:00"
    try:
        first = git.commit("trigger: the first one\n\nand a body")
    finally:
        del os.environ["GIT_AUTHOR_DATE"]
    at(daemon, "t", first)
    shown = source(daemon, "t")
    assert (shown["commit_subject"], shown["commit_authored_at"]) == ("trigger: the first one", "2026-01-02T01:04:05.000Z")
    assert daemon.get("/api/v1/pipelines/p")["source"]["commit"] == first

    daemon.put("t.yaml", custom("t", cooldown_seconds=1))
    at(daemon, "t", first, dirty=True)
    daemon.put("new.yaml", custom("new"))
    at(daemon, "new", first, dirty=True)  # not tracked
    assert daemon.get("/api/v1/pipelines/p")["source"]["dirty"] is False  # its own file alone counts
    files = {Path(m["file"]).name: m for m in daemon.get("/api/v1/manifests")["manifests"]}
    assert [(files[n]["commit"], files[n]["dirty"]) for n in ("t.yaml", "new.yaml", "p.yaml")] == [
        (first, True), (first, True), (first, False)]
    text = daemon.ctl("describe", "trigger", "t").stdout
    assert re.search(rf"Commit.*{first[:12]}-dirty  trigger: the first one", text), text
    assert "Authored" in text and "2026-01-02T01:04:05.000Z" in text and "Dirty" in text, text
    assert f"{first[:12]}-dirty" in daemon.ctl("get", "manifests").stdout

    second = git.commit("slower")
    at(daemon, "t", second)
    at(daemon, "new", second)
    text = daemon.ctl("describe", "pipeline", "p").stdout
    assert f"{second[:12]}  slower" in text and "Dirty" not in text, text

    daemon.put("t.yaml", custom("t"))  # what HEAD~1 has is not what HEAD has
    at(daemon, "t", second, dirty=True)
    git("checkout", "-q", "--", "t.yaml")
    at(daemon, "t", second)
    third = git("commit", "-q", "--allow-empty", "-m", "nothing") or git.head()
    at(daemon, "t", third)
    daemon.restart()
    at(daemon, "t", third)


def test_every_way_that_head_moves(daemon: Daemon, git: Git) -> None:
    daemon.put("t.yaml", custom("t"))
    first = git.commit("first")
    at(daemon, "t", first)
    git("checkout", "-q", "-b", "topic/deep/er")
    second = git("commit", "-q", "--allow-empty", "-m", "second") or git.head()
    at(daemon, "t", second)
    git("checkout", "-q", "main")
    at(daemon, "t", first)
    git("pack-refs", "--all")
    git("gc", "-q")
    git("checkout", "-q", "--detach", second)
    at(daemon, "t", second)
    git("checkout", "-q", "main")
    git("update-ref", "refs/heads/main", second)  # out of a packed reference
    at(daemon, "t", second)
    git("symbolic-ref", "refs/heads/alias", "refs/heads/topic/deep/er")
    git("symbolic-ref", "HEAD", "refs/heads/alias")
    git("update-ref", "refs/heads/topic/deep/er", first)
    at(daemon, "t", first)
    git("checkout", "-q", "--orphan", "empty")
    at(daemon, "t", None, None)
    git("checkout", "-q", "-f", "main")
    at(daemon, "t", second)
    (daemon.manifests / ".git").rename(daemon.root / "hidden")
    at(daemon, "t", None, None)
    (daemon.root / "hidden").rename(daemon.manifests / ".git")
    at(daemon, "t", second)


def test_a_folder_of_a_work_tree_that_comes_later(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon()
    top = daemon.root / "repository"
    daemon.manifests = top / "deploy" / "manifests"
    daemon.manifests.mkdir(parents=True)
    daemon.start()
    daemon.put("sub/t.yaml", custom("t"))
    at(daemon, "t", None, None)
    head = Git(top).commit("all of it")
    at(daemon, "t", head)
    (top / "other").write_text("changed\n")  # of no resource
    daemon.put("sub/t.yaml", custom("t", cooldown_seconds=1))
    at(daemon, "t", head, dirty=True)


def test_linked_work_trees_and_submodules(make_daemon: Callable[..., Daemon], tmp_path: Path) -> None:
    main = Git(tmp_path / "main")
    write_atomic(main.path / "t.yaml", documents(custom("t")))
    first = main.commit("first")
    main("worktree", "add", "-q", "-b", "live", tmp_path / "live")
    daemon = make_daemon()
    daemon.manifests = tmp_path / "live"
    daemon.start()
    at(daemon, "t", first)
    live = Git(daemon.manifests, init=False)
    daemon.put("t.yaml", custom("t", cooldown_seconds=2))
    second = live.commit("only here")
    at(daemon, "t", second)
    main("commit", "-q", "--allow-empty", "-m", "not here")
    live("-c", "protocol.file.allow=always", "submodule", "add", "-q", main.path, "sub")
    write_atomic(daemon.manifests / "sub" / "t.yaml", documents(custom("inner")))
    inner = Git(daemon.manifests / "sub", init=False).commit("inner")
    at(daemon, "inner", inner)
    at(daemon, "t", second)
    third = live.commit("with a submodule")
    at(daemon, "t", third)
    at(daemon, "inner", inner)


def test_a_clone_moved_into_the_directory(daemon: Daemon) -> None:
    team = Git(daemon.root / "team")
    write_atomic(team.path / "t.yaml", documents(custom("t")))
    head = team.commit("ours")
    daemon.put("own.yaml", custom("own"))
    team.path.rename(daemon.manifests / "a")
    at(daemon, "t", head)
    at(daemon, "own", None, None)
    (daemon.manifests / "a").rename(daemon.manifests / "b")
    wait_for(lambda: source(daemon, "t")["file"].endswith("/b/t.yaml"))
    at(daemon, "t", head)
    moved = Git(daemon.manifests / "b", init=False)("commit", "-q", "--allow-empty", "-m", "on") or Git(
        daemon.manifests / "b", init=False).head()
    at(daemon, "t", moved)
    shutil.rmtree(daemon.manifests / "b" / ".git")
    at(daemon, "t", None, None)


def test_line_ends_and_links_are_as_git_sees_them(daemon: Daemon, git: Git) -> None:
    (daemon.manifests / ".gitattributes").write_text("*.yaml text eol=crlf\n")
    (daemon.manifests / "t.yaml").write_bytes(documents(custom("t")).replace("\n", "\r\n").encode())
    (daemon.manifests / "link.yaml").symlink_to("real.txt")
    (daemon.manifests / "real.txt").write_text(documents(custom("linked")))
    head = git.commit("crlf")
    assert b"\r" not in subprocess.run(["git", "-C", str(git.path), "cat-file", "-p", "HEAD:t.yaml"],
                                       capture_output=True).stdout
    at(daemon, "t", head)
    at(daemon, "linked", head)
    (daemon.manifests / "t.yaml").write_bytes(documents(custom("t", cooldown_seconds=1)).replace("\n", "\r\n").encode())
    at(daemon, "t", head, dirty=True)


@pytest.mark.parametrize("harm", [
    "garbage in HEAD", "HEAD is a FIFO", "a ref is a FIFO", "config is a FIFO", "no objects", "a broken object", "bare",
    "work tree elsewhere", "a .git file that leads nowhere", "a .git FIFO", "an unknown format", "garbage in packed-refs",
    "circular references", "config that includes", "an object is a FIFO"])
def test_a_broken_repository_does_no_harm(make_daemon: Callable[..., Daemon], harm: str) -> None:
    daemon = make_daemon(args=("--log-level", "debug"))
    daemon.manifests.mkdir(parents=True, exist_ok=True)
    git = Git(daemon.manifests)
    (daemon.manifests / "p.yaml").write_text(documents(ECHO))
    (daemon.manifests / "t.yaml").write_text(documents(custom("t")))
    head = git.commit("good")
    dot, shown = daemon.manifests / ".git", None

    def replace(path: Path, text: str | None = None) -> None:
        path.unlink()
        os.mkfifo(path) if text is None else path.write_text(text)

    if harm == "garbage in HEAD":
        replace(dot / "HEAD", "\0\xff garbage" * 1000)
    elif harm == "HEAD is a FIFO":
        replace(dot / "HEAD")
    elif harm == "a ref is a FIFO":
        replace(dot / "refs/heads/main")
    elif harm == "config is a FIFO":
        replace(dot / "config")
    elif harm == "no objects":
        shutil.rmtree(dot / "objects")
        (dot / "objects").mkdir()
    elif harm == "a broken object":
        path = dot / "objects" / head[:2] / head[2:]
        path.chmod(0o644)
        path.write_bytes(path.read_bytes()[:20])
    elif harm == "an object is a FIFO":
        daemon.hangs = True
        replace(dot / "objects" / head[:2] / head[2:])
    elif harm == "bare":
        git("config", "core.bare", "true")
    elif harm == "work tree elsewhere":
        git("config", "core.worktree", "/usr")
    elif harm == "a .git file that leads nowhere":
        shutil.rmtree(dot)
        dot.write_text("gitdir: /nowhere\n")
    elif harm == "a .git FIFO":
        shutil.rmtree(dot)
        os.mkfifo(dot)
    elif harm == "an unknown format":
        (dot / "config").write_text("[core]\n\trepositoryformatversion = 7\n")
    elif harm == "garbage in packed-refs":
        (dot / "packed-refs").write_bytes(b"\xff\0 garbage\n" * 1000)
        (dot / "refs/heads/main").unlink()
    elif harm == "circular references":
        (dot / "refs/heads/main").write_text("ref: refs/heads/other\n")
        (dot / "refs/heads/other").write_text("ref: refs/heads/main\n")
    else:  # read by nobody who only wants a commit's name
        git("config", "core.fsmonitor", "touch " + str(daemon.root / "ran"))
        git("config", "core.hooksPath", str(daemon.root))
        git("config", "filter.evil.clean", "touch " + str(daemon.root / "ran"))
        (dot / "info/attributes").write_text("* filter=evil\n")
        shown = head
    daemon.start()
    assert daemon.out("t") is not None
    if shown:
        at(daemon, "t", shown)
    else:
        never(lambda: source(daemon, "t")["commit"], 0.5)
        if not daemon.hangs:  # libgit2 waits for it, and we do not wait for libgit2
            wait_for(lambda: "no commit is shown: " in daemon.output(), what="why not")
    daemon.put("t.yaml", custom("t", cooldown_seconds=0.5))  # goes on as ever
    assert not (daemon.root / "ran").exists()
    daemon.stop(timeout=20)


def test_a_repository_that_hangs_holds_up_nothing(daemon: Daemon, git: Git) -> None:
    daemon.hangs = True
    daemon.put("p.yaml", ECHO)
    daemon.put("t.yaml", custom("t"))
    head = git.commit("good")
    at(daemon, "t", head)
    path = daemon.manifests / ".git/objects" / head[:2] / head[2:]
    path.unlink()
    os.mkfifo(path)  # a file system that does not answer
    for cooldown in (0.1, 0.2, 0.3):
        daemon.put("t.yaml", custom("t", cooldown_seconds=cooldown))
    assert source(daemon, "t")["commit"] == head and daemon.out("t") is not None
    daemon.http("PUT", "/api/v1/triggers/t", {"cooldown_seconds": 0.4}).ok()
    assert daemon.trigger("t")["cooldown_seconds"] == 0.4
    daemon.stop(timeout=20)


@pytest.mark.skipif(os.getuid() != 0, reason="gives files away")
def test_the_owner_of_the_work_tree_is_another(daemon: Daemon, git: Git) -> None:
    daemon.put("t.yaml", custom("t"))
    head = git.commit("theirs")
    for path in [daemon.manifests, *daemon.manifests.rglob("*")]:
        os.chown(path, 12345, 12345)
    daemon.restart()
    at(daemon, "t", head)


def test_settings_of_user_and_system_do_not_count(make_daemon: Callable[..., Daemon], tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / ".gitconfig").write_text("[core]\n\tworktree = /usr\n\tbare = true\n\tautocrlf = true\n[broken\n")
    daemon = make_daemon(env={"HOME": str(home), "XDG_CONFIG_HOME": str(home), "GIT_DIR": "/nowhere",
                              "GIT_WORK_TREE": "/usr", "GIT_CEILING_DIRECTORIES": "/"})
    daemon.manifests.mkdir(parents=True, exist_ok=True)
    git = Git(daemon.manifests)
    (daemon.manifests / "t.yaml").write_text(documents(custom("t")))
    head = git.commit("as it is")
    daemon.start()
    at(daemon, "t", head)


# ---- one line a change ----


def test_log_lines(daemon: Daemon, git: Git) -> None:
    daemon.put("p.yaml", ECHO)
    path = daemon.put("t.yaml", custom("t"), custom("other"))
    head = git.commit("first")
    at(daemon, "t", head)
    text = line(daemon, 'trigger "t" created')
    assert f"file={path}:2" in text, text
    daemon.put("t.yaml", custom("t", cooldown_seconds=7, config={"filter": {"secret": ["hunter2"]}}), custom("other"))
    text = line(daemon, 'trigger "t" changed')
    assert "changed: config.filter, cooldown_seconds " in text and f"file={path}:2" in text, text
    assert f"commit={head[:12]}-dirty" in text, text
    assert "hunter2" not in daemon.output() and not lines(daemon, '"other" changed')
    second = git.commit("slower")
    line(daemon, f'is at commit {second[:12]} "slower"')

    write_atomic(path, documents(custom("t", cooldown_seconds="soon"), custom("other")))
    text = line(daemon, 'trigger "t" rejected')
    assert re.search(rf"goes on as it was: {path}:\d+:\d+: cooldown_seconds: expected", text), text
    line(daemon, "cooldown_seconds: expected")  # no second one of the file
    daemon.put("t.yaml", custom("t", cooldown_seconds=8, config={"filter": {"secret": ["hunter2"]}}), custom("other"))
    assert "accepted again, changed: cooldown_seconds " in line(daemon, 'trigger "t" accepted')
    (daemon.manifests / "sub").mkdir()
    path.rename(daemon.manifests / "sub" / "u.yaml")
    text = line(daemon, 'trigger "t" moved')
    assert f"moved from {path} file={daemon.manifests}/sub/u.yaml:2" in text, text
    (daemon.manifests / "sub" / "u.yaml").unlink()
    assert "u.yaml:2" in line(daemon, 'trigger "t" deleted')

    step = {"id": "s", "exec": {"command": ["true"]}}
    daemon.put("q.yaml", pipeline("q", step))
    daemon.put("q.yaml", pipeline("q", step, {"id": "more", "exec": {"command": ["true"]}}))
    assert "changed: steps.more" in line(daemon, 'pipeline "q" changed')
    before = len(daemon.output())
    daemon.restart()
    assert '"q"' not in daemon.output()[before:], "a restart is no change"
    daemon.stop()
    write_atomic(daemon.manifests / "q.yaml", documents(pipeline("q", {**step, "timeout_seconds": 3})))
    daemon.start()
    assert "changed: steps.s, steps.more" in line(daemon, 'pipeline "q" changed', 2)


def test_no_line_without_a_change(daemon: Daemon, git: Git) -> None:
    path = daemon.put("t.yaml", custom("a"), custom("b"))
    git.commit("first")
    wait_for(lambda: lines(daemon, "is at commit"))
    before = len(lines(daemon, ""))
    path.write_text("# a comment\n" + path.read_text())
    wait_for(lambda: source(daemon, "a")["line"] == 3)
    path.write_text(documents(custom("b"), custom("a")))
    wait_for(lambda: source(daemon, "a")["line"] > source(daemon, "b")["line"])
    assert len(lines(daemon, "")) == before, lines(daemon, "")[before:]
    assert daemon.trigger("a")["generation"] == daemon.trigger("b")["generation"] == 1


def test_lines_as_json(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon(args=("--log-format", "json"))
    Git(daemon.manifests)
    daemon.start()
    path = daemon.put("t.yaml", custom("t"))
    found = [json.loads(text) for text in daemon.output().splitlines() if 'trigger \\"t\\" created' in text]
    assert len(found) == 1 and found[0]["file"] == f"{path}:2" and found[0]["area"] == "reconcile", found


# ---- arrival ----


def values(d: Daemon) -> set[float]:
    """The cooldowns of the first hundred triggers, in one look."""
    return {t["cooldown_seconds"] for t in d.get("/api/v1/triggers?page_size=100")["triggers"]}


def write_many(dir: Path, count: int, cooldown: float) -> None:
    dir.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        (dir / f"t{i}.yaml").write_text(documents(custom(f"t{i}", cooldown_seconds=cooldown)))


def widest_pause(dir: Path) -> float:
    """Between two writes of files, in seconds."""
    times = sorted(p.stat().st_ctime_ns for p in dir.glob("*.yaml"))
    return max(b - a for a, b in zip(times, times[1:])) / 1e9


def test_a_checkout_of_200_files_is_one_step(daemon: Daemon, git: Git) -> None:
    branches = {"slow": 1, "fast": 2}
    heads = {}
    for name, cooldown in branches.items():
        git("checkout", "-q", "--orphan", name)
        write_many(daemon.manifests, 200, cooldown)
        heads[name] = git.commit(name)
        wait_for(lambda cooldown=cooldown: values(daemon) == {cooldown})
        at(daemon, "t0", heads[name])
    for name in ("slow", "fast") * 5:
        before, generation = len(lines(daemon, "")), daemon.trigger("t0")["generation"]
        seen: list[set[float]] = []
        git("checkout", "-q", name)
        wait_for(lambda name=name: (seen.append(values(daemon)), seen[-1] == {branches[name]})[1])
        at(daemon, "t0", heads[name])
        if widest_pause(daemon.manifests) < 0.08:  # else git itself paused for longer than a burst does
            break
        time.sleep(0.5)
    else:
        pytest.skip("the machine is too busy for a checkout in one go")
    assert len(seen[0]) == 1 and all(len(s) == 1 for s in seen), seen
    changed = [text for text in lines(daemon, "")[before:] if "changed: cooldown_seconds " in text]
    assert len(changed) == 200 and all(text.endswith(f"commit={heads[name][:12]}") for text in changed), changed[:3]
    assert all(daemon.trigger(f"t{i}")["generation"] == generation + 1 for i in (0, 99, 199))


def test_writes_in_place(daemon: Daemon) -> None:
    daemon.put("p.yaml", ECHO)
    path = daemon.put("t.yaml", custom("t", cooldown_seconds=1))
    text = path.read_text()
    with open(path, "r+") as f:  # without truncating it
        f.seek(text.index('"cooldown_seconds": 1') + len('"cooldown_seconds": '))
        f.write("2")
    wait_for(lambda: daemon.trigger("t")["cooldown_seconds"] == 2)
    with open(path, "r+") as f:  # a slow writer: what is half there is not looked at
        f.truncate(40)
        f.flush()
        never(lambda: daemon.errors() or not daemon.exists("t"), 0.6)
        f.seek(0)
        f.write(text.replace('"cooldown_seconds": 1', '"cooldown_seconds": 3'))
        f.flush()
        never(lambda: daemon.trigger("t")["cooldown_seconds"] != 2, 0.4)
    wait_for(lambda: daemon.trigger("t")["cooldown_seconds"] == 3)
    with open(path, "a") as f:
        f.write("cooldown_policy: nonsense\n")  # behind a flow mapping
    wait_for(daemon.errors)
    assert daemon.trigger("t")["cooldown_seconds"] == 3 and daemon.condition("t", "Accepted")["status"] == "False"
    assert daemon.out("t") is not None


def test_a_writer_that_never_closes_is_read_after_ten_seconds(daemon: Daemon) -> None:
    daemon.put("t.yaml", custom("t", cooldown_seconds=1))
    with open(daemon.manifests / "t.yaml", "w") as f:
        f.write("name: [half\n")
        f.flush()
        never(daemon.errors, 8)
        wait_for(daemon.errors)
        assert daemon.trigger("t")["cooldown_seconds"] == 1
        f.seek(0)
        f.truncate()
        f.write(documents(custom("t", cooldown_seconds=2)))
        f.flush()
        wait_for(lambda: daemon.trigger("t")["cooldown_seconds"] == 2, 30)
    assert daemon.errors() == []


def test_a_merge_conflict_harms_nothing(daemon: Daemon, git: Git) -> None:
    daemon.put("p.yaml", ECHO)
    daemon.put("other.yaml", custom("other"))
    daemon.put("t.yaml", custom("t", cooldown_seconds=1))
    git.commit("base")
    git("checkout", "-q", "-b", "theirs")
    daemon.put("t.yaml", custom("t", cooldown_seconds=2))
    daemon.put("other.yaml", custom("other", cooldown_seconds=0.25))
    git.commit("theirs")
    git("checkout", "-q", "main")
    daemon.put("t.yaml", custom("t", cooldown_seconds=3))
    ours = git.commit("ours")
    git("merge", "-q", "theirs", check=False)
    text = (daemon.manifests / "t.yaml").read_text()
    assert "<<<<<<< " in text
    found = wait_for(daemon.errors)
    place = text[:text.index("<<<<<<<")].count("\n") + 1
    assert re.match(rf't\.yaml:{place}:1: a merge conflict that is not resolved', found[0]), (found, text)
    assert [e for e in daemon.errors() if not e.startswith("t.yaml:")] == []
    wait_for(lambda: daemon.trigger("other")["cooldown_seconds"] == 0.25)  # the rest of the merge is in force
    assert daemon.trigger("t")["cooldown_seconds"] == 3 and daemon.out("t") is not None
    at(daemon, "t", ours, dirty=True)
    git("checkout", "-q", "--theirs", "t.yaml")
    merged = git.commit("merged")
    wait_for(lambda: daemon.trigger("t")["cooldown_seconds"] == 2)
    at(daemon, "t", merged)
    assert daemon.errors() == [] and daemon.condition("t", "Accepted")["status"] == "True"


def test_a_config_map_is_swapped(daemon: Daemon) -> None:
    """Links to `..data/NAME`, and `..data` a link to a directory that another replaces, as the kubelet does it."""
    def publish(version: str, **docs: dict[str, Any]) -> None:
        fresh, data = daemon.manifests / f"..{version}", daemon.manifests / "..data"
        for name, doc in docs.items():
            write_atomic(fresh / f"{name}.yaml", documents(doc))
        old = data.readlink() if data.is_symlink() else None
        (daemon.manifests / "..data_tmp").symlink_to(fresh.name)
        (daemon.manifests / "..data_tmp").rename(data)
        for link in daemon.manifests.glob("*.yaml"):
            if link.stem not in docs:
                link.unlink()
        for name in docs:
            if not (daemon.manifests / f"{name}.yaml").is_symlink():
                (daemon.manifests / f"{name}.yaml").symlink_to(f"..data/{name}.yaml")
        if old:
            shutil.rmtree(daemon.manifests / old)

    publish("one", p=ECHO, a=custom("a", cooldown_seconds=0.1), b=custom("b"))
    wait_for(lambda: daemon.exists("a") and daemon.exists("b"))
    daemon.fire("b")
    b = daemon.trigger("b")
    publish("two", p=ECHO, a=custom("a", cooldown_seconds=0.2), b=custom("b"), c=custom("c"))
    wait_for(lambda: daemon.exists("c"))
    assert daemon.trigger("a")["cooldown_seconds"] == 0.2, "one step"
    assert daemon.trigger("b") == b and daemon.errors() == []
    publish("three", p=ECHO, b=custom("b"), c=custom("c"))
    wait_for(lambda: not daemon.exists("a"))
    assert daemon.trigger("b") == b and daemon.errors() == []
    line(daemon, 'trigger "a" deleted')


@pytest.mark.parametrize("which", ["the directory", "a directory on the way"])
def test_git_sync_swaps_the_directory(make_daemon: Callable[..., Daemon], which: str) -> None:
    daemon = make_daemon()
    origin = Git(daemon.root / "origin")
    below = Path("deploy") if which == "a directory on the way" else Path(".")
    (origin.path / below).mkdir(exist_ok=True)
    write_atomic(origin.path / below / "p.yaml", documents(ECHO))
    link = daemon.root / "current"
    daemon.manifests = link / below

    def sync(cooldown: float, *more: dict[str, Any]) -> str:
        write_atomic(origin.path / below / "t.yaml", documents(custom("t", cooldown_seconds=cooldown), *more))
        head = origin.commit(f"cooldown {cooldown}")
        fresh = daemon.root / f"rev-{head}"
        origin("worktree", "add", "-q", "--detach", fresh, head)
        (daemon.root / "tmp").symlink_to(fresh.name)
        (daemon.root / "tmp").rename(link)
        return head

    first = sync(0.1, custom("more"))
    daemon.start()
    at(daemon, "t", first)
    daemon.fire("t")
    second = sync(0.2, custom("more"))
    wait_for(lambda: daemon.trigger("t")["cooldown_seconds"] == 0.2)
    at(daemon, "t", second)
    third = sync(0.3)
    wait_for(lambda: not daemon.exists("more"))
    at(daemon, "t", third)
    origin("worktree", "remove", "--force", daemon.root / f"rev-{first}")
    shown = daemon.trigger("t")
    assert (shown["trigger_count"], shown["generation"], shown["cooldown_seconds"]) == (1, 3, 0.3)
    assert daemon.condition("t", "ManifestsReachable").get("status", "True") == "True" and daemon.errors() == []


def test_directories_that_move(daemon: Daemon) -> None:
    daemon.put("p.yaml", ECHO)
    write_many(daemon.root / "new", 5, 1)
    (daemon.root / "new").rename(daemon.manifests / "in")
    wait_for(lambda: daemon.exists("t4"))
    daemon.fire("t0")
    shown = daemon.trigger("t0")
    (daemon.manifests / "in").rename(daemon.root / "out")
    time.sleep(0.5)
    (daemon.root / "out").rename(daemon.manifests / "in")  # it was there again in time
    time.sleep(2.5)
    assert daemon.trigger("t0") == shown
    (daemon.manifests / "in").rename(daemon.manifests / "there")
    wait_for(lambda: "/there/" in source(daemon, "t0")["file"])
    assert daemon.trigger("t0")["trigger_count"] == 1 and daemon.trigger("t0")["created_at"] == shown["created_at"]
    begin = time.monotonic()
    (daemon.manifests / "there").rename(daemon.root / "out")
    wait_for(lambda: not daemon.exists("t0"))
    assert time.monotonic() - begin > 1.5
    assert daemon.get("/api/v1/triggers")["total"] == 0, "all at once"


def mount(*args: str | Path) -> None:
    if subprocess.run(["mount", *map(str, args)], capture_output=True).returncode != 0:
        pytest.skip("may not mount")


def test_a_mount_over_the_directory(daemon: Daemon) -> None:
    daemon.put("p.yaml", ECHO)
    daemon.put("t.yaml", custom("t"))
    daemon.put("u.yaml", custom("u"))
    mount("-t", "tmpfs", "none", daemon.manifests)
    try:
        wait_for(lambda: daemon.condition("t", "ManifestsReachable").get("status") == "False")
        time.sleep(2.5)  # past the grace of deletions
        assert daemon.out("t") is not None and daemon.exists("u")
        daemon.write("t.yaml", custom("t", cooldown_seconds=0.5))  # what is in the other directory counts …
        wait_for(lambda: daemon.trigger("t")["cooldown_seconds"] == 0.5)
        assert daemon.condition("t", "ManifestsReachable")["status"] == "True"
        time.sleep(2.5)
        assert daemon.condition("u", "ManifestsReachable")["status"] == "False", "… what is not there is kept"
    finally:
        subprocess.run(["umount", "-l", daemon.manifests], check=True)
    wait_for(lambda: daemon.trigger("t")["cooldown_seconds"] == 0)
    wait_for(lambda: daemon.condition("u", "ManifestsReachable").get("status") == "True")
    assert daemon.trigger("t")["trigger_count"] == 1
    (daemon.manifests / "u.yaml").unlink()
    wait_for(lambda: not daemon.exists("u"))


def test_two_directories(make_daemon: Callable[..., Daemon], tmp_path: Path) -> None:
    second = tmp_path / "second"
    second.mkdir()
    daemon = make_daemon(args=("--manifests", str(second)))
    head = Git(second)
    write_atomic(second / "b.yaml", documents(custom("b")))
    commit = head.commit("only the second is a work tree")
    daemon.start()
    daemon.put("p.yaml", ECHO)
    daemon.put("a.yaml", custom("a"))
    at(daemon, "b", commit)
    at(daemon, "a", None, None)
    daemon.fire("a")
    write_atomic(second / "a.yaml", documents(custom("a", cooldown_seconds=9)))  # the later file
    found = wait_for(daemon.errors)
    assert found[0].startswith("a.yaml:2:") and "already defined" in found[0], found
    assert daemon.trigger("a")["cooldown_seconds"] == 0
    (daemon.manifests / "a.yaml").unlink()
    wait_for(lambda: source(daemon, "a")["file"] == str(second / "a.yaml"))
    assert lines(daemon, 'trigger "a" moved from ') and not lines(daemon, " deleted")  # no wait: it moves
    assert daemon.trigger("a")["trigger_count"] == 1 and daemon.errors() == []
    at(daemon, "a", commit, dirty=True)
    second.rename(tmp_path / "away")
    wait_for(lambda: daemon.condition("a", "ManifestsReachable").get("status") == "False")
    daemon.put("c.yaml", custom("c"))
    time.sleep(2.5)
    assert daemon.exists("a") and daemon.exists("b")
    assert daemon.condition("c", "ManifestsReachable").get("status", "True") == "True"


@pytest.mark.skipif(os.getuid() != 0, reason="becomes another user")
def test_a_read_only_directory_of_another_user() -> None:
    root = Path(tempfile.mkdtemp(prefix="trg-other"))

    class Other(Daemon):
        def command(self) -> list[str]:
            return ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *super().command()]

    root.chmod(0o755)
    daemon = Other(root)
    try:
        git = Git(daemon.manifests)
        (daemon.manifests / "t.yaml").write_text(documents(custom("t")))
        (daemon.manifests / "secret.yaml").write_text(documents(custom("secret")))
        (daemon.manifests / "secret.yaml").chmod(0o600)
        head = git.commit("root's own")
        for path in (root, daemon.data, daemon.socket.parent):
            os.chown(path, 65534, 65534)
        daemon.start()
        at(daemon, "t", head)
        assert [e for e in daemon.errors() if e.startswith("secret.yaml:")][0].endswith("Permission denied")
        put = daemon.http("PUT", "/api/v1/triggers/t", {"cooldown_seconds": 5})
        assert put.status == 409, put.body
        assert daemon.http("DELETE", "/api/v1/triggers/t").status == 409 and daemon.exists("t")
        (daemon.manifests / "t.yaml").write_text(documents(custom("t", cooldown_seconds=2)))
        wait_for(lambda: daemon.trigger("t")["cooldown_seconds"] == 2)
        at(daemon, "t", head, dirty=True)
        (daemon.manifests / "secret.yaml").chmod(0o644)
        wait_for(lambda: daemon.exists("secret"))
    finally:
        daemon.close()
        shutil.rmtree(root)


def test_what_moves_keeps_what_it_has(daemon: Daemon) -> None:
    daemon.put("p.yaml", ECHO)
    path = daemon.put("m.yaml", custom("keep", pause_policy="hold"), custom("stay"))
    daemon.fire("keep")
    daemon.post("/api/v1/triggers/keep/pause")
    held = [daemon.emit1("keep", {"n": n})["id"] for n in range(3)]
    before = daemon.trigger("keep")
    path.write_text(documents(custom("stay")))
    write_atomic(daemon.manifests / "sub" / "n.yml", "# moved, and commented\n" +
                 documents(custom("keep", pause_policy="hold")))
    wait_for(lambda: source(daemon, "keep")["file"].endswith("/sub/n.yml"))
    after = daemon.trigger("keep")
    assert {k: v for k, v in after.items() if k != "source"} == {k: v for k, v in before.items() if k != "source"}
    daemon.restart()
    assert daemon.trigger("keep")["status"] == "paused"
    daemon.post("/api/v1/triggers/keep/resume")
    for id in held:
        daemon.wait_event(id, "completed")
    assert daemon.trigger("keep")["trigger_count"] == 4 and daemon.errors() == []


def test_a_storm_is_few_passes(daemon: Daemon) -> None:
    """1 000 files in 100 new directories, renamed, and gone: each trigger is told of once at each turn."""
    for i in range(100):
        for j in range(10):
            write_atomic(daemon.manifests / "a" / f"d{i}" / f"t{j}.yaml", documents(custom(f"t{i}-{j}")))
    wait_for(lambda: daemon.get("/api/v1/triggers?page_size=1")["total"] == 1000, 40)
    assert len(lines(daemon, " created ")) == 1000
    (daemon.manifests / "a").rename(daemon.manifests / "b")
    wait_for(lambda: len(lines(daemon, " moved from ")) == 1000, 40)
    shutil.rmtree(daemon.manifests / "b")
    wait_for(lambda: daemon.get("/api/v1/triggers?page_size=1")["total"] == 0, 40)
    assert len(lines(daemon, " deleted ")) == 1000 and len(lines(daemon, "")) == 3000
    assert daemon.errors() == []


# ---- all of it, as people work ----


def test_a_walk(make_daemon: Callable[..., Daemon], tmp_path: Path) -> None:
    """clone, break, fix, revert, rebase: what runs, what is shown, and what the log says of it."""
    upstream = Git(tmp_path / "upstream")
    write_atomic(upstream.path / "pipelines" / "p.yaml", documents(ECHO))
    write_atomic(upstream.path / "triggers" / "a.yaml", documents(custom("a")))
    write_atomic(upstream.path / "triggers" / "b.yaml", documents(custom("b"), custom("c")))
    v1 = upstream.commit("v1: three triggers")

    daemon = make_daemon()
    shutil.rmtree(daemon.manifests)
    daemon.start()  # the directory is not there yet
    subprocess.run(["git", "clone", "-q", str(upstream.path), str(daemon.manifests)], check=True)
    clone = Git(daemon.manifests, init=False)
    for id in "abc":
        wait_for(lambda id=id: daemon.exists(id))
        at(daemon, id, v1)
        line(daemon, f'trigger "{id}" created')
    line(daemon, f'is at commit {v1[:12]} "v1: three triggers"')
    line(daemon, 'pipeline "p" created')
    for id in "abc":
        daemon.fire(id)
    said = len(lines(daemon, ""))

    def news() -> list[str]:
        """What the log says since the last look, without times and places."""
        nonlocal said
        fresh = lines(daemon, "")[said:]
        said += len(fresh)
        return sorted(re.sub(r"^.* reconcile: | file=.*| commit=.*|" + re.escape(f"{daemon.manifests}/"), "", text)
                      for text in fresh)

    # break: one file of a commit is wrong, another is right
    (upstream.path / "triggers/a.yaml").write_text(documents(custom("a", max_concurrent=0)))
    (upstream.path / "triggers/b.yaml").write_text(documents(custom("b", cooldown_seconds=0.1), custom("c")))
    v2 = upstream.commit("v2: broken")
    clone("pull", "-q")
    wait_for(daemon.errors)
    at(daemon, "b", v2)
    assert daemon.trigger("b")["cooldown_seconds"] == 0.1 and daemon.trigger("a")["max_concurrent"] == 1
    assert daemon.out("a") is not None, "what ran goes on"
    assert daemon.condition("a", "Accepted")["status"] == "False"
    told = news()
    assert told == [f'{daemon.manifests} is at commit {v2[:12]} "v2: broken"', 'trigger "a" rejected, it goes on as it '
                    'was: triggers/a.yaml:11:17: max_concurrent: expected an integer of 1 to 100000, got 0',
                    'trigger "b" changed: cooldown_seconds'] or (
        len(told) == 3 and told[1].startswith('trigger "a" rejected, it goes on as it was: triggers/a.yaml:')
        and "max_concurrent: expected" in told[1] and told[2] == 'trigger "b" changed: cooldown_seconds'), told

    # fix
    (upstream.path / "triggers/a.yaml").write_text(documents(custom("a", max_concurrent=2)))
    v3 = upstream.commit("v3: fixed")
    clone("pull", "-q")
    wait_for(lambda: daemon.trigger("a")["max_concurrent"] == 2)
    at(daemon, "a", v3)
    assert daemon.errors() == [] and daemon.condition("a", "Accepted")["status"] == "True"
    assert news() == [f'{daemon.manifests} is at commit {v3[:12]} "v3: fixed"',
                      'trigger "a" accepted again, changed: max_concurrent']

    # revert, here
    clone("revert", "--no-edit", v3, v2)
    reverted = clone.head()
    wait_for(lambda: daemon.trigger("a")["max_concurrent"] == 1 and daemon.trigger("b")["cooldown_seconds"] == 0)
    at(daemon, "a", reverted)
    wait_for(lambda: daemon.errors() == [])
    assert {'trigger "a" changed: max_concurrent', 'trigger "b" changed: cooldown_seconds'} <= set(news())

    # rebase onto what others did meanwhile: a deletion, a rename, a new one
    upstream("rm", "-q", "triggers/b.yaml")
    upstream("mv", "triggers/a.yaml", "triggers/first.yaml")
    write_atomic(upstream.path / "triggers" / "d.yaml", documents(custom("d"), custom("c")))
    v4 = upstream.commit("v4: moved about")
    clone("reset", "-q", "--hard", v3)
    (clone.path / "triggers/e.yaml").write_text(documents(custom("e")))
    clone.commit("e, here alone")
    wait_for(lambda: daemon.exists("e"))
    clone("pull", "-q", "--rebase")
    rebased = clone.head()
    assert clone("rev-parse", "HEAD~1") == v4
    wait_for(lambda: not daemon.exists("b"))
    for id, file in (("a", "first.yaml"), ("c", "d.yaml"), ("d", "d.yaml"), ("e", "e.yaml")):
        at(daemon, id, rebased)
        assert Path(source(daemon, id)["file"]).name == file
    assert [daemon.trigger(id)["trigger_count"] for id in "ac"] == [2, 1], "counters came along"
    told = news()
    for text in ('trigger "a" moved from triggers/a.yaml', 'trigger "b" deleted', 'trigger "c" moved from triggers/b.yaml',
                 'trigger "d" created', 'trigger "e" created',
                 f'{daemon.manifests} is at commit {rebased[:12]} "e, here alone"'):
        assert any(t.startswith(text) for t in told), (text, told)
    shown = {id: daemon.trigger(id) for id in "acde"}
    daemon.restart()
    for id in "acde":
        at(daemon, id, rebased)
        after = daemon.trigger(id)
        assert {k: after[k] for k in ("generation", "created_at", "updated_at", "trigger_count", "source")} == {
            k: shown[id][k] for k in ("generation", "created_at", "updated_at", "trigger_count", "source")}
    assert [t for t in news() if not t.startswith(f"{daemon.manifests} is at")] == [], "a restart changes nothing"
