"""Manifests: exact and harmless errors, what a change changes and what it does not, and every way to save a file."""
from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from harness import ECHO, Daemon, custom, documents, file_watch, never, pipeline, script, wait_for, write_atomic

GOOD = """\
name: Good
pipeline_id: p
trigger_type: custom
config: {endpoint: good}
"""


def errors(d: Daemon, count: int = 1) -> list[str]:
    return wait_for(lambda: (e := d.errors()) and len(e) >= count and e, what="manifest errors")


def endpoint(d: Daemon, id: str) -> Any:
    return d.trigger(id)["config"]["endpoint"]


# ---- errors ----


def test_an_error_names_its_place(daemon: Daemon) -> None:
    daemon.write("w.yaml", "name: Watch\npipeline_id: p\ntrigger_type: file_watch\nconfig:\n  path: /data/*.csv\n"
                           "  debounce_seconds: soon\n")
    found = errors(daemon)
    assert found == ['w.yaml:6:21: config.debounce_seconds: expected a number ≥ 0, got "soon"']
    assert not daemon.exists("watch")


def test_all_errors_of_a_file_at_once(daemon: Daemon) -> None:
    daemon.write("w.yaml", "name: Watch\npipeline_id: p\ntrigger_type: file_watch\nmax_concurrent: 0\nconfig:\n"
                           "  path: 7\n  debounce_second: 1\n---\nkind: pipeline\nid: q\nsteps: []\n---\nkind: nothing\n")
    found = errors(daemon, 4)
    lines = {int(e.split(":")[1]) for e in found}
    assert {4, 6, 7} <= lines and any(line >= 9 for line in lines) and 13 in lines
    assert any("debounce_second" in e and "debounce_seconds" in e.split("debounce_second", 1)[1] for e in found), found


@pytest.mark.parametrize("text, expected", [
    ("name: N\npipeline_id: p\ntrigger_type: file_watch\ncooldown_seconds: .nan\nconcurrency_key: '$['\nconfig:\n"
     "  path: rel/*.csv\n  events: [create]\n  debounce_seconds: soon\n  ignore_patterns: ['[']\n  bogus: 1\n"
     "  filter: {a: {prefix: x}, b: [{odd: 1}]}\n  input_mapping:\n    a: '$['\n    b: 5\n",
     {4: "cooldown_seconds: a number must be finite", 5: "concurrency_key: ", 7: "config.path: ", 8: "config.events[0]: ",
      9: "config.debounce_seconds: ", 10: "config.ignore_patterns[0]: ", 11: "config.bogus: ",
      12: "config.filter.b[0].odd: ", 14: "config.input_mapping.a: ", 15: "config.input_mapping.b: "}),
    ("name: N\npipeline_id: p\ntrigger_type: message_queue\nconfig:\n  queue_type: kafka\n  queue_name: 7\n"
     "  connection_url: amqp://x\n  pop: left\n",
     {6: "config.queue_name: ", 7: "config.connection_url: expected kafka://", 8: "config.pop: "}),
    ("kind: pipeline\nid: p\ninputs: {type: objec}\ntimeout_seconds: -1\nsteps:\n- id: a\n  if: '$['\n  exec:\n"
     "    command:\n    - '{{ $[ }}'\n    - '{{ $.x[ }}'\n    bogus: 1\n- id: b\n  needs: [c]\n  http: {url: 'ftp://x'}\n"
     "- id: d\n- {id: '!', exec: {command: ['{{ $[ }}'], cwd: 5}}\noutputs:\n  x: '$['\n",
     {3: "inputs.type: ", 4: "timeout_seconds: ", 7: "steps[0].if: ", 10: "steps[0].exec.command[0]: ",
      11: "steps[0].exec.command[1]: ", 12: "steps[0].exec.bogus: ", 14: "steps[1].needs[0]: ", 15: "steps[1].http.url: ",
      16: "steps[2]: ", 17: "steps[3].exec.cwd: ", 19: "outputs.x: "})])
def test_errors_of_every_kind_are_told_together(daemon: Daemon, text: str, expected: dict[int, str]) -> None:
    """A number out of range does not hide a path that does not parse, nor an operator that there is not."""
    daemon.write("w.yaml", text)
    found = {int(e.split(":")[1]): e.split(": ", 1)[1] for e in errors(daemon, len(expected))}
    assert found.keys() == expected.keys(), found
    for line, begin in expected.items():
        assert found[line].startswith(begin)


@pytest.mark.parametrize("text, word", [
    ("name: A\nname: B\n", "name"), ("name: !!python/object:os.system A\n", "tag"), ("name: [A\n", ""), ("- 1\n", ""),
    ("name: A\npipeline_id: p\ntrigger_type: smoke\nconfig: {}\n", "smoke"),
    ("name: A\npipeline_id: p\ntrigger_type: custom\nconfig: {endpoint: e}\ncooldown_seconds: .nan\n", "cooldown_seconds"),
    ("name: A\npipeline_id: p\ntrigger_type: custom\nconfig: {endpoint: 'a b'}\n", "endpoint"),
    ("name: A\npipeline_id: p\ntrigger_type: custom\nconfig: {endpoint: e, filter: {a: [{starts: x}]}}\n", "starts"),
    ("name: A\npipeline_id: p\ntrigger_type: custom\nconfig: {endpoint: e, input_mapping: {a: '$.a['}}\n", "input_mapping"),
    ("name: A\npipeline_id: p\ntrigger_type: schedule\nconfig: {cron: '61 * * * *'}\n", "cron"),
    ("name: stats\npipeline_id: p\ntrigger_type: custom\nconfig: {endpoint: e}\n", "id"),
    ("kind: pipeline\nid: q\nsteps: [{id: a, needs: [b], exec: {command: [x]}}, "
     "{id: b, needs: [a], exec: {command: [x]}}]\n", ""),
    ("kind: pipeline\nid: q\nsteps: [{id: a, exec: {command: [x]}, needs: [c]}]\n", "c"),
    ("kind: pipeline\nid: Q!\nsteps: [{id: a, exec: {command: [x]}}]\n", "id"),
    ("kind: pipeline\nid: q\nsteps: [{id: a, exec: {command: [x], script: y}}]\n", ""),
    ("kind: pipeline\nid: q\nsteps: [{id: a, exec: {command: [x]}, http: {url: 'http://x'}}]\n", "")])
def test_what_is_an_error(daemon: Daemon, text: str, word: str) -> None:
    daemon.write("bad.yaml", text)
    found = errors(daemon)
    assert any(word in e for e in found), found
    assert daemon.get("/api/v1/triggers")["total"] == 0 and daemon.get("/api/v1/pipelines")["total"] == 0


@pytest.mark.parametrize("text", ['{"name": "A", "max_concurrent": 01}', '{"name": "A",}', '{"name": "A", "name": "B"}',
                                  '{"name": "\\ud800"}', '{"name": "a\\u0000b"}', "{'name': 'A'}"])
def test_json_is_strict(daemon: Daemon, text: str) -> None:
    daemon.write("bad.json", text)
    assert errors(daemon)[0].startswith("bad.json:1:")


def test_yaml_is_1_2_core(daemon: Daemon) -> None:
    daemon.write("t.yaml", GOOD + "default_inputs: {a: no, b: off, c: 1_000, d: 0o17, e: 0x1F, f: ~, g: 1e3, h: yes, i: True}\n")
    daemon.put("p.yaml", ECHO)
    wait_for(lambda: daemon.exists("good"))
    assert daemon.trigger("good")["default_inputs"] == {"a": "no", "b": "off", "c": "1_000", "d": 15, "e": 31, "f": None,
                                                        "g": 1000, "h": "yes", "i": True}


def test_aliases_are_bounded(daemon: Daemon) -> None:
    bomb = "x-a: &a [1,1,1,1,1,1,1,1,1,1]\n"
    for last, name in zip("abcdefgh", "bcdefghi"):
        bomb += f"x-{name}: &{name} [{','.join(['*' + last] * 10)}]\n"
    daemon.write("bomb.yaml", bomb + GOOD)
    assert "bomb.yaml" in errors(daemon)[0]
    assert daemon.http("GET", "/healthz", timeout=10).status == 200


def test_a_bad_document_stops_no_good_one(daemon: Daemon) -> None:
    daemon.write("m.yaml", GOOD + "---\nname: Bad\n---\n" + GOOD.replace("Good", "Other").replace("good", "other"))
    errors(daemon)
    assert daemon.exists("good") and daemon.exists("other") and not daemon.exists("bad")


def test_the_last_good_keeps_running(daemon: Daemon) -> None:
    daemon.put("p.yaml", ECHO)
    daemon.put("t.yaml", custom("t", endpoint="old"))
    daemon.write("t.yaml", documents(custom("t", endpoint="new", max_concurrent="many")))
    errors(daemon)

    def check() -> None:
        shown = daemon.trigger("t")
        assert shown["status"] == "active" and shown["config"]["endpoint"] == "old"
        assert daemon.condition("t", "Accepted")["status"] == "False"
        assert daemon.condition("t", "Ready")["status"] == "True"
        assert shown["observed_generation"] < shown["generation"]
        assert daemon.out("old") is not None
        assert daemon.emit("new")["triggered_count"] == 0
        assert len(daemon.errors()) == 1

    check()
    daemon.restart()
    check()
    daemon.put("t.yaml", custom("t", endpoint="new"))
    assert daemon.condition("t", "Accepted")["status"] == "True" and daemon.errors() == []
    assert daemon.out("new") is not None


def test_two_resources_with_one_id(daemon: Daemon) -> None:
    daemon.put("b.yaml", custom("t", endpoint="first"))
    daemon.write("a.yaml", custom("t", endpoint="second"))
    assert "a.yaml" in errors(daemon)[0]
    assert endpoint(daemon, "t") == "first"
    daemon.restart()  # which came first is state, not the order of names
    assert "a.yaml" in errors(daemon)[0]
    assert endpoint(daemon, "t") == "first"
    (daemon.manifests / "b.yaml").unlink()
    wait_for(lambda: endpoint(daemon, "t") == "second")
    assert daemon.errors() == []


def test_x_keys_and_ids(daemon: Daemon) -> None:
    daemon.write("t.yaml", "x-base: &base {endpoint: e}\nname: Process New CSV Files\npipeline_id: p\n"
                           "trigger_type: custom\nconfig: *base\n")
    wait_for(lambda: daemon.exists("process-new-csv-files"))
    assert daemon.trigger("process-new-csv-files")["config"] == {"endpoint": "e"}


def test_files_that_are_none(daemon: Daemon) -> None:
    for name in (".hidden.yaml", "t.yaml~", ".t.yaml.swp", "#t.yaml#", "t.yaml.bak", "notes.txt", ".git/t.yaml", "4913"):
        daemon.write(name, GOOD)
    os.mkfifo(daemon.manifests / "pipe.yaml")
    (daemon.manifests / "dir.yaml").mkdir()
    daemon.write("dir.yaml/in/t.yml", GOOD)
    wait_for(lambda: daemon.exists("good"))
    assert daemon.get("/api/v1/triggers")["total"] == 1 and daemon.errors() == []
    daemon.stop()


# ---- changes ----


def test_two_documents_one_file(daemon: Daemon) -> None:
    path = daemon.put("m.yaml", custom("a"), custom("b"))
    wait_for(lambda: daemon.exists("a") and daemon.exists("b"))
    assert Path(daemon.trigger("b")["source"]["file"]).name == path.name
    assert daemon.trigger("b")["source"]["line"] > daemon.trigger("a")["source"]["line"]
    daemon.write("m.yaml", custom("a"))
    wait_for(lambda: not daemon.exists("b"))
    assert daemon.exists("a")


