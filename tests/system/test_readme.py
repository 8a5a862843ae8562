"""What README.md and examples/WAYS.md tell a reader to type, typed, block by block, in one shell."""
from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

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


def test_settings_are_all_there() -> None:
    page = subprocess.run([build_dir() / "triggerd", "--man", "triggerd.yaml.5"], capture_output=True, text=True, check=True)
    keys = re.findall(r"^\.TP\n\\fB(\w+)\\fR$", page.stdout.replace("\\-", "-"), re.MULTILINE)
    assert len(keys) > 25 and set(keys) <= set(re.findall(r"\w+", section("Settings")))


def test_files_named_are_there() -> None:
    for name in re.findall(r"`((?:src|tests|schemas|examples)/[\w./-]+)", README):
        assert (ROOT / name).exists(), name
    presets = (ROOT / "CMakePresets.json").read_text()
    for preset in re.findall(r"--preset ([\w|]+)", README):
        assert all(f'"name": "{p}"' in presets for p in preset.split("|"))


# ---- examples/WAYS.md ----

WAYS = (ROOT / "examples" / "WAYS.md").read_text()
# What a test does not do to the machine that it runs on: a block with one of these is marked, and no other.
MACHINE = re.compile(r"\b(apt-get|systemctl|pre-commit|quickstart\.sh)\b")
# Commands that only look; they are asked again until they answer as they should.
LOOKS = re.compile(r"(sleep [\d.]+; )?(curl|triggerctl (get|status|describe|logs|stats|wait))\b")


class Step(NamedTuple):
    command: str  # several lines where it has a document in it
    said: list[str]


def ways() -> dict[str, list[tuple[str, list[Step]]]]:
    """Of each section the marked blocks: what marks it, and its steps."""
    found = {}
    for part in WAYS.split("\n## ")[1:]:
        made = []
        for mark, text in re.findall(r"^```(console\b[^\n]*)\n(.*?)^```$", part, re.MULTILINE | re.DOTALL):
            steps: list[Step] = []
            for line in text.splitlines():
                if line.startswith("$ "):
                    steps.append(Step(line[2:], []))
                elif re.match(r">( |$)", line) and not steps[-1].said:
                    steps[-1] = Step(f"{steps[-1].command}\n{line[2:]}", [])
                else:
                    steps[-1].said.append(line)
            made.append((mark, steps))
        found[part.splitlines()[0]] = made
    return found


def pattern_of(said: list[str]) -> str:
    """As a pattern: what differs from one time to the next, and how wide columns are, may differ."""
    lines = []
    for line in said:
        if line == "…":
            lines.append(r"(.*\n)*?")
            continue
        text = re.escape(re.sub(r" +", " ", line.strip())).replace("…", ".*")
        for known, any_of_it in ((r"(evt|run)_[0-9A-Z]{26}", r"\1_\\w{26}"), (r"\b(?=[a-f]*\d)[0-9a-f]{7,12}\b", r"[0-9a-f]{7,12}"),
                                 (r"\b\d+(\\\.\d+)?(ms|s|m|h)\b", r"[0-9.ms]+"), (r"\bexecuting\b", r"\\w+")):
            text = re.sub(known, any_of_it, text)
        lines.append(text + r"\n")
    return "".join(lines)


def fits(said: list[str], found: str) -> bool:
    """Are they the same, but for what differs from one time to the next?"""
    plain = "".join(re.sub(r" +", " ", line.strip()) + "\n" for line in found.splitlines())
    return re.fullmatch(pattern_of(said), plain) is not None


def walk(reader: Reader, step: Step) -> str:
    """What a step says; a look is taken until it is as it should be."""
    command = re.sub(r"^sleep [\d.]+; ", "", step.command)
    deadline = time.monotonic() + PATIENCE
    while True:
        found = reader.type(command.replace("/tmp/way", str(reader.demo)) + "\n").replace(str(reader.demo), "/tmp/way")
        if fits(step.said, found) or not LOOKS.match(step.command) or time.monotonic() > deadline:
            return found
        time.sleep(0.05)


