"""Examples of whole uses: what their READMEs tell, done."""
from __future__ import annotations

import hashlib
import hmac
import json
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness import Daemon, build_dir, wait_for
from test_examples import EXAMPLES, QUICKSTART, only_run


@pytest.fixture
def start(make_daemon: Callable[..., Daemon]) -> Callable[..., Daemon]:
    """A daemon on a copy of an example, with these folders and files in its data, every trigger ready."""

    def make(folder: str, *folders: str, files: tuple[str, ...] = (), **options: Any) -> Daemon:
        daemon = make_daemon(**options)
        for name in folders:
            (daemon.data / name).mkdir()
        for name in files:
            shutil.copy(EXAMPLES / folder / name, daemon.data)
        for manifest in sorted((EXAMPLES / folder).glob("*.yaml")):
            daemon.write(manifest.name, manifest.read_text().replace(QUICKSTART, str(daemon.data)))
        daemon.start()
        assert daemon.errors() == []
        for trigger in daemon.get("/api/v1/triggers")["triggers"]:
            wait_for(lambda id=trigger["id"]: daemon.condition(id, "Ready").get("status") == "True")
        return daemon

    return make


def test_csv_import(start: Callable[..., Daemon]) -> None:
    daemon = start("csv-import", "inbox", files=("load.py",))
    (daemon.data / "inbox" / "good.csv").write_text("name,amount\nann,3\nbob,4.5\n")
    (daemon.data / "inbox" / "bad.csv").write_text("name,amount\nann,3\nbob,many\n")
    (daemon.data / "inbox" / "half.csv.part").write_text("name,am")
    good = wait_for(lambda: [e for e in daemon.events("import-csv") if e["status"] == "completed"])[0]
    assert daemon.run_of(good)["outputs"] == {"file": str(daemon.data / "inbox" / "good.csv"), "rows": 2}
    rejected = daemon.data / "rejected"
    wait_for(lambda: (rejected / "bad.csv.reason").exists() and (rejected / "bad.csv.reason").read_text())
    assert "line 3: ValueError: could not convert string to float: 'many'" in (rejected / "bad.csv.reason").read_text()
    assert (rejected / "bad.csv").exists() and (daemon.data / "inbox" / "good.csv").exists()
    rows = sqlite3.connect(daemon.data / "imports.db").execute("SELECT file, name, amount FROM amounts").fetchall()
    assert rows == [("good.csv", "ann", 3.0), ("good.csv", "bob", 4.5)]  # nothing of the bad one
    assert len(daemon.settle("import-csv")) == 2


@pytest.mark.skipif(subprocess.run(["/usr/bin/python3", "-c", "import PIL"], capture_output=True).returncode != 0,
                    reason="no python3-pil")
def test_thumbnails(start: Callable[..., Daemon]) -> None:
    daemon = start("thumbnails", "pictures", files=("thumbnail.py",))
    subprocess.run(["/usr/bin/python3", "-c", f"""
from PIL import Image
for n in range(3):
    Image.new("RGB", (640, 320), (n * 80, 0, 0)).save({str(daemon.data)!r} + f"/pictures/{{n}}.png")
"""], check=True)
    (daemon.data / "pictures" / "broken.jpg").write_bytes(b"no picture")
    daemon.wait_events(4, "thumbnails")
    by_name = {e["event_data"]["name"]: e for e in daemon.settle("thumbnails")}
    assert by_name["broken.jpg"]["status"] == "failed" and "broken.jpg" in by_name["broken.jpg"]["error_message"]
    for n in range(3):
        run = daemon.run_of(by_name[f"{n}.png"])
        assert run["steps"][0]["output"] == {"made": str(daemon.data / "thumbnails" / f"{n}.png"), "width": 64, "height": 32}
        assert (daemon.data / "thumbnails" / f"{n}.png").read_bytes().startswith(b"\x89PNG")