def test_only_what_differs_changes(daemon: Daemon) -> None:
    daemon.put("p.yaml", ECHO)
    daemon.put("m.yaml", custom("a"), custom("b"))
    daemon.fire("a")
    before = daemon.trigger("a")
    daemon.put("m.yaml", custom("b", cooldown_seconds=5), custom("a"))
    after = daemon.trigger("a")
    assert (after["generation"], after["trigger_count"], after["created_at"]) == (
        before["generation"], 1, before["created_at"])
    text = (daemon.manifests / "m.yaml").read_text()
    daemon.write("m.yaml", "# a comment\n" + text)
    wait_for(lambda: daemon.trigger("a")["source"]["line"] == after["source"]["line"] + 1)
    assert daemon.trigger("a")["generation"] == before["generation"]
    assert daemon.trigger("b")["generation"] == daemon.trigger("b")["observed_generation"] == 2


def test_deletion_waits_a_moment(daemon: Daemon) -> None:
    daemon.put("t.yaml", custom("t"))
    begin = time.monotonic()
    (daemon.manifests / "t.yaml").unlink()
    wait_for(lambda: not daemon.exists("t"))
    assert time.monotonic() - begin >= 1.8


def test_a_save_by_rename_is_an_update(daemon: Daemon) -> None:
    daemon.put("p.yaml", ECHO)
    path = daemon.put("t.yaml", custom("t"))
    daemon.fire("t")
    path.rename(path.with_name("t.yaml~"))  # as vim saves
    time.sleep(0.3)
    assert daemon.exists("t")
    path.write_text(documents(custom("t", cooldown_seconds=0.5)))
    wait_for(lambda: daemon.trigger("t")["cooldown_seconds"] == 0.5)
    time.sleep(2.5)  # past the grace of the deletion that was none
    assert daemon.trigger("t")["trigger_count"] == 1


def test_a_move_to_another_file(daemon: Daemon) -> None:
    daemon.put("p.yaml", ECHO)
    path = daemon.put("t.yaml", custom("t"))
    daemon.fire("t")
    created = daemon.trigger("t")["created_at"]
    (daemon.manifests / "sub").mkdir()
    path.rename(daemon.manifests / "sub" / "u.yml")
    wait_for(lambda: daemon.trigger("t")["source"]["file"].endswith("sub/u.yml"))
    shown = daemon.trigger("t")
    assert (shown["trigger_count"], shown["created_at"], shown["generation"]) == (1, created, 1)
    assert daemon.errors() == []


def test_a_burst_is_one_step(daemon: Daemon) -> None:
    seen: set[int] = set()
    staging = daemon.root / "staging"
    for i in range(200):
        write_atomic(staging / f"t{i}.yaml", documents(custom(f"t{i}")))
    staging.rename(daemon.manifests / "moved-in")

    def total() -> int:
        seen.add(daemon.get("/api/v1/triggers?page_size=1")["total"])
        return max(seen)

    wait_for(lambda: total() == 200)
    assert seen <= {0, 200}
    seen.clear()
    (daemon.manifests / "moved-in").rename(staging)
    wait_for(lambda: (total(), 0 in seen)[1])
    assert seen <= {0, 200}


def test_a_change_is_in_force_soon(daemon: Daemon) -> None:
    daemon.put("t.yaml", custom("t", cooldown_seconds=1))
    late: list[float] = []
    for n in range(2, 30):
        daemon.write("t.yaml", custom("t", cooldown_seconds=n))
        begin = time.monotonic()
        wait_for(lambda n=n: daemon.trigger("t")["cooldown_seconds"] == n)
        late.append(time.monotonic() - begin)
        if late[-1] < 0.5:  # 200 ms, and what a sanitizer adds; a busy machine has a quiet moment in between
            return
    raise AssertionError(late)


def test_a_file_that_is_still_written(daemon: Daemon) -> None:
    with open(daemon.manifests / "good.yaml", "w") as f:
        f.write(GOOD[:20])
        f.flush()
        never(lambda: daemon.errors() or daemon.exists("good"), 0.8)
        f.write(GOOD[20:])
    wait_for(lambda: daemon.exists("good"))
    assert daemon.errors() == []


