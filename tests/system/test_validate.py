"""triggerctl validate, triggerd --check and the running daemon say the same, word for word."""
from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness import Daemon, build_dir, wait_for

GOOD = "name: t\npipeline_id: p\ntrigger_type: custom\nconfig: {endpoint: e}\n"
FILES = {
    "a.yaml": GOOD + "---\nkind: pipeline\nid: p\nsteps:\n- id: s\n  exec: {comand: [x]}\n  needs: [none]\n",
    "b.json": '[{"name": "u", "pipeline_id": "p", "trigger_type": "custom", "config": {"endpoint": "e e"}}, 7]',
    "c.yaml": GOOD + "max_concurrent: 0\ncooldown_seconds: soon\nenabeld: true\n",
    "d.yaml": GOOD.replace("name: t", "name: v") + "---\nname: [\n---\na: 1\na: 2\n",
    "e.yaml": GOOD + "\"\\u202e\": 1\n",
    "f.json": '{"name": "w", "name": "x"}',
    "g.yaml": "x: \udcff",
    "h.yaml": "x: \x00",
    "i.yaml": "# nothing\n",
    "j.yaml": "- 1\n",
    "k.yaml": "%TAG ! x:\n---\na: !x 1\nb: *c\n",
    "l.yaml": "# x\n" * (5 << 18),
}


def lines(*command: Any) -> list[str]:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=60)
    assert done.returncode == (1 if done.stdout else 0), done.stderr
    return done.stdout.splitlines()


def told(daemon: Daemon) -> list[str]:
    found = []
    for m in daemon.get("/api/v1/manifests")["manifests"]:
        for e in m["errors"]:
            place = f":{e['line']}:{e['column']}" if e["line"] else ""
            field = f"{e['path']}: " if e["path"] else ""
            found.append(f"{m['file']}{place}: {field}{e['message']}".replace("\u202e", "\\u202e"))
    return found


def test_all_three_agree(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon()
    for name, text in FILES.items():
        (daemon.manifests / name).write_bytes(text.encode(errors="surrogateescape"))
    (daemon.manifests / "m.yaml").symlink_to("nowhere")
    ctl = daemon.command()[0].replace("triggerd", "triggerctl")
    expected = lines(ctl, "validate", daemon.manifests)
    assert len(expected) > 20
    assert {line.split(":")[0].rsplit("/")[-1] for line in expected} == {*FILES, "m.yaml"} - {"i.yaml"}
    assert lines(*daemon.command(), "--check") == expected
    daemon.start()
    wait_for(lambda: len(told(daemon)) == len(expected), what="as many errors")
    assert told(daemon) == expected


def test_two_directories(make_daemon: Callable[..., Daemon]) -> None:
    """An id in both is an error of the second, whichever program looks."""
    daemon = make_daemon()
    other = daemon.root / "also"
    other.mkdir()
    (daemon.manifests / "z.yaml").write_text(GOOD)
    (other / "a.yaml").write_text(GOOD)
    daemon.args += ("--manifests", str(other))
    ctl = daemon.command()[0].replace("triggerd", "triggerctl")
    expected = [f'{other}/a.yaml:1:1: id: trigger "t" is already defined in {daemon.manifests}/z.yaml:1']
    assert lines(ctl, "validate", daemon.manifests, other) == expected
    assert lines(ctl, "validate", daemon.manifests, other, daemon.manifests / "z.yaml") == expected
    assert lines(*daemon.command(), "--check") == expected
    daemon.start()
    assert told(daemon) == expected


def test_the_first_good_one_owns_the_id(make_daemon: Callable[..., Daemon]) -> None:
    """A document that is wrong takes no id from one that is right, and is told of the conflict too."""
    daemon = make_daemon()
    for name, text in {"a.yaml": GOOD + "enabled: 1\n", "b.yaml": GOOD, "c.yaml": GOOD + "enabled: 2\n"}.items():
        (daemon.manifests / name).write_text(text)
    ctl = daemon.command()[0].replace("triggerd", "triggerctl")
    root = daemon.manifests
    conflict = f'id: trigger "t" is already defined in {root}/b.yaml:1'
    expected = [f"{root}/a.yaml:1:1: {conflict}", f"{root}/a.yaml:5:10: enabled: expected true or false, got 1",
                f"{root}/c.yaml:1:1: {conflict}", f"{root}/c.yaml:5:10: enabled: expected true or false, got 2"]
    assert lines(ctl, "validate", root) == expected
    daemon.start()
    assert told(daemon) == expected


LOOP = ("name: a\npipeline_id: p\ntrigger_type: custom\nconfig: {endpoint: x}\n", "kind: pipeline\nid: p\nsteps: [{id: s, emit: {endpoint: x}}]\n")
WARNING = "loop: trigger a → pipeline p → emit x → trigger a (allow_loops: true says that it is meant)"


def test_a_loop_is_a_warning(make_daemon: Callable[..., Daemon]) -> None:
    """Told by both, with the same words, and no reason to refuse anything; gone with the edit that breaks it."""
    daemon = make_daemon()
    (daemon.manifests / "a.yaml").write_text("\n" + LOOP[0])
    (daemon.manifests / "p.yaml").write_text(LOOP[1])
    ctl = daemon.command()[0].replace("triggerd", "triggerctl")
    done = subprocess.run([ctl, "validate", daemon.manifests], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, f"{daemon.manifests}/a.yaml:2:1: warning: {WARNING}\n")
    assert "0 errors, 1 warning" in done.stderr
    done = subprocess.run([ctl, "validate", "-o", "github", daemon.manifests], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stdout.startswith("::warning file=")
    done = subprocess.run([*daemon.command(), "--check"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and WARNING in done.stdout
    daemon.start()

    def warnings() -> list[Any]:
        return [w for m in daemon.get("/api/v1/manifests")["manifests"] for w in m["warnings"]]

    assert warnings() == [{"line": 2, "column": 1, "path": "", "message": WARNING}]
    assert told(daemon) == []
    assert daemon.condition("a", "Ready")["status"] == "True"
    assert f"a.yaml:2: {WARNING}" in daemon.output()
    assert f"a.yaml:2:1: warning: {WARNING}" in daemon.ctl("get", "manifests").stdout
    (daemon.manifests / "p.yaml").write_text(LOOP[1].replace("endpoint: x", "endpoint: y"))
    wait_for(lambda: not warnings(), what="no warning any more")
    (daemon.manifests / "p.yaml").write_text(LOOP[1])
    wait_for(warnings, what="the warning again")
    (daemon.manifests / "a.yaml").write_text(LOOP[0] + "allow_loops: true\n")
    wait_for(lambda: not warnings(), what="no warning any more")
    assert 'trigger "a" is in no loop any more' in daemon.output()


def test_messages_that_rabbitmq_takes_back_are_a_warning(tmp_path: Path) -> None:
    """A run may last longer than RabbitMQ waits for its acknowledgement."""
    trigger = ("name: a\npipeline_id: p\ntrigger_type: message_queue\nconfig: {queue_type: rabbitmq, ack_mode: manual, "
               "connection_url: 'amqp://h', queue_name: q}\n")
    (tmp_path / "a.yaml").write_text(trigger)
    for timeout, words in (("", "for any time"), ("timeout_seconds: 1801\n", "for 1801 s"), ("timeout_seconds: 1800\n", "")):
        (tmp_path / "p.yaml").write_text("kind: pipeline\nid: p\nsteps: [{id: s, exec: {command: [x]}}]\n" + timeout)
        done = subprocess.run([build_dir() / "triggerctl", "validate", tmp_path], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0
        assert done.stdout.count("warning:") == (1 if words else 0) and words in done.stdout, done.stdout
    (tmp_path / "a.yaml").write_text(trigger.replace("manual", "auto"))
    (tmp_path / "p.yaml").write_text("kind: pipeline\nid: p\nsteps: [{id: s, exec: {command: [x]}}]\n")
    done = subprocess.run([build_dir() / "triggerctl", "validate", tmp_path], capture_output=True, text=True, timeout=60)
    assert done.stdout == ""
