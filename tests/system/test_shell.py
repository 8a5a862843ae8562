"""What the programs print for shells and man: completions that really complete, manual pages without a warning."""
from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from harness import ECHO, Daemon, build_dir, custom, pipeline, script
from test_ctl import VERBS, good

PAGES = ["triggerctl.1", "triggerd-manifest.5", "triggerd.8", "triggerd.yaml.5"]


@pytest.fixture
def filled(daemon: Daemon) -> Daemon:
    daemon.put("m.yaml", ECHO, pipeline("quick", script("true")), custom("alpha", endpoint="orders.new", name="Al:pha\t*"),
               custom("alto", endpoint="users"), custom("beta"))
    return daemon


def run(daemon: Daemon, argv: list[str], text: str) -> list[str]:
    env = {"PATH": f"{daemon.build}:/usr/bin:/bin", "TRIGGERD_SOCKET": str(daemon.socket), "HOME": str(daemon.data),
           "TERM": "dumb", "LC_ALL": "C.UTF-8"}
    done = subprocess.run(argv, input=text, capture_output=True, text=True, env=env, cwd=daemon.data, timeout=60)
    assert done.returncode == 0 and not done.stderr, done.stderr
    return done.stdout.split("\n")[:-1]


def by_bash(daemon: Daemon, *words: str) -> list[str]:
    """What bash would offer: its words are cut as COMP_WORDBREAKS says."""
    cut: list[str] = []
    for word in words:
        before, equals, after = word.partition("=")
        cut += [before, "=", after] if equals and after else [before, "="] if equals else [word]
    quoted = " ".join("'" + w.replace("'", "'\\''") + "'" for w in ["triggerctl", *cut])
    return run(daemon, ["bash", "--norc"], f"source <(triggerctl completion bash)\nCOMP_WORDS=({quoted})\n"
               f"COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))\n_triggerctl\n"
               "(( ${#COMPREPLY[@]} )) && printf '%s\\n' \"${COMPREPLY[@]}\"\nexit 0\n")


def by_fish(daemon: Daemon, *words: str) -> list[str]:
    line = " ".join(["triggerctl", *words])
    lines = run(daemon, ["fish", "--no-config"], f"triggerctl completion fish | source\ncomplete -C '{line}'\n")
    return [x.split("\t")[0] for x in lines]


def by_zsh(daemon: Daemon, *words: str) -> list[str]:
    """The function itself, with the widget's builtins replaced by what records them."""
    quoted = " ".join("'" + w.replace("'", "'\\''") + "'" for w in ["triggerctl", *words])
    return run(daemon, ["zsh", "-f"], "compdef() { : }\nsource <(triggerctl completion zsh)\n"
               "_describe() { local -a all; all=(\"${(@P)2}\"); local x; for x in $all; do x=${x//\\\\:/$'\\1'}; "
               "print -r -- ${${x%%:*}//$'\\1'/:}; done }\n_files() { print -rl -- *(N) }\ncompset() { true }\n"
               f"words=({quoted}); CURRENT=${{#words}}\n_triggerctl\nexit 0\n")


SHELLS = [pytest.param(by, marks=pytest.mark.skipif(not shutil.which(name), reason=f"no {name}"), id=name)
          for name, by in (("bash", by_bash), ("zsh", by_zsh), ("fish", by_fish))]


@pytest.mark.parametrize("by", SHELLS)
def test_completion(filled: Daemon, by: Any) -> None:
    assert set(by(filled, "")) >= set(VERBS) and "__complete" not in by(filled, "")
    assert by(filled, "des") == ["describe"]
    assert sorted(by(filled, "get", "")) == ["events", "manifests", "mcp_servers", "pipelines", "runs", "triggers"]
    assert sorted(by(filled, "describe", "trigger", "al")) == ["alpha", "alto"], "ids come from the daemon"
    assert by(filled, "run", "qu") == ["quick"]
    assert by(filled, "emit", "or") == ["orders.new"]
    assert by(filled, "pause", "be") == ["beta"]
    assert by(filled, "get", "triggers", "--st") == ["--status"]
    assert by(filled, "get", "triggers", "--status", "pa") == ["paused"]
    assert by(filled, "get", "runs", "--status", "ti") == ["timed_out"]
    assert by(filled, "get", "events", "--trigger", "b") == ["beta"]
    assert by(filled, "events", "-o", "w") == ["wide"]
    assert by(filled, "explain", "file") == ["file_watch"] and by(filled, "init", "sche") == ["schedule"]
    assert sorted(by(filled, "explain", "custom.")) == ["custom.endpoint", "custom.filter", "custom.input_mapping"]
    assert by(filled, "explain", "trigger.cooldown_s") == ["trigger.cooldown_seconds"] and by(filled, "explain", "x.") == []
    assert by(filled, "nonsense", "") == [] and by(filled, "stats", "x") == []
    run_id = filled.fire("beta")["id"]
    assert by(filled, "logs", run_id[:8]) == [run_id] and by(filled, "logs", run_id, "--step", "") == ["s"]


