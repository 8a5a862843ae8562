"""Manifests that arrive by git and its kin: the commit that is shown, one log line a change, and every way in."""
from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
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
    "circular references", "config that includes"])
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
        wait_for(lambda: "no commit is shown: " in daemon.output(), what="why not")
    daemon.put("t.yaml", custom("t", cooldown_seconds=0.5))  # goes on as ever
    assert not (daemon.root / "ran").exists()
    daemon.stop(timeout=10)


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