def test_a_file_held_open_is_read_in_the_end(daemon: Daemon) -> None:
    with open(daemon.manifests / "good.yaml", "w") as f:
        f.write(GOOD)
        f.flush()
        wait_for(lambda: daemon.exists("good"), 30)


def test_a_link_without_target_is_read_when_it_has_one(daemon: Daemon) -> None:
    (daemon.manifests / "t.yaml").symlink_to(daemon.data / "target.yaml")
    never(lambda: daemon.exists("good"), 0.5)
    write_atomic(daemon.data / "target.yaml", GOOD)
    wait_for(lambda: daemon.exists("good"))


def test_what_a_link_leads_to_is_followed(daemon: Daemon) -> None:
    target = daemon.data / "t.yaml"
    write_atomic(target, documents(custom("t", cooldown_seconds=1)))
    (daemon.manifests / "t.yaml").symlink_to(target)
    wait_for(lambda: daemon.exists("t"))
    target.write_text(documents(custom("t", cooldown_seconds=2)))  # in place
    wait_for(lambda: daemon.trigger("t")["cooldown_seconds"] == 2)
    write_atomic(target, documents(custom("t", cooldown_seconds=3)))  # by a rename
    wait_for(lambda: daemon.trigger("t")["cooldown_seconds"] == 3)
    assert daemon.trigger("t")["generation"] == 3 and daemon.errors() == []


def test_a_folder_that_may_not_be_entered_for_a_while() -> None:
    home = Path(tempfile.mkdtemp(prefix="trg"))  # root may enter everywhere; nobody may not enter pytest's directories
    daemon = Daemon(home, user="nobody" if os.geteuid() == 0 else None)
    folder = daemon.manifests / "sub"
    folder.mkdir()
    (folder / "good.yaml").write_text(GOOD)
    for directory in (home, daemon.manifests, folder, daemon._short):
        directory.chmod(0o777)
    try:
        daemon.start()
        folder.chmod(0)
        daemon.signal(signal.SIGHUP)
        assert "Permission denied" in errors(daemon)[0]
        assert daemon.exists("good")
        folder.chmod(0o777)
        wait_for(lambda: not daemon.errors(), what="read again")
        assert daemon.exists("good")
    finally:
        folder.chmod(0o777)
        daemon.close()
        shutil.rmtree(home)


def test_a_symlink_swap(daemon: Daemon) -> None:
    """As Kubernetes updates a ConfigMap volume and git-sync a work tree."""
    def version(name: str, value: float) -> None:
        write_atomic(daemon.manifests / name / "t.yaml", documents(custom("t", cooldown_seconds=value)))

    version("..one", 1)
    (daemon.manifests / "..data").symlink_to("..one")
    (daemon.manifests / "t.yaml").symlink_to("..data/t.yaml")
    wait_for(lambda: daemon.exists("t"))
    version("..two", 2)
    (daemon.manifests / "..data_tmp").symlink_to("..two")
    (daemon.manifests / "..data_tmp").rename(daemon.manifests / "..data")
    shutil.rmtree(daemon.manifests / "..one")
    wait_for(lambda: daemon.trigger("t")["cooldown_seconds"] == 2)
    assert daemon.trigger("t")["generation"] == 2 and daemon.errors() == []


def test_a_lost_directory_deletes_nothing(daemon: Daemon) -> None:
    daemon.put("p.yaml", ECHO)
    daemon.put("t.yaml", custom("t"))
    away = daemon.root / "away"
    daemon.manifests.rename(away)
    wait_for(lambda: daemon.condition("t", "ManifestsReachable").get("status") == "False")
    time.sleep(2.5)  # past the grace of deletions
    assert daemon.out("t") is not None
    away.rename(daemon.manifests)
    wait_for(lambda: daemon.condition("t", "ManifestsReachable").get("status", "True") == "True")
    daemon.put("t.yaml", custom("t", cooldown_seconds=3))
    assert daemon.trigger("t")["trigger_count"] == 1