def git(*args: str, cwd: Path, **more: str) -> str:
    env = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@example.org",
           "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@example.org", **more}
    done = subprocess.run(["git", *args], cwd=cwd, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_github_build(start: Callable[..., Daemon], tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    repository.mkdir()
    git("init", "-q", "-b", "main", ".", cwd=repository)
    (repository / "Makefile").write_text("all:\n\techo built\n")
    git("add", ".", cwd=repository)
    git("commit", "-qm", "one", cwd=repository)
    git("config", "uploadpack.allowAnySHA1InWant", "true", cwd=repository)
    commit = git("rev-parse", "HEAD", cwd=repository).strip()

    daemon = start("github-build", env={"GITHUB_WEBHOOK_SECRET": "a secret of ours"}, listen=True)

    def push(delivery: str, secret: str = "a secret of ours", event: str = "push", **change: Any) -> int:
        body = json.dumps({"ref": "refs/heads/main", "after": commit, "deleted": False,
                           "repository": {"clone_url": f"file://{repository}"}, **change}).encode()
        signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        return daemon.http("POST", "/hooks/github/push", body, {
            "X-GitHub-Event": event, "X-GitHub-Delivery": delivery, "X-Hub-Signature-256": f"sha256={signature}"},
            tcp=True).status

    assert push("1") == 200
    run = only_run(daemon, "build")
    assert run["status"] == "completed" and run["outputs"] == {"commit": commit}, run
    assert push("1") == 200  # delivered again
    assert push("2", secret="guessed") == 401
    assert push("3", event="ping") == 200
    assert push("4", deleted=True) == 200
    assert len(daemon.settle("build-pushes")) == 1
    assert push("5", after="--upload-pack=touch /tmp/x") == 200  # no commit: the inputs' schema says so
    assert sorted(e["status"] for e in daemon.settle("build-pushes")) == ["completed", "failed"]


def test_gitops(make_daemon: Callable[..., Daemon], tmp_path: Path) -> None:
    bare, manifests, mine = tmp_path / "triggers.git", tmp_path / "manifests", tmp_path / "mine"
    git("init", "-q", "--bare", "-b", "main", str(bare), cwd=tmp_path)
    git("clone", "-q", str(bare), str(manifests), cwd=tmp_path)
    for hook in ("pre-receive", "post-receive"):
        shutil.copy(EXAMPLES / "gitops" / hook, bare / "hooks")
    (bare / "manifests-dir").write_text(f"{manifests}\n")
    daemon = make_daemon()
    daemon.args = ["--manifests", str(manifests)]  # beside the test's own
    daemon.start()
    git("clone", "-q", str(bare), str(mine), cwd=tmp_path)
    path = {"PATH": f"{build_dir()}:{os.environ['PATH']}"}

    shutil.copy(EXAMPLES / "gitops" / "greet.yaml", mine)
    git("add", ".", cwd=mine)
    git("commit", "-qm", "greet whoever comes", cwd=mine)
    path["TRIGGERD_SOCKET"] = str(daemon.socket)
    said = git("push", "origin", "HEAD:main", cwd=mine, **path)
    assert "trigger/greet created" in said and daemon.exists("greet"), "the push waits until it is in force"
    head = git("rev-parse", "HEAD", cwd=mine).strip()
    assert f"checked out: {head[:7]} greet whoever comes" in said
    wait_for(lambda: daemon.trigger("greet")["source"]["commit"])
    source = daemon.trigger("greet")["source"]
    assert (source["commit"], source["commit_subject"]) == (head, "greet whoever comes")
    assert daemon.fire("greet", {"who": "world"})["status"] == "completed"
    assert "-dirty" not in daemon.output(), "what was checked out is as it is in the commit"

    (mine / "greet.yaml").write_text((mine / "greet.yaml").read_text().replace("endpoint", "endpont"))
    git("commit", "-qam", "a slip", cwd=mine)
    done = subprocess.run(["git", "push", "origin", "HEAD:main"], cwd=mine, env={**os.environ, **path}, capture_output=True,
                          text=True)
    assert done.returncode != 0 and "did you mean" in done.stderr and "nothing was changed" in done.stderr
    assert git("rev-parse", "main", cwd=bare).strip() == head

    git("reset", "-q", "--hard", "HEAD^", cwd=mine)
    git("rm", "-q", "greet.yaml", cwd=mine)
    git("commit", "-qm", "no more", cwd=mine)
    assert "left to triggerd" in git("push", "origin", "HEAD:main", cwd=mine, **path)
    wait_for(lambda: not daemon.exists("greet"))


def test_prometheus_alert(start: Callable[..., Daemon]) -> None:
    daemon = start("prometheus-alert", "cache", listen=True)
    cache = daemon.data / "cache"
    for n in range(3):
        (cache / f"old{n}").touch()
        os.utime(cache / f"old{n}", (0, 0))
    (cache / "new").touch()

    def alert(**change: Any) -> Any:
        labels = {"alertname": "DiskFillsUp", "instance": "db1:9100"}
        return daemon.http("POST", "/hooks/alertmanager", {
            "version": "4", "status": "firing", "receiver": "triggerd", "commonLabels": labels,
            "alerts": [{"status": "firing", "labels": labels, "annotations": {}}], **change}, tcp=True).ok()

    assert alert(status="resolved")["triggered_count"] == 0
    assert alert()["triggered_count"] == 1
    run = only_run(daemon, "free_space")
    assert run["status"] == "completed" and run["outputs"] == {"removed": 3}
    assert [p.name for p in cache.iterdir()] == ["new"]
    assert (daemon.data / "remedies.log").read_text() == "db1:9100: DiskFillsUp\n"
    assert [e["decision"] for e in alert()["events"]] == ["cooldown"]


@pytest.mark.skipif(not os.access("/dev/fuse", os.W_OK), reason="no /dev/fuse")
def test_mount(make_daemon: Callable[..., Daemon], tmp_path: Path) -> None:
    """The README's commands, in one shell."""
    daemon = make_daemon()
    shutil.copy(EXAMPLES / "mount" / "orders.yaml", daemon.manifests)
    mount = tmp_path / "mnt"
    daemon.args = ["--mount", str(mount)]
    daemon.start()
    text = (EXAMPLES / "mount" / "README.md").read_text()
    commands = text.split("cd /tmp/orders/mnt\n")[1].split("```")[0]

    def shell(lines: str) -> str:
        done = subprocess.run(["bash", "-ec", lines], cwd=mount, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    status, emit, tail, test, edit, pause, paused, remove = [c for c in commands.splitlines() if c.strip()]
    assert shell(status) == "active\n"
    shell(emit)
    wait_for(lambda: shell(tail) == "fired\n")
    assert "filtered" in shell(test) and "paid" in shell(test)
    shell(edit)
    assert daemon.trigger("paid")["config"]["filter"] == {"status": ["paid", "credit"]}
    assert "# yaml-language-server" in (daemon.manifests / "orders.yaml").read_text()
    shell(pause)
    assert shell(paused) == "triggers/paid/status\n"
    shell(remove)
    assert not daemon.exists("paid") and "kind: pipeline" in (daemon.manifests / "orders.yaml").read_text()
