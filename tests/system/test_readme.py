"""What README.md tells a reader to type, typed: the commands of its five minutes, block by block, in one shell."""
from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from harness import PATIENCE, ROOT, SANITIZER, build_dir

README = (ROOT / "README.md").read_text()
BUILD = "cmake --preset release && cmake --build --preset release\n"
SLEEP = re.compile(r"^sleep \d+.*\n", re.MULTILINE)


def section(title: str) -> str:
    return README.split(f"\n## {title}\n")[1].split("\n## ")[0]


def blocks(text: str) -> list[str]:
    return re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


class Reader:
    """The shell of somebody who reads on, and looks whether a thing is there before going on."""

    def __init__(self, root: Path) -> None:
        self.demo = root / "demo"
        env = {**os.environ, "HOME": str(root), "NO_COLOR": "1"}
        # A process group of its own, so that the daemon goes with it however a test ends.
        self.shell = subprocess.Popen(["bash", "-e"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                      stderr=(root / "stderr").open("wb"), env=env, cwd=ROOT, start_new_session=True)
        self.stderr = root / "stderr"

    def type(self, block: str) -> str:
        """One block, as it stands but for the directories; gives what it wrote on standard output."""
        assert self.shell.stdin and self.shell.stdout
        text = block.replace("/tmp/demo", str(self.demo))
        self.shell.stdin.write(f"{text}echo END-OF-BLOCK\n".encode())
        self.shell.stdin.flush()
        out = []
        for line in iter(self.shell.stdout.readline, b""):
            if line == b"END-OF-BLOCK\n":
                return "".join(out)
            out.append(line.decode())
        raise AssertionError(f"ended with {self.shell.wait()} in:\n{text}{''.join(out)}{self.stderr.read_text()}")

    def until(self, command: str) -> None:
        tries = int(PATIENCE / 0.05)
        self.type(f"for _ in {{1..{tries}}}; do if {command}; then break; fi >/dev/null 2>&1; sleep 0.05; done\n")

    def close(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.shell.pid, signal.SIGKILL)
        with self.shell:
            pass


@pytest.fixture
def reader() -> Iterator[Reader]:
    root = Path(tempfile.mkdtemp(prefix="trg"))  # a socket's path is short
    made = Reader(root)
    yield made
    made.close()
    shutil.rmtree(root, ignore_errors=True)


def test_five_minutes(reader: Reader) -> None:
    start, declare, emit, why, change, pause = blocks(section("Five minutes"))

    assert start.startswith(BUILD)
    assert "$PWD/build/release:" in start
    reader.type(start.removeprefix(BUILD).replace("$PWD/build/release", str(build_dir())))
    reader.until("triggerctl status")

    # The pause of the reader is as long as it takes.
    assert len(SLEEP.findall(declare)) == 1
    before, after = SLEEP.split(declare)
    reader.type(before)
    assert reader.stderr.read_text().count("1 file, 2 resources: 0 errors\n") == 1
    reader.until("triggerctl wait trigger hello")
    assert re.search(r"^hello +active +custom +greet +0 ", reader.type(after), re.MULTILINE)

    first, rest = emit.split("\n", 1)
    assert re.fullmatch(r"evt_\w{26}  hello  \w+  fired\n", reader.type(first + "\n")), "one event"
    reader.until("triggerctl get runs --status completed -o name | grep -q .")
    said = reader.type(rest)
    assert re.search(r"^evt_\w{26} +hello +custom_greetings +completed +fired ", said, re.MULTILINE), said
    assert re.search(r"^run_\w{26} +greet +hello +completed ", said, re.MULTILINE), said
    assert reader.type("triggerctl logs $(triggerctl get runs -o name | cut -d/ -f2) --step say\n") == "hello world\n"

    said = reader.type(why)
    reason = 'who: expected anything-but "nobody", found "nobody"'
    assert said.startswith(f"filtered: {reason}\n"), said
    assert f'filtered: {reason.split(", found")[0]}' in why, "the README's own words for it"
    assert reason in said.split("Turned away by its filter")[1].split("\nConfig")[0]
    assert "nothing fired: turned away by the filter of hello (triggerctl describe trigger hello tells why)\n" in reader.stderr.read_text()

    said = reader.type(change)
    effect = "=> trigger/hello: takes effect at once, nothing restarts (cooldown_seconds, config.filter)"
    assert effect in said and effect in change and "+cooldown_seconds: 1\n" in said
    assert said.endswith("pipeline/greet unchanged\ntrigger/hello changed\n"), said

    said = reader.type(pause.replace("kill %1\n", ""))
    assert re.search(r"^evt_\w{26}  hello  skipped  paused  the trigger is paused$", said, re.MULTILINE), said
    assert len(reader.type("triggerctl get runs -o name\n").splitlines()) == 1
    assert pause.endswith("kill %1\n")
    reader.type("kill %1\nwait %1\n")  # its exit code is 0, or the shell ends

    log = reader.stderr.read_text()
    assert not SANITIZER.search(log), log
    assert not re.search(r"\b(WARN|ERROR)\b", log), log


def test_two_commands() -> None:
    [text] = blocks(section("Two commands"))
    commands = [line.split()[0] for line in text.splitlines()]
    assert commands == ["./examples/quickstart.sh", "./tests/run.sh"]
    for command in commands:
        assert os.access(ROOT / command, os.X_OK)
        subprocess.run(["bash", "-n", ROOT / command], check=True)


def test_verbs_and_limits_are_there() -> None:
    """What the text names and the programs can be asked for."""
    def ctl(*args: str) -> str:
        return subprocess.run([build_dir() / "triggerctl", *args], capture_output=True, text=True, check=True).stdout

    known = set(re.findall(r"^  (\w+)  ", ctl("--help"), re.MULTILINE))
    named = set(re.findall(r"\btriggerctl (\w+)", README))
    assert named <= known, named - known
    for kind in re.findall(r"`explain ([\w.]+)`|triggerctl explain ([\w.]+)", README):
        ctl("explain", next(k for k in kind if k))
    [limits] = re.findall(r"`limits: \{([\w, ]+)\}`", README)
    assert limits.split(", ") == re.findall(r"^  (\w+)  ", ctl("explain", "exec.limits"), re.MULTILINE)


def test_files_named_are_there() -> None:
    for name in re.findall(r"`((?:src|tests|schemas|examples)/[\w./-]+)", README):
        assert (ROOT / name).exists(), name
    presets = (ROOT / "CMakePresets.json").read_text()
    for preset in re.findall(r"--preset ([\w|]+)", README):
        assert all(f'"name": "{p}"' in presets for p in preset.split("|"))
