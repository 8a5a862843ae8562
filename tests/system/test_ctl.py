"""triggerctl: verbs, what they print, and exit codes."""
from __future__ import annotations

import json
import select
import subprocess
import time
from typing import Any

import pytest
from harness import ECHO, Daemon, Gate, custom, documents, file_watch, pipeline, script, wait_for

VERBS = ["get", "describe", "stats", "status", "version", "validate", "diff", "apply", "edit", "doctor", "completion", "delete", "explain", "init", "wait", "pause", "resume", "test", "emit", "run", "events", "logs", "replay", "cancel", "path", "match"]


@pytest.fixture
def lone(make_daemon: Any) -> Daemon:
    """No daemon runs."""
    return make_daemon()


def good(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, f"{done.args}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


# ---- without a daemon ----


@pytest.mark.parametrize("args", [[], ["nonsense"], ["get"], ["get", "nonsense"], ["get", "triggers", "--nonsense"],
                                  ["emit"], ["get", "triggers", "-o", "xml"], ["validate"], ["pause"]])
def test_usage(lone: Daemon, args: list[str]) -> None:
    done = lone.ctl(*args)
    assert done.returncode == 2 and done.stderr and not done.stdout


@pytest.mark.parametrize("args", [["get", "triggers"], ["stats"], ["emit", "e"], ["pause", "t"], ["status"]])
def test_no_daemon(lone: Daemon, args: list[str]) -> None:
    done = lone.ctl(*args)
    assert done.returncode == 3 and str(lone.socket) in done.stderr


def test_help(lone: Daemon) -> None:
    text = good(lone.ctl("--help"))
    for verb in VERBS:
        assert verb in text
        assert "triggerctl " + verb in good(lone.ctl(verb, "--help")), "an example for every verb"


@pytest.mark.parametrize("args, document, wanted", [
    (["$.a"], {"a": 1}, [1]), (["$.b"], {"a": 1}, []), (["$.a[*]"], {"a": [1, None, "x"]}, [1, None, "x"]),
    (["$[?@.n > 1].n"], [{"n": 1}, {"n": 2}], [2]), (["$..n"], {"n": {"n": 1}}, [{"n": 1}, 1])])
def test_path(lone: Daemon, args: list[str], document: Any, wanted: Any) -> None:
    assert json.loads(good(lone.ctl("path", *args, input=json.dumps(document)))) == wanted


def test_path_batch(lone: Daemon) -> None:
    lines = [{"selector": "$.a", "document": {"a": 1}}, {"selector": "$[", "document": {}}, {"selector": "$", "document": 7}]
    out = good(lone.ctl("path", "--batch", input="".join(json.dumps(x) + "\n" for x in lines)))
    answers = [json.loads(line) for line in out.splitlines()]
    assert answers[0] == {"result": [1]} and answers[2] == {"result": [7]}
    assert answers[1].keys() == {"error"} and answers[1]["error"]
    assert lone.ctl("path", "$[", input="{}").returncode == 1


def test_match(lone: Daemon) -> None:
    assert lone.ctl("match", '{"a": [1]}', input='{"a": 1}').returncode == 0
    done = lone.ctl("match", '{"a": [1]}', input='{"a": 2}')
    assert done.returncode == 1 and "a" in done.stdout + done.stderr
    assert lone.ctl("match", '{"a": [{"odd": 1}]}', input="{}").returncode == 1
    lines = [{"pattern": {"a": 1}, "event": {"a": 1}}, {"pattern": {"a": 1}, "event": {}},
             {"pattern": {"a": [{"odd": 1}]}, "event": {}}]
    out = good(lone.ctl("match", "--batch", input="".join(json.dumps(x) + "\n" for x in lines)))
    answers = [json.loads(line) for line in out.splitlines()]
    assert answers[0] == {"match": True}
    assert answers[1]["match"] is False and answers[1]["reason"]
    assert answers[2]["error"]


def test_validate(lone: Daemon) -> None:
    fine = lone.write("fine.yaml", ECHO, custom("t"))
    good(lone.ctl("validate", fine))
    bad = lone.write("bad.yaml", "name: Watch\npipeline_id: p\ntrigger_type: file_watch\nconfig:\n  path: /x/*\n"
                                 "  debounce_seconds: soon\n")
    done = lone.ctl("validate", lone.manifests)
    assert done.returncode == 1
    assert f"{bad}:6:21: " in done.stdout + done.stderr and "debounce_seconds" in done.stdout + done.stderr
    report = json.loads(lone.ctl("validate", bad, "-o", "json").stdout)
    assert "debounce_seconds" in json.dumps(report)
    sarif = json.loads(lone.ctl("validate", bad, "-o", "sarif").stdout)
    assert sarif["version"] == "2.1.0" and sarif["runs"][0]["results"][0]["locations"]
    region = sarif["runs"][0]["results"][0]["locations"][0]["physicalLocation"]["region"]
    assert region["startLine"] == 6
    assert lone.ctl("validate", bad, "-o", "github").stdout.startswith("::error ")
    assert lone.ctl("validate", lone.manifests / "nowhere.yaml").returncode == 1


@pytest.mark.parametrize("type", ["custom", "file_watch", "pipeline_completed", "schedule", "pipeline"])
def test_init_gives_what_validates(lone: Daemon, type: str) -> None:
    text = good(lone.ctl("init", type))
    good(lone.ctl("validate", lone.write("m.yaml", text)))


def test_explain(lone: Daemon) -> None:
    for path, word in (("trigger", "cooldown_seconds"), ("trigger.max_concurrent", "1"), ("file_watch.debounce_seconds", "1"),
                       ("pipeline", "steps")):
        assert word in good(lone.ctl("explain", path))
    assert lone.ctl("explain", "trigger.colour").returncode == 1


# ---- with one ----


def test_get(daemon: Daemon) -> None:
    daemon.put("m.yaml", ECHO, custom("a"), custom("b"), file_watch("w", "/nowhere/*"))
    daemon.fire("a")
    table = good(daemon.ctl("get", "triggers")).splitlines()
    assert len(table) == 4 and "NAME" in table[0].upper() and "\x1b" not in "".join(table)
    assert good(daemon.ctl("get", "triggers", "-o", "name")).split() == ["a", "b", "w"] or {
        line.split("/")[-1] for line in good(daemon.ctl("get", "triggers", "-o", "name")).split()} == {"a", "b", "w"}
    shown = json.loads(good(daemon.ctl("get", "triggers", "-o", "json")))
    listed = shown["triggers"] if isinstance(shown, dict) else shown
    assert {t["id"] for t in listed} == {"a", "b", "w"}
    one = json.loads(good(daemon.ctl("get", "triggers", "a", "-o", "json")))
    assert (one if "id" in one else one["triggers"][0])["trigger_count"] == 1
    assert "w" in good(daemon.ctl("get", "triggers", "--type", "file_watch"))
    for what in ("pipelines", "events", "runs", "manifests"):
        assert good(daemon.ctl("get", what))
    assert daemon.ctl("get", "triggers", "none").returncode == 1


def test_describe(daemon: Daemon) -> None:
    daemon.put("m.yaml", ECHO, custom("t", cooldown_seconds=600))
    run = daemon.fire("t")
    held = daemon.emit1("t")["id"]
    assert "cooldown" in good(daemon.ctl("describe", "event", held)), "why did it not fire?"
    assert "completed" in good(daemon.ctl("describe", "run", run["id"]))
    assert "m.yaml" in good(daemon.ctl("describe", "trigger", "t"))
    assert good(daemon.ctl("describe", "pipeline", "p"))
    assert daemon.ctl("describe", "trigger", "none").returncode == 1


def test_emit_wait_logs(daemon: Daemon) -> None:
    daemon.put("m.yaml", pipeline("p", script("echo to out; echo to err >&2; cat > /dev/null")), custom("t"))
    for data in ('{"n": 1}', "-", "@" + str(daemon.data / "f.json")):
        (daemon.data / "f.json").write_text('{"n": 1}')
        good(daemon.ctl("emit", "t", "--data", data, input='{"n": 1}'))
    event = daemon.wait_events(3)[0]
    good(daemon.ctl("wait", "event", event["id"], "--timeout", "20"))
    logs = good(daemon.ctl("logs", daemon.event(event["id"])["run_id"]))
    assert "to out" in logs and "to err" in logs
    assert daemon.ctl("emit", "t", "--data", "{").returncode in (1, 2)
    daemon.ctl("emit", "a b")


def test_wait_tells_by_its_exit_code(daemon: Daemon) -> None:
    gate = Gate(daemon.data)
    daemon.put("m.yaml", pipeline("p", gate.step()), pipeline("q", script("exit 1")), custom("t"), custom("u", "q"))
    begin = time.monotonic()
    assert daemon.ctl("wait", "event", daemon.emit1("t")["id"], "--timeout", "0.5").returncode != 0
    assert time.monotonic() - begin < 10
    gate.open()
    assert daemon.ctl("wait", "event", daemon.events("t")[0]["id"], "--timeout", "20").returncode == 0
    assert daemon.ctl("wait", "event", daemon.emit1("u")["id"], "--timeout", "20").returncode != 0
    good(daemon.ctl("wait", "trigger", "t", "--for", "active", "--timeout", "20"))


def test_run(daemon: Daemon) -> None:
    daemon.put("m.yaml", ECHO, pipeline("q", script("exit 1")))
    good(daemon.ctl("run", "p", "--inputs", '{"a": 1}', "--wait"))
    assert daemon.get("/api/v1/runs?pipeline_id=p")["runs"][0]["inputs"] == {"a": 1}
    assert daemon.ctl("run", "q", "--wait").returncode == 1
    assert daemon.ctl("run", "none").returncode == 1


def test_pause_resume_test_cancel(daemon: Daemon) -> None:
    gate = Gate(daemon.data)
    daemon.put("m.yaml", pipeline("p", gate.step()), custom("t"))
    good(daemon.ctl("pause", "t"))
    assert daemon.trigger("t")["status"] == "paused"
    good(daemon.ctl("resume", "t"))
    assert "fired" in good(daemon.ctl("test", "t", "--data", '{"x": 1}', "--dry-run"))
    good(daemon.ctl("test", "t", "--data", '{"x": 1}'))
    run = wait_for(lambda: daemon.get("/api/v1/runs?status=running")["runs"])[0]["id"]
    good(daemon.ctl("cancel", run))
    wait_for(lambda: daemon.run(run)["status"] == "cancelled")


def test_apply_diff_delete(daemon: Daemon) -> None:
    path = daemon.data / "m.yaml"
    path.write_text(documents(ECHO, custom("t")))
    assert daemon.ctl("diff", path, "--exit-code").returncode == 1
    out = good(daemon.ctl("apply", path))
    assert out.count("created") == 2
    assert daemon.exists("t") and daemon.emit("t")["triggered_count"] == 1
    assert good(daemon.ctl("apply", path)).count("unchanged") == 2
    assert daemon.ctl("diff", path, "--exit-code").returncode == 0
    path.write_text(documents(ECHO, custom("t", cooldown_seconds=5)))
    assert "cooldown_seconds" in daemon.ctl("diff", path).stdout
    out = good(daemon.ctl("apply", path))
    assert "changed" in out and out.count("unchanged") == 1
    assert daemon.trigger("t")["cooldown_seconds"] == 5
    path.write_text(documents(custom("new"), custom("t", max_concurrent=0)))
    refused = daemon.ctl("apply", path)
    assert refused.returncode == 1 and f"{path}:" in refused.stdout + refused.stderr
    assert not daemon.exists("new"), "all or nothing"
    path.write_text("name: [\n")
    assert daemon.ctl("diff", path, "--exit-code").returncode == 2
    good(daemon.ctl("delete", "trigger", "t"))
    assert not daemon.exists("t")
    assert daemon.ctl("delete", "trigger", "t").returncode == 1


def test_edit(daemon: Daemon) -> None:
    daemon.write("m.yaml", "# mine\nname: t\npipeline_id: p\ntrigger_type: custom\nconfig: {endpoint: e}\n")
    wait_for(lambda: daemon.exists("t"))
    editor = daemon.data / "editor"
    editor.write_text('#!/bin/sh\nsed -i "s/endpoint: e/endpoint: f/" "$1"\n')
    editor.chmod(0o755)
    good(daemon.ctl("edit", "trigger", "t", env={"EDITOR": str(editor), "VISUAL": str(editor)}))
    assert daemon.trigger("t")["config"] == {"endpoint": "f"}
    assert "# mine" in (daemon.manifests / "m.yaml").read_text()


def test_following(daemon: Daemon) -> None:
    daemon.put("m.yaml", ECHO, custom("t"))
    with subprocess.Popen([str(daemon.build / "triggerctl"), "--socket", str(daemon.socket), "events", "-f", "t"],
                          stdout=subprocess.PIPE, text=True) as tail:
        try:
            assert tail.stdout
            ids = set()

            def shown() -> bool:  # from when on it listens
                ids.add(daemon.emit1("t")["id"])
                return bool(select.select([tail.stdout], [], [], 0.1)[0])

            wait_for(shown, what="an event")
            seen = ""
            while not any(i in seen for i in ids):
                assert (line := tail.stdout.readline()), seen
                seen += line
        finally:
            tail.terminate()


def test_a_step_that_runs_triggerctl_stays_in_its_chain(daemon: Daemon) -> None:
    ctl = daemon.build / "triggerctl"
    daemon.put("m.yaml", pipeline("p", script(f"{ctl} emit t --data '{{}}'")), custom("t"))
    root = daemon.emit1("t")["id"]
    event = wait_for(lambda: [e for e in daemon.events("t") if e["decision"] == "loop_blocked"])[0]
    assert event["root_event_id"] == root


def test_stats_status_version(daemon: Daemon) -> None:
    for verb in ("stats", "status", "version"):
        assert good(daemon.ctl(verb))


# ---- doctor ----


def doctor(lone: Daemon, **env: str) -> dict[str, tuple[str, str, str | None]]:
    done = lone.ctl("doctor", "-o", "json", env=env)
    answer = json.loads(done.stdout)
    assert done.returncode == (1 if answer["result"] == "fail" else 0)
    assert answer["result"] == max((c["result"] for c in answer["checks"]), key=["ok", "warn", "fail"].index)
    return {c["check"]: (c["result"], c["message"], c["advice"]) for c in answer["checks"]}


def test_doctor_without_a_daemon(lone: Daemon) -> None:
    checks = doctor(lone)
    assert checks["daemon"][0] == "warn" and str(lone.socket) in checks["daemon"][1]
    assert {"inotify", "inotify max_user_watches", "fuse", "sandbox", "open files", "state", "clock"} <= checks.keys()
    assert checks["inotify"][0] == "ok"
    for name, (result, _, advice) in checks.items():
        assert result == "ok" or advice, name
    for line in lone.ctl("doctor").stdout.splitlines()[1:]:
        assert {"ok", "warn", "fail"} & set(line.split())


def test_doctor_sees_what_is_missing(lone: Daemon) -> None:
    checks = doctor(lone, PATH=str(lone.data))
    assert checks["sandbox"] == ("warn", "there is no bwrap: steps with sandbox: strict fail", "apt install bubblewrap")
    fake = lone.data / "bwrap"
    fake.write_text("#!/bin/sh\nexit 1\n")
    fake.chmod(0o755)
    assert doctor(lone, PATH=str(lone.data))["sandbox"][0] == "warn"
    fake.write_text("#!/bin/sh\nexit 0\n")
    assert doctor(lone, PATH=str(lone.data))["sandbox"][0] == "ok"
    few = subprocess.run(["sh", "-c", f"ulimit -n 1000; exec {lone.build}/triggerctl doctor"], capture_output=True, text=True)
    assert any(line.startswith("open files") and " warn " in line for line in few.stdout.splitlines())