@pytest.mark.skipif(not shutil.which("git"), reason="no git")
def test_the_commit_is_shown(daemon: Daemon) -> None:
    def git(*args: str) -> str:
        return subprocess.run(["git", "-C", str(daemon.manifests), "-c", "user.name=n", "-c", "user.email=e@x", *args],
                              check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q", "-b", "main")
    daemon.put("t.yaml", custom("t"))
    for round in range(2):
        git("add", "t.yaml")
        git("commit", "-q", "--allow-empty", "-m", f"round {round}")
        head = git("rev-parse", "HEAD")
        wait_for(lambda head=head: daemon.trigger("t")["source"]["commit"] == head, what=f"commit {head}")
    daemon.put("t.yaml", custom("t", cooldown_seconds=1))
    git("commit", "-q", "-a", "-m", "slower")
    git("checkout", "-q", "HEAD~1")
    wait_for(lambda: daemon.trigger("t")["cooldown_seconds"] == 0)


def test_removed_while_down(daemon: Daemon) -> None:
    daemon.put("a.yaml", custom("a"))
    daemon.put("b.yaml", custom("b"))
    daemon.stop()
    (daemon.manifests / "a.yaml").unlink()
    daemon.start()
    assert daemon.exists("b")
    wait_for(lambda: not daemon.exists("a"))


def test_a_running_run_keeps_its_pipeline(daemon: Daemon) -> None:
    gate = daemon.data / "gate"
    wait = script('while [ ! -e "$GATE" ]; do sleep 0.02; done', "wait", env={"GATE": str(gate)})
    daemon.put("p.yaml", pipeline("p", wait, script("echo '\"old\"'", needs=["wait"])))
    daemon.put("t.yaml", custom("t"))
    event = daemon.emit1("t")
    daemon.wait_event(event["id"], "executing")
    daemon.put("p.yaml", pipeline("p", script("echo '\"new\"'")))
    gate.touch()
    assert daemon.run_of(event)["outputs"]["out"] == "old"
    assert daemon.out("t") == "new"


# ---- secrets ----


def test_secrets_are_shown_as_references(make_daemon: Any, tmp_path: Path) -> None:
    d: Daemon = make_daemon(env={"WORD": "swordfish"})
    (d.manifests / "token").write_text("hunter22\n")
    d.start()
    step = script('test "$A" = sword""fish && test "$B" = hunter""22 && echo "told: $A"', env={
        "A": "${env:WORD}", "B": "${file:" + str(d.manifests / "token") + "}"})
    d.put("m.yaml", pipeline("p", step), custom("t", default_inputs={"literal": "${env:WORD}"}))
    event = d.wait_event(d.emit1("t", {"text": "${env:WORD}"})["id"], "completed")
    everything = json.dumps([d.run(event["run_id"]), event, d.get("/api/v1/pipelines/p"), d.trigger("t")])
    everything += d.output() + d.http("GET", f"/api/v1/runs/{event['run_id']}/steps/s/stdout").body.decode()
    assert "swordfish" not in everything and "hunter22" not in everything
    assert event["event_data"] == {"text": "${env:WORD}"}  # data is never expanded


def test_literal_secrets_are_hidden(daemon: Daemon) -> None:
    daemon.put("t.yaml", {"kind": "trigger", "id": "t", "name": "t", "pipeline_id": "p", "trigger_type": "webhook",
                          "config": {"path": "x", "signature": {"scheme": "github", "secret": "hunter22"}}})
    assert daemon.trigger("t")["config"]["signature"]["secret"] == "***"


def test_file_secrets_stay_in_their_directories(daemon: Daemon) -> None:
    outside = daemon.data / "outside"
    outside.write_text("hunter22")
    daemon.put("m.yaml", pipeline("p", script("echo x", env={"A": "${file:" + str(outside) + "}"})), custom("t"))
    run = daemon.fire("t")
    assert run["status"] == "failed" and "hunter22" not in json.dumps(run)


def test_every_type_has_its_own_keys(daemon: Daemon) -> None:
    daemon.write("w.yaml", file_watch("w", "/x/*", config={"endpoint": "e"}))
    assert "endpoint" in errors(daemon)[0]