def arrive(reader: Reader) -> None:
    """Where the ways begin: in a clone, on a machine with triggerd and Debian's Python."""
    clone, tools = reader.demo.parent / "clone", reader.demo.parent / "tools"
    reader.demo.mkdir()
    tools.mkdir()
    for name in ("examples", "src/python", "src/package", "schemas"):
        shutil.copytree(ROOT / name, clone / name, ignore=shutil.ignore_patterns("__pycache__", "build", "*.egg-info"))
    # Without a network: what builds the package is Debian's own.
    python = tools / "python3"
    python.write_text("""#!/bin/sh
[ "$1 $2" != "-m venv" ] || { shift 2; set -- -m venv --system-site-packages "$@"; }
exec /usr/bin/python3 "$@"
""")
    python.chmod(0o755)
    (reader.demo.parent / ".gitconfig").write_text("[user]\nname = a\nemail = a@example.org\n[init]\ndefaultBranch = main\n")
    reader.type(f"""set +e; exec 2>&1; cd '{clone}'; export PATH='{tools}:{build_dir()}:'"$PATH":'{ROOT}/build/tools'
        export PIP_NO_INDEX=1 PIP_NO_BUILD_ISOLATION=0 PIP_DISABLE_PIP_VERSION_CHECK=1
        unset TRIGGERD_SOCKET XDG_CONFIG_HOME VIRTUAL_ENV PYTHONPATH\n""")


def can_build_wheels() -> bool:
    return subprocess.run(["/usr/bin/python3", "-c", "import ensurepip, setuptools, venv, wheel"],
                          capture_output=True).returncode == 0


@pytest.mark.parametrize("title", [title for title, made in ways().items() if any(mark == "console" for mark, _ in made)])
def test_way(reader: Reader, title: str) -> None:
    if title == "From Python" and not can_build_wheels():
        pytest.skip("Debian's python3-venv, python3-setuptools and python3-wheel are not there")
    if title == "Alerts" and not shutil.which("promtool", path=f"{os.environ['PATH']}:{ROOT}/build/tools"):
        pytest.skip("no promtool: see tests/install-deps.sh")
    arrive(reader)
    for mark, steps in ways()[title]:
        for step in steps if mark == "console" else []:
            found = walk(reader, step)
            assert fits(step.said, found), f"$ {step.command}\n{found}\ninstead of\n" + "\n".join(step.said)
    reader.type("! jobs %% 2>/dev/null || { kill %%; wait; }\n")
    assert not SANITIZER.search(reader.stderr.read_text())


def test_ways_are_marked_as_they_are() -> None:
    marks = [(mark, steps) for made in ways().values() for mark, steps in made]
    assert {mark for mark, _ in marks} == {"console", "console bare"}
    assert not re.search(r"^```$\n\$ ", WAYS, re.MULTILINE), "a block that nothing looks at"
    for mark, steps in marks:
        assert (mark == "console bare") == any(MACHINE.search(step.command) for step in steps), steps
    # What is typed once is right still, as far as that can be told.
    bare = "\n".join(step.command for mark, steps in marks if mark == "console bare" for step in steps)
    helped = subprocess.run([build_dir() / "triggerctl", "--help"], capture_output=True, text=True, check=True).stdout
    named = set(re.findall(r"\btriggerctl (\w+)", bare))
    assert named and named <= set(re.findall(r"^  (\w+)  ", helped, re.MULTILINE))
    documents = re.findall(r"<<'EOF'\n(.*?)\nEOF$", bare, re.MULTILINE | re.DOTALL)
    manifests = [text for text in documents if "kind: " in text]
    assert manifests
    for text in manifests:
        done = subprocess.run([build_dir() / "triggerctl", "validate", "-"], input=text, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout
