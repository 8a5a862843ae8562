"""triggerctl apply, diff and edit: files against what runs, all of them or none."""
from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from harness import ECHO, Daemon, Gate, custom, documents, pipeline, script, wait_for
from test_ctl import good
from test_ctl_online import on_terminal

TEXT = """# the pipeline
kind: pipeline
id: p
steps: [{id: s, exec: {script: cat}}]
--- # the trigger
# about t
name: t   # its name
pipeline_id: p
trigger_type: custom
config:
  endpoint: 'e'
"""


def results(daemon: Daemon, *args: Any, **more: Any) -> dict[str, str]:
    answer = json.loads(good(daemon.ctl("apply", *args, "-o", "json", **more)))
    return {f"{r['kind']}/{r['id']}": r["result"] for r in answer["resources"]}


# ---- apply ----


def test_the_file_around_a_document_is_kept(daemon: Daemon) -> None:
    file = daemon.write("m.yaml", TEXT)
    wait_for(lambda: daemon.exists("t"))
    daemon.emit("e")
    wanted = daemon.data / "t.yaml"
    wanted.write_text(TEXT.split("--- # the trigger\n")[1].replace("'e'", "f").replace("about t", "about it"))
    assert good(daemon.ctl("apply", wanted)) == "trigger/t changed\n"
    assert file.read_text() == TEXT.replace("'e'", "f").replace("about t", "about it")
    assert daemon.trigger("t")["config"] == {"endpoint": "f"} and daemon.trigger("t")["trigger_count"] == 1
    assert os.listdir(daemon.manifests) == ["m.yaml"]


def test_new_ones_become_files_and_stay_over_a_restart(daemon: Daemon) -> None:
    text = documents(ECHO, custom("p"), custom("t"))
    assert results(daemon, "-", input=text) == {"pipeline/p": "created", "trigger/p": "created", "trigger/t": "created"}
    assert sorted(os.listdir(daemon.manifests)) == ["p-2.yaml", "p.yaml", "t.yaml"], "a trigger and a pipeline of one name"
    daemon.restart()
    assert set(results(daemon, "-", input=text).values()) == {"unchanged"}


def test_comments_come_along_and_only_they_have_no_effect(daemon: Daemon) -> None:
    daemon.put("p.yaml", ECHO)
    path = daemon.data / "t.yaml"
    path.write_text("# why\nname: t\npipeline_id: p # that one\ntrigger_type: custom\nconfig: {endpoint: e}\n")
    good(daemon.ctl("apply", path))
    assert (daemon.manifests / "t.yaml").read_text() == path.read_text()
    generation = daemon.trigger("t")["generation"]
    path.write_text(path.read_text().replace("why", "because"))
    assert "=> trigger/t: no effect on what runs" in daemon.ctl("diff", path).stdout
    assert good(daemon.ctl("apply", path)) == "trigger/t changed\n"
    assert "because" in (daemon.manifests / "t.yaml").read_text() and daemon.trigger("t")["generation"] == generation


def test_between_yaml_and_json(daemon: Daemon) -> None:
    daemon.put("p.yaml", ECHO)
    file = daemon.write("t.yaml", "# mine\nname: t\npipeline_id: p\ntrigger_type: custom\nconfig: {endpoint: e} # here\n")
    wait_for(lambda: daemon.exists("t"))
    path = daemon.data / "t.json"
    path.write_text(json.dumps({"config": {"endpoint": "e"}, "trigger_type": "custom", "pipeline_id": "p", "name": "t"}))
    assert results(daemon, path) == {"trigger/t": "unchanged"}, "the same, said otherwise"
    path.write_text(path.read_text().replace('"e"', '"f"'))
    assert results(daemon, path) == {"trigger/t": "changed"}
    assert file.read_text().startswith("# mine\n") and "endpoint: f} # here" in file.read_text()
    path.write_text(json.dumps([custom("a"), custom("b")], indent=1))
    assert results(daemon, path) == {"trigger/a": "created", "trigger/b": "created"}
    assert json.loads((daemon.manifests / "a.json").read_text())["id"] == "a"


def test_many_documents_of_one_file(daemon: Daemon) -> None:
    daemon.put("m.yaml", ECHO, *(custom(f"t{n}", endpoint="e") for n in range(200)))
    path = daemon.data / "m.yaml"
    path.write_text(documents(*(custom(f"t{n}", endpoint="f", cooldown_seconds=n % 2) for n in range(0, 200, 2))))
    assert list(results(daemon, path).values()) == ["changed"] * 100
    assert daemon.emit("f")["triggered_count"] == 100 == daemon.emit("e")["triggered_count"]
    assert (daemon.manifests / "m.yaml").read_text().count("---") == 201


@pytest.mark.parametrize("bad, where", [
    ({"max_concurrent": 0}, "max_concurrent"), ({"trigger_type": "custon"}, "trigger_type"), ({"colour": 1}, "colour")])
def test_all_or_nothing_for_what_is_not_valid(daemon: Daemon, bad: dict[str, Any], where: str) -> None:
    daemon.put("m.yaml", ECHO, custom("t"))
    before = (daemon.manifests / "m.yaml").read_text()
    a, b = daemon.data / "a.yaml", daemon.data / "b.yaml"
    a.write_text(documents(custom("new"), custom("t", cooldown_seconds=5)))
    b.write_text(documents({**custom("other"), **bad}))
    done = daemon.ctl("apply", a, b)
    assert done.returncode == 1 and not done.stdout and f"{b}:" in done.stderr and f"{where}: " in done.stderr
    assert done.stderr == daemon.ctl("validate", a, b).stdout, "as validate says it"
    assert not daemon.exists("new") and (daemon.manifests / "m.yaml").read_text() == before
    assert os.listdir(daemon.manifests) == ["m.yaml"]


def test_an_id_that_two_files_have(daemon: Daemon) -> None:
    a, b = daemon.data / "a.yaml", daemon.data / "b.yaml"
    a.write_text(documents(ECHO, custom("t")))
    b.write_text(documents(custom("t", endpoint="f")))
    assert daemon.ctl("apply", a, b).returncode == 1 and not daemon.exists("t")
    text = json.dumps(custom("t"))
    files = {"files": [{"name": "x.json", "text": text}, {"name": "y.json", "text": text}]}
    problem = daemon.http("POST", "/api/v1/manifests", files).problem(422)
    assert problem["errors"][0]["file"] == "y.json" and not daemon.exists("t")


@contextmanager
def read_only(path: Path) -> Iterator[None]:
    bind = ["mount", "--bind", str(path), str(path)]
    if os.geteuid() or subprocess.run(bind, capture_output=True).returncode:
        pytest.skip("may not mount")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", str(path)], check=True)
        yield
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


def test_all_or_nothing_when_one_file_cannot_be_written(make_daemon: Any) -> None:
    daemon = make_daemon()
    fixed = daemon.root / "fixed"
    fixed.mkdir()
    (fixed / "f.yaml").write_text(documents(ECHO, custom("f")))
    with read_only(fixed):
        daemon.args += ["--manifests", str(fixed)]
        daemon.write("m.yaml", custom("t"))
        daemon.start()
        before = (daemon.manifests / "m.yaml").read_text()
        path = daemon.data / "a.yaml"
        path.write_text(documents(custom("new"), custom("t", cooldown_seconds=5), custom("f", cooldown_seconds=5)))
        done = daemon.ctl("apply", path)
        assert done.returncode == 1 and "f.yaml" in done.stderr
        assert not daemon.exists("new") and daemon.trigger("t")["cooldown_seconds"] == 0
        assert (daemon.manifests / "m.yaml").read_text() == before and os.listdir(daemon.manifests) == ["m.yaml"]
        problem = daemon.http("PUT", "/api/v1/triggers/f", {"cooldown_seconds": 5}).problem(409)
        assert "f.yaml" in problem["detail"]
        daemon.close()


def test_files_that_are_the_daemons_are_not_written(daemon: Daemon) -> None:
    path = daemon.write("m.yaml", ECHO, custom("t"))
    inode = path.stat().st_ino
    assert set(results(daemon, daemon.manifests)) == {"pipeline/p", "trigger/t"}
    assert daemon.exists("t"), "in force when it returns, whatever the watch has seen"
    path.write_text(documents(ECHO, custom("t", cooldown_seconds=7)))
    good(daemon.ctl("apply", path))
    assert daemon.trigger("t")["cooldown_seconds"] == 7 and path.stat().st_ino == inode
    link = daemon.data / "link"
    link.symlink_to(daemon.manifests)
    assert set(results(daemon, link).values()) == {"unchanged"} and os.listdir(daemon.manifests) == ["m.yaml"]


def test_apply_needs_manifests_and_a_daemon(daemon: Daemon) -> None:
    (daemon.data / "empty").mkdir()
    assert daemon.ctl("apply", daemon.data / "empty").returncode == 1
    assert daemon.ctl("apply", daemon.data / "none.yaml").returncode == 1
    path = daemon.data / "m.yaml"
    path.write_text(documents(ECHO))
    daemon.stop()
    assert daemon.ctl("apply", path).returncode == 3 and daemon.ctl("diff", path).returncode == 3


def test_more_than_a_mebibyte(daemon: Daemon) -> None:
    path = daemon.data / "m.yaml"
    path.write_text(documents(ECHO, *(custom(f"t{n}", description="x" * 9000) for n in range(150))))
    assert list(results(daemon, path).values()) == ["created"] * 151
    daemon.http("POST", "/api/v1/triggers", custom("t", description="x" * (1 << 20))).problem(413)


@pytest.mark.parametrize("body", [{}, {"files": 1}, {"files": [1]}, {"files": [{"name": "a.yaml"}]}, {"files": [], "more": 1},
                                  {"files": [{"name": "a", "text": "", "path": "relative"}]}, {"files": [], "dry_run": 1},
                                  {"files": [], "directories": [1]}])
def test_requests_that_are_refused(daemon: Daemon, body: Any) -> None:
    assert daemon.http("POST", "/api/v1/manifests", body).problem(422)["errors"]


# ---- diff ----


def test_what_an_edit_does_at_runtime(daemon: Daemon) -> None:
    gate = Gate(daemon.data)
    daemon.put("m.yaml", pipeline("p", gate.step()), custom("t"), custom("off", enabled=False), custom("lost", "q"))
    for _ in range(13):
        daemon.emit("t")
    path = daemon.data / "x.yaml"

    def effects(*docs: dict[str, Any]) -> str:
        path.write_text(documents(*docs))
        return good(daemon.ctl("diff", path))

    text = effects(custom("t", cooldown_seconds=5))
    assert "=> trigger/t: takes effect at once, nothing restarts (cooldown_seconds)" in text
    assert "=> trigger/t: keeps its queue of 12" in text and "lets 1 run under way go on" in text
    assert "=> trigger/t: restarts the source (config.endpoint)" in effects(custom("t", endpoint="other"))
    assert "stops its source: it is disabled" in effects(custom("t", enabled=False))
    assert "=> trigger/off: starts its source (custom)" in effects(custom("off"))
    assert "takes effect when it is enabled (cooldown_seconds)" in effects(custom("off", enabled=False, cooldown_seconds=1))
    assert "becomes a trigger of another type" in effects(
        {**custom("t"), "trigger_type": "schedule", "config": {"every_seconds": 60}})
    assert "=> pipeline/q: is found by trigger lost" in effects(pipeline("q", script("true")))
    text = effects(pipeline("p", script("true")))
    assert "is what runs from now on do" in text and "lets 1 run under way end as it began" in text
    good(daemon.ctl("pause", "t"))
    assert "stays paused" in effects(custom("t", cooldown_seconds=5))
    assert daemon.trigger("t")["cooldown_seconds"] == 0, "nothing was done"
    gate.open()


def test_a_diff_that_patch_understands(daemon: Daemon) -> None:
    lines = [f"# line {n}\n" for n in range(60)]
    body = "name: t\npipeline_id: p\ntrigger_type: custom\nconfig: {endpoint: e}\n"
    before = "".join(lines) + body
    daemon.write("t.yaml", before)
    wait_for(lambda: daemon.exists("t"))
    edited = ["# new\n", *lines[:3], *lines[5:30], "# in\tbetween\n", *lines[30:55], *lines[56:]]
    after = "".join(edited) + body.replace("e}", "f}")
    path = daemon.data / "t.yaml"
    path.write_text(after)
    text = "".join(line + "\n" for line in good(daemon.ctl("diff", path)).splitlines() if not line.startswith("=>"))
    target = daemon.data / "target"
    target.write_text(before)
    subprocess.run(["patch", "-s", str(target)], input=text, text=True, check=True)
    assert target.read_text() == after
    assert text.count("@@ -") == 4


def test_what_is_gone_from_a_directory_of_the_daemons(daemon: Daemon) -> None:
    daemon.put("m.yaml", ECHO, custom("t"))
    path = daemon.write("n.yaml", custom("n"))
    wait_for(lambda: daemon.exists("n"))
    path.unlink()
    done = daemon.ctl("diff", daemon.manifests, "--exit-code")  # within the grace of 2 s
    assert done.returncode == 1 and "+++ /dev/null" in done.stdout and "=> trigger/n: stops its source" in done.stdout
    wait_for(lambda: not daemon.exists("n"))
    assert daemon.ctl("diff", daemon.manifests, "--exit-code").returncode == 0
    other = daemon.data / "other"
    other.mkdir()
    (other / "t.yaml").write_text(documents(custom("t")))
    assert daemon.ctl("diff", other, "--exit-code").returncode == 0, "of others' directories nothing is gone"


def test_diff_has_colour_on_a_terminal_alone(daemon: Daemon) -> None:
    daemon.put("m.yaml", ECHO, custom("t"))
    path = daemon.data / "t.yaml"
    path.write_text(documents(custom("t", cooldown_seconds=5)))
    shown = on_terminal(daemon, "diff", str(path))
    assert b"\x1b[32m+ " in shown and b"\x1b[31m- " in shown
    assert b"\x1b" not in on_terminal(daemon, "diff", str(path), NO_COLOR="1")
    assert "\x1b" not in good(daemon.ctl("diff", path))


def test_diff_as_json(daemon: Daemon) -> None:
    daemon.put("m.yaml", ECHO)
    path = daemon.data / "t.yaml"
    path.write_text("name: t\npipeline_id: p\ntrigger_type: custom\nconfig: {endpoint: e}\n")
    shown = json.loads(good(daemon.ctl("diff", path, "-o", "json")))["resources"]
    assert [(r["id"], r["result"], r["before"], r["after"]) for r in shown] == [("t", "created", None, path.read_text()[:-1])]
    assert not daemon.exists("t") and os.listdir(daemon.manifests) == ["m.yaml"]


def test_passwords_in_urls_are_not_in_effects(daemon: Daemon) -> None:
    path = daemon.data / "t.yaml"
    path.write_text(documents({"id": "t", "name": "t", "pipeline_id": "p", "trigger_type": "message_queue", "config": {
        "queue_type": "redis", "connection_url": "redis://u:hunter22@localhost:1/0", "queue_name": "q"}}))
    assert "connects redis://u:***@localhost:1/0" in good(daemon.ctl("diff", path))


# ---- edit ----


def editor(daemon: Daemon, text: str) -> dict[str, str]:
    path = daemon.data / "editor"
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)
    return {"VISUAL": "", "EDITOR": str(path), "TMPDIR": str(daemon.data)}


def leftovers(daemon: Daemon) -> list[Path]:
    return list(daemon.data.glob("triggerctl-*"))


def test_an_edit_that_is_left_as_it_was(daemon: Daemon) -> None:
    file = daemon.write("m.yaml", TEXT)
    wait_for(lambda: daemon.exists("t"))
    assert good(daemon.ctl("edit", "trigger", "t", env=editor(daemon, "exit 0"))) == "trigger/t unchanged\n"
    assert file.read_text() == TEXT and not leftovers(daemon)
    assert daemon.ctl("edit", "trigger", "none", env=editor(daemon, "exit 0")).returncode == 1


def test_an_edit_that_is_not_valid_is_opened_again_with_its_errors(daemon: Daemon) -> None:
    file = daemon.write("m.yaml", TEXT)
    wait_for(lambda: daemon.exists("t"))
    log = daemon.data / "log"
    env = editor(daemon, f'cat "$1" >> {log}; echo ==== >> {log}\n'
                         'if grep -q "^#! " "$1"; then sed -i "s/soon/9/" "$1"; else echo "cooldown_seconds: soon" >> "$1"; fi')
    assert good(daemon.ctl("edit", "trigger", "t", env=env)) == "trigger/t changed\n"
    first, second = log.read_text().split("====\n")[:2]
    assert first == TEXT.split("--- # the trigger\n")[1]
    assert second.startswith("#! t.yaml:7:19: cooldown_seconds: ") and second.endswith(first + "cooldown_seconds: soon\n")
    assert file.read_text() == TEXT + "cooldown_seconds: 9\n" and not leftovers(daemon)


@pytest.mark.parametrize("command", ["s/^pipeline_id.*/pipeline_id: 7/", "s/^name.*/name: other/", "s/^name.*/kind: pipeline/"])
def test_an_edit_that_stays_invalid_is_kept_in_a_file(daemon: Daemon, command: str) -> None:
    daemon.write("m.yaml", TEXT)
    wait_for(lambda: daemon.exists("t"))
    done = daemon.ctl("edit", "trigger", "t", env=editor(daemon, f'sed -i "{command}" "$1"'))
    assert done.returncode == 1 and not done.stdout
    [kept] = leftovers(daemon)
    assert str(kept) in done.stderr and "#! " in kept.read_text()
    assert daemon.trigger("t")["pipeline_id"] == "p" and (kept.stat().st_mode & 0o777) == 0o600


def test_an_editor_that_fails_changes_nothing(daemon: Daemon) -> None:
    file = daemon.write("m.yaml", TEXT)
    wait_for(lambda: daemon.exists("t"))
    env = editor(daemon, 'echo "cooldown_seconds: 9" >> "$1"; exit 1')
    assert daemon.ctl("edit", "trigger", "t", env=env).returncode == 1
    assert daemon.ctl("edit", "trigger", "t", env={"VISUAL": "/nowhere/ed", "EDITOR": ""}).returncode == 1
    assert file.read_text() == TEXT and not leftovers(daemon)


def test_an_edit_over_another_one_is_refused(daemon: Daemon) -> None:
    file = daemon.write("m.yaml", TEXT)
    wait_for(lambda: daemon.exists("t"))
    ctl = daemon.build / "triggerctl"
    env = editor(daemon, f"echo '{json.dumps(custom('t', max_concurrent=3))}' | {ctl} apply - >&2\n"
                         'echo "cooldown_seconds: 9" >> "$1"')
    done = daemon.ctl("edit", "trigger", "t", env=env)
    assert done.returncode == 1 and "meanwhile" in done.stderr and len(leftovers(daemon)) == 1
    assert daemon.trigger("t")["max_concurrent"] == 3 and daemon.trigger("t")["cooldown_seconds"] == 0
    assert file.read_text().startswith("# the pipeline\n")


def test_edit_a_pipeline_in_json(daemon: Daemon) -> None:
    file = daemon.write("m.json", json.dumps([ECHO, custom("t")], indent=4))
    wait_for(lambda: daemon.exists("t"))
    env = editor(daemon, 'case "$1" in *.json) sed -i "s/exec cat/cat -/" "$1";; esac')
    assert good(daemon.ctl("edit", "pipeline", "p", env=env)) == "pipeline/p changed\n"
    assert json.loads(file.read_text())[0]["steps"][0]["exec"]["script"] == "cat -"
    assert file.read_text() == json.dumps([ECHO, custom("t")], indent=4).replace("exec cat", "cat -")


def test_new_ones_go_where_the_settings_say(make_daemon: Any) -> None:
    daemon = make_daemon()
    config = daemon.root / "triggerd.yaml"
    config.write_text(json.dumps({"api": {"manifest_dir": str(daemon.manifests / "made")}}))
    daemon.args += ["--config", str(config)]
    daemon.start()
    assert results(daemon, "-", input=documents(ECHO, custom("t"))) == {"pipeline/p": "created", "trigger/t": "created"}
    assert sorted(os.listdir(daemon.manifests / "made")) == ["p.yaml", "t.yaml"]