@pytest.mark.parametrize("by", SHELLS)
def test_completion_of_files(filled: Daemon, by: Any) -> None:
    (filled.data / "some manifest.yaml").touch()
    (filled.data / "other.json").touch()
    assert [x.replace("\\", "") for x in by(filled, "validate", "")] == ["other.json", "some manifest.yaml"] or \
        sorted(by(filled, "validate", "")) == ["other.json", "some manifest.yaml"]
    offered = by(filled, "emit", "users", "--data", "@oth")
    assert [x.lstrip("@") for x in offered if "other" in x] == ["other.json"]


def test_completion_after_an_equals_sign(filled: Daemon) -> None:
    assert by_bash(filled, "get", "triggers", "--status=pa") == ["paused"], "bash has cut the word"
    assert sorted(by_bash(filled, "get", "triggers", "--status=")) == ["active", "disabled", "error", "paused"]
    if shutil.which("fish"):
        assert by_fish(filled, "get", "triggers", "--status=pa") == ["--status=paused"]
    assert good(filled.ctl("__complete", "--", "get", "triggers", "--status=pa")) == "--status=paused\n"


def test_completion_says_nothing_that_a_terminal_would_obey(filled: Daemon) -> None:
    filled.put("x.yaml", custom("xi", name="\x1b[31mred\nline"))
    out = good(filled.ctl("__complete", "--", "pause", "x"))
    assert out == "xi\t\\x1b[31mred\\nline\n"


def test_completion_without_a_daemon(make_daemon: Any) -> None:
    lone = make_daemon()
    assert good(lone.ctl("__complete", "--", "pause", "")) == ""
    assert "describe" in good(lone.ctl("__complete", "--", "des"))
    other = make_daemon("other").start()
    other.put("m.yaml", ECHO, custom("there"))
    assert good(lone.ctl("__complete", "--", "--socket", other.socket, "pause", "")).split("\t")[0] == "there"
    assert good(lone.ctl("__complete", "--", f"--socket={other.socket}", "pause", "")).split("\t")[0] == "there"


# ---- manual pages ----


def page(name: str) -> str:
    build = build_dir()
    argv = [build / "triggerctl", "man", name] if name in PAGES[:2] else [build / "triggerd", "--man", name]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("name", PAGES)
def test_manual_pages_have_no_warnings(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(page(name))
    if shutil.which("mandoc"):
        done = subprocess.run(["mandoc", "-T", "lint", "-W", "warning", path], capture_output=True, text=True)
        assert done.returncode == 0 and not done.stdout, done.stdout
    if not shutil.which("groff"):
        return
    done = subprocess.run(["groff", "-man", "-ww", "-Tutf8", path], capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr and len(done.stdout) > 1000, done.stderr


def test_manual_pages_have_all_of_their_tables() -> None:
    text = page("triggerctl.1")
    for verb in VERBS:
        assert f".SS {verb}" in text
    assert "__complete" not in text and "\\-\\-exit\\-code" in text
    text = page("triggerd-manifest.5")
    for field in ("cooldown_seconds", "debounce_seconds", "endpoint", "needs", "max_attempts", "memory_bytes"):
        assert f"\\fB{field}\\fR" in text
    assert "shutdown_grace_seconds" in page("triggerd.yaml.5") and "run_log_days" in page("triggerd.yaml.5")
    assert "\\-\\-manifests\\fR \\fIDIR" in page("triggerd.8")


def test_they_are_installed(tmp_path: Path) -> None:
    done = subprocess.run(["cmake", "--install", build_dir(), "--prefix", tmp_path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    files = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    assert {"share/man/man1/triggerctl.1", "share/man/man8/triggerd.8", "share/man/man5/triggerd.yaml.5",
            "share/man/man5/triggerd-manifest.5", "share/bash-completion/completions/triggerctl",
            "share/zsh/site-functions/_triggerctl", "share/fish/vendor_completions.d/triggerctl.fish"} <= files
    assert (tmp_path / "share/man/man1/triggerctl.1").read_text() == page("triggerctl.1")


def test_endpoints_past_the_first_page(daemon: Daemon) -> None:
    daemon.put("m.yaml", ECHO, *(custom(f"t{n}", endpoint=f"at-{n}") for n in range(205)))
    done = daemon.ctl("__complete", "emit", "at-")
    assert len({line.split("\t")[0] for line in done.stdout.splitlines()}) == 205, done.stdout
