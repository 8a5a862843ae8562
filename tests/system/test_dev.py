"""`triggerd --dev DIR`: everything but the manifests in a directory that goes away, what happens told in the terminal."""
from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import urllib.request
from pathlib import Path

from harness import build_dir, custom, documents, file_watch, pipeline, script, wait_for


def test_a_look_within_a_minute(tmp_path: Path) -> None:
    manifests = tmp_path / "manifests"
    manifests.mkdir()
    (tmp_path / "in").mkdir()
    (manifests / "m.yaml").write_text(documents(
        pipeline("good", script("true")), pipeline("bad", script("echo no luck >&2; exit 3")),
        custom("well", "good", "e"), custom("ill", "bad", "e", max_concurrent=1),
        custom("choosy", "good", "e", config={"filter": {"a": [{"numeric": [">", 1]}]}}),
        file_watch("watch", tmp_path / "in" / "*", "good", {"filter": {"name": [{"suffix": ".csv"}]}})))
    out = tmp_path / "out"
    with out.open("wb") as f:
        daemon = subprocess.Popen([build_dir() / "triggerd", "--dev", manifests], stdout=f, stderr=subprocess.STDOUT)
    try:
        told = wait_for(lambda: re.search(r"socket +export TRIGGERD_SOCKET=(\S+)\n", out.read_text()) and out.read_text())
        page, socket = re.findall(r"(http://127\.0\.0\.1:\d+/)\n.*TRIGGERD_SOCKET=(\S+)", told, re.S)[0]
        assert b"<html" in urllib.request.urlopen(page, timeout=20).read().lower()
        root = Path(socket).parent
        if os.access("/dev/fuse", os.W_OK):
            wait_for(lambda: (root / "mount" / "triggers" / "well").is_dir())
        done = subprocess.run([build_dir() / "triggerctl", "emit", "e", "--data", json.dumps({"a": 1})],
                              env={**os.environ, "TRIGGERD_SOCKET": socket}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        wait_for(lambda: re.search(r"well  custom_e  fired → completed in \d+\.\d{3} s  evt_", out.read_text()))
        wait_for(lambda: re.search(r"ill  custom_e  fired → failed in .*\n +.*exit code 3", out.read_text()))
        wait_for(lambda: re.search(r"choosy  custom_e  filtered\n +a: expected .*1", out.read_text()))
        assert len(re.findall("choosy  custom_e", out.read_text())) == 1  # nothing else is told of it
        (tmp_path / "in" / "a.txt").write_text("x")  # of a source of its own
        wait_for(lambda: re.search(r"watch  file_created  filtered\n +name: expected .*\.csv", out.read_text()))
        assert "\033" not in out.read_text()  # no terminal
    finally:
        daemon.send_signal(signal.SIGINT)
        assert daemon.wait(30) == 0
    assert not root.exists()
    assert [p.name for p in manifests.iterdir()] == ["m.yaml"]


def test_what_it_cannot_do(tmp_path: Path) -> None:
    def run(*args: str | Path) -> tuple[int, str]:
        done = subprocess.run([build_dir() / "triggerd", *args], capture_output=True, text=True, timeout=30)
        return done.returncode, done.stderr

    assert run("--dev", tmp_path / "none") == (1, f"triggerd: --dev: {tmp_path}/none: no such directory\n")
    (tmp_path / "file").touch()
    assert run("--dev", tmp_path / "file") == (1, f"triggerd: --dev: {tmp_path}/file: not a directory\n")
    code, said = run("--dev", tmp_path, "--manifests", tmp_path)
    assert code == 2 and "--manifests" in said
