"""triggerctl against a daemon, in depth: what it sends, what it shows, what its exit code says."""
from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from harness import ECHO, Daemon, Gate, custom, pipeline, script, wait_for


def good(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, f"{done.args}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


def columns(table: str) -> list[list[str]]:
    return [line.split() for line in table.splitlines()]


# ---- get ----


def test_lists_go_over_all_pages(daemon: Daemon) -> None:
    daemon.put("m.yaml", ECHO, *(custom(f"t{n}", endpoint="e") for n in range(230)))
    assert len(good(daemon.ctl("get", "triggers", "-o", "name")).split()) == 230
    shown = json.loads(good(daemon.ctl("get", "triggers", "-o", "json")))
    assert shown["total"] == 230 == len({t["id"] for t in shown["triggers"]})
    assert len(good(daemon.ctl("get", "triggers", "-o", "name", "--limit", "150")).split()) == 150
    daemon.emit("e")
    assert len(good(daemon.ctl("get", "events", "-o", "name")).split()) == 50, "the newest"
    assert len(set(good(daemon.ctl("get", "events", "-o", "name", "--limit", "1000")).split())) == 230
    assert len(good(daemon.ctl("events", "t7", "-o", "name")).split()) == 1


def test_filters(daemon: Daemon) -> None:
    daemon.put("m.yaml", ECHO, pipeline("q", script("exit 1")), custom("a"), custom("b", "q", cooldown_seconds=600))
    daemon.fire("a")
    daemon.fire("b")
    daemon.emit("b")
    def ids(*args: str) -> list[str]:
        return good(daemon.ctl("get", *args, "-o", "name")).split()
    assert ids("triggers", "--pipeline", "q") == ["b"] and ids("triggers", "--status", "paused") == []
    assert len(ids("events", "--trigger", "b")) == 2 and len(ids("events", "--status", "failed")) == 1
    assert len(ids("events", "--decision", "cooldown", "--since", "1h")) == 1
    assert len(ids("events", "--type", "custom_a")) == 1 and ids("events", "--until", "1h") == []
    assert len(ids("runs", "--pipeline", "p", "--status", "completed")) == 1
    assert daemon.ctl("get", "events", "--since", "yesterday").returncode == 1


def test_forms_of_one(daemon: Daemon) -> None:
    daemon.put("m.yaml", ECHO, custom("t", description="1: a"))
    assert json.loads(good(daemon.ctl("get", "triggers", "t", "-o", "json"))) == daemon.trigger("t")
    assert json.loads(good(daemon.ctl("get", "trigger", "t", "-o", "json"))) == daemon.trigger("t")
    assert daemon.ctl("get", "trigge", "t").returncode == 2
    assert 'description: "1: a"' in good(daemon.ctl("get", "triggers", "t", "-o", "yaml"))
    assert good(daemon.ctl("get", "triggers", "t", "-o", "name")) == "t\n"
    assert f"{daemon.manifests}/m.yaml:" in good(daemon.ctl("get", "triggers", "t", "-o", "wide"))
    for id in ("none", "../../healthz", "a/b", "é ?&#%", "."):
        assert daemon.ctl("get", "triggers", id).returncode == 1


def test_manifests_show_their_errors(daemon: Daemon) -> None:
    daemon.put("m.yaml", ECHO)
    path = daemon.write("bad.yaml", "name: t\npipeline_id: p\ntrigger_type: custom\nconfig: {endpoint: e}\nqueue_limit: 0\n")
    wait_for(daemon.errors)
    table = good(daemon.ctl("get", "manifests"))
    assert f"{path}:5:14: queue_limit: " in table
    assert good(daemon.ctl("get", "manifests", "m.yaml", "-o", "name")) == f"{daemon.manifests}/m.yaml\n"
    assert daemon.ctl("get", "manifests", "yaml").returncode == 1


def test_tables_are_aligned_and_safe(daemon: Daemon) -> None:
    name = "é\x1b[31m\u202e\u200b\n\t日本"
    daemon.put("m.yaml", ECHO, custom("a", name=name), custom("b"), custom("longer-id"))
    wait_for(lambda: daemon.exists("a") and daemon.trigger("a")["name"] == name)
    table = good(daemon.ctl("get", "triggers"))
    assert "\x1b" not in table and "\u202e" not in table and len(table.splitlines()) == 4
    assert r"é\x1b[31m\u202e\u200b\n\t日本" in table
    at = table.splitlines()[0].index("TYPE")
    assert all(line[at:].startswith("custom") for line in table.splitlines()[1:])
    assert json.loads(good(daemon.ctl("get", "triggers", "a", "-o", "json")))["name"] == name
    assert "\x1b" not in good(daemon.ctl("describe", "trigger", "a"))


def on_terminal(daemon: Daemon, *args: str, **env: str) -> bytes:
    master, slave = pty.openpty()
    full = {"PATH": os.environ["PATH"], "TERM": "xterm", "TRIGGERD_SOCKET": str(daemon.socket), **env}
    subprocess.run([str(daemon.build / "triggerctl"), *args], stdin=slave, stdout=slave, stderr=slave, env=full, check=True)
    os.close(slave)
    out = b""
    try:
        while chunk := os.read(master, 65536):
            out += chunk
    except OSError:
        pass
    os.close(master)
    return out


def test_colour_only_on_a_terminal(daemon: Daemon) -> None:
    daemon.put("m.yaml", ECHO, custom("t"))
    assert b"\x1b[32mactive\x1b[0m" in on_terminal(daemon, "get", "triggers")
    assert b"\x1b" not in on_terminal(daemon, "get", "triggers", NO_COLOR="1")
    assert b"\x1b" not in on_terminal(daemon, "get", "triggers", TERM="dumb")
    assert b"\x1b" not in on_terminal(daemon, "get", "triggers", "-o", "json")
    assert "\x1b" not in good(daemon.ctl("get", "triggers"))


def test_what_nests_deep_is_shown(daemon: Daemon) -> None:
    daemon.put("m.yaml", ECHO, custom("t"))
    data = "[" * 126 + "]" * 126
    daemon.http("POST", "/api/v1/triggers/emit", f'{{"endpoint": "t", "data": {data}}}').ok()
    shown = json.loads(good(daemon.ctl("get", "events", "-o", "json")))
    assert json.dumps(shown["events"][0]["event_data"]) == data


# ---- describe ----


def describe(daemon: Daemon, kind: str, id: str) -> str:
    return good(daemon.ctl("describe", kind, id))


def test_why_did_it_not_fire(daemon: Daemon) -> None:
    daemon.put("m.yaml", ECHO, custom("f", config={"filter": {"a": [1]}}), custom("c", cooldown_seconds=600),
               custom("off", enabled=False), custom("lost", "nowhere"), custom("idle"))
    daemon.emit("f", {"a": 2})
    text = describe(daemon, "trigger", "f")
    assert "Last event:  the trigger's filter does not match the event: a: expected 1, found 2" in text
    assert 'Turned away by its filter' in text and '{"a":2}' in text and "filtered 1" in text
    daemon.fire("c")
    held = daemon.emit1("c")["id"]
    assert "Last event:  the trigger had fired less than cooldown_seconds before" in describe(daemon, "trigger", "c")
    assert "Why not:     the trigger had fired less than cooldown_seconds before: " in describe(daemon, "event", held)
    assert "Why not:     it is disabled" in describe(daemon, "trigger", "off")
    assert 'Why not:     pipeline "nowhere" does not exist' in describe(daemon, "trigger", "lost")
    assert "nothing has happened yet" in describe(daemon, "trigger", "idle")
    daemon.ctl("pause", "idle")
    assert "triggerctl resume idle" in describe(daemon, "trigger", "idle")
    daemon.write("m.yaml", "kind: trigger\nid: idle\nname: idle\npipeline_id: p\ntrigger_type: custom\nconfig: {}\n")
    wait_for(daemon.errors)
    assert "Edit refused:" in describe(daemon, "trigger", "idle")


def test_describe_a_run_and_its_pipeline(daemon: Daemon) -> None:
    daemon.put("m.yaml", pipeline("p", script("true", "one"), script("echo no >&2; kill -9 $$", "two", needs=["one"]),
                                  script("true", "three", needs=["two"])), custom("t"))
    run = daemon.fire("t")
    text = describe(daemon, "run", run["id"])
    assert "Status:      failed" in text and "signal 9" in text and "skipped" in text
    text = describe(daemon, "pipeline", "p")
    assert ["two", "exec", '["one"]', "-"] in columns(text) and run["id"] in text and "custom" in text
    for kind in ("trigger", "pipeline", "run", "event"):
        assert daemon.ctl("describe", kind, "none").returncode == 1
    assert json.loads(good(daemon.ctl("describe", "run", run["id"], "-o", "json")))["id"] == run["id"]


# ---- acting ----


def test_data_arrives_digit_for_digit(daemon: Daemon) -> None:
    daemon.put("m.yaml", ECHO, custom("t"))
    text = '{"n":12345678901234567890.10,"z":-0,"s":"\u2028é"}'
    path = daemon.data / "d.json"
    path.write_text(text)
    for data in (text, f"@{path}", "-"):
        out = good(daemon.ctl("emit", "t", "--data", data, input=text))
        raw = daemon.http("GET", f"/api/v1/triggers/events/{out.split()[0]}").body.decode()
        assert f'"event_data":{text}' in raw
    for data in ("{", "", "01", "@/nowhere", f"@{daemon.data}"):
        done = daemon.ctl("emit", "t", "--data", data)
        assert done.returncode == 1 and done.stderr and not done.stdout
    assert len(daemon.events("t")) == 3


def test_emit_says_what_became_of_it(daemon: Daemon) -> None:
    daemon.put("m.yaml", ECHO, custom("a", endpoint="e"), custom("b", endpoint="e", cooldown_seconds=600))
    good(daemon.ctl("emit", "e"))
    rows = {row[1]: row[2:] for row in columns(good(daemon.ctl("emit", "e")))}
    assert rows["b"][:2] == ["skipped", "cooldown"] and "fired" in rows["a"]
    assert json.loads(good(daemon.ctl("emit", "e", "-o", "json")))["triggered_count"] == 1
    done = daemon.ctl("emit", "f")
    assert done.returncode == 0 and done.stderr == 'nothing fired: nobody listens at "f"; did you mean "e"?\n'
    daemon.put("m.yaml", ECHO, *(custom(t, endpoint="e", config={"filter": {"x": [1]}}) for t in ("a", "b")))
    done = daemon.ctl("emit", "e")
    assert done.returncode == 0 and re.fullmatch(
        r"nothing fired: turned away by the filter of (a, b|b, a) \(triggerctl describe trigger [ab] tells why\)\n", done.stderr)
    done = daemon.ctl("emit", "a b")
    assert done.returncode == 1 and done.stderr.startswith("triggerctl: ")
    for trigger in ("a", "b"):
        good(daemon.ctl("delete", "trigger", trigger))
    assert daemon.ctl("emit", "e").stderr == 'nothing fired: nobody listens at "e"\n'


def test_idempotency_key(daemon: Daemon) -> None:
    daemon.put("m.yaml", ECHO, custom("t"))
    first = good(daemon.ctl("emit", "t", "--idempotency-key", "k 1:é")).split()[0]
    assert good(daemon.ctl("emit", "t", "--idempotency-key", "k 1:é")).split()[0] == first
    assert daemon.ctl("emit", "t", "--idempotency-key", "k 1:é", "--data", "[1]").returncode == 1
    assert daemon.ctl("emit", "t", "--idempotency-key", "k" * 256).returncode == 2
    assert len(daemon.events("t")) == 1


def test_the_trace_is_handed_on(daemon: Daemon) -> None:
    daemon.put("m.yaml", pipeline("p", script("printf '\"%s\"' \"$TRACEPARENT\"")), custom("t"))
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    out = good(daemon.ctl("emit", "t", env={"TRACEPARENT": trace, "TRIGGERD_RUN_ID": "x\r\nEvil: 1"}))
    run = daemon.run(daemon.wait_event(out.split()[0])["run_id"])
    assert run["outputs"]["out"].startswith(trace[:35])


def test_problems_tell_each_error(daemon: Daemon) -> None:
    daemon.put("m.yaml", ECHO)
    done = daemon.ctl("run", "p", "--inputs", "[1]")
    assert done.returncode == 1 and not done.stdout
    first, second = done.stderr.splitlines()
    assert first.startswith("triggerctl: ") and second.startswith("  inputs: ")
    (only,) = daemon.ctl("emit", "no name").stderr.splitlines()
    assert only.startswith("triggerctl: endpoint: expected a name"), "what the detail says is said once"


def test_run_and_wait(daemon: Daemon) -> None:
    gate = Gate(daemon.data)
    daemon.put("m.yaml", pipeline("slow", gate.step()), pipeline("bad", script("exit 3")))
    begin = time.monotonic()
    done = daemon.ctl("run", "slow", "--wait", "--timeout", "0.3")
    assert done.returncode == 4 and time.monotonic() - begin < 10
    id = done.stdout.split()[0]
    assert daemon.ctl("wait", "run", id, "--for", "running").returncode == 0
    assert daemon.ctl("wait", "run", id, "--timeout", "0").returncode == 4
    gate.open()
    assert daemon.ctl("wait", "run", id, "--for", "failed").returncode == 1, "another final state"
    assert daemon.ctl("wait", "run", id, "--for", "pending").returncode == 1
    assert json.loads(good(daemon.ctl("wait", "run", id, "-o", "json")))["status"] == "completed"
    assert daemon.ctl("wait", "run", "none").returncode == 1
    assert "exit code 3" in daemon.ctl("run", "bad", "--wait").stdout


def test_wait_for_a_trigger(daemon: Daemon) -> None:
    daemon.put("m.yaml", ECHO, custom("t"))
    good(daemon.ctl("pause", "t"))
    assert daemon.ctl("wait", "trigger", "t", "--timeout", "0.2").returncode == 4
    assert good(daemon.ctl("wait", "trigger", "t", "--for", "paused")) == "t  paused\n"
    with subprocess.Popen([str(daemon.build / "triggerctl"), "--socket", str(daemon.socket), "wait", "trigger", "t"]) as waiting:
        good(daemon.ctl("resume", "t"))
        assert waiting.wait(20) == 0


def test_replay(daemon: Daemon) -> None:
    daemon.put("m.yaml", ECHO, custom("t"))
    old = daemon.emit1("t", {"n": 1})["id"]
    daemon.settle()
    done = daemon.ctl("replay", "evt_none", old)
    assert done.returncode == 1 and "evt_none" in done.stderr, "one that fails does not stop the others"
    new = daemon.wait_event(done.stdout.split()[0])
    assert new["replay_of"] == old and new["event_data"] == {"n": 1}


def test_replay_of_one_that_only_shows(daemon: Daemon) -> None:
    daemon.put("m.yaml", ECHO, custom("t"))
    old = daemon.emit1("t")["id"]
    daemon.settle()
    done = daemon.ctl("replay", old, "--dry-run")
    assert good(done).split()[0] == old and "1 event would be replayed" in done.stderr
    none = daemon.ctl("replay", old, "evt_none", "--dry-run")
    assert none.returncode == 1 and "evt_none" in none.stderr and none.stdout.split()[0] == old
    daemon.write("m.yaml", ECHO)
    wait_for(lambda: not daemon.exists("t"))
    gone = daemon.ctl("replay", old, "--dry-run")
    assert gone.returncode == 1 and not gone.stdout and '"t"' in gone.stderr
    assert len(daemon.events()) == 1


def test_resume_discard(daemon: Daemon) -> None:
    daemon.put("m.yaml", ECHO, custom("t", pause_policy="hold"))
    good(daemon.ctl("pause", "t"))
    daemon.emit("t")
    good(daemon.ctl("resume", "t", "--discard"))
    assert [e["status"] for e in daemon.settle("t")] == ["skipped"] and daemon.trigger("t")["trigger_count"] == 0


def test_logs(daemon: Daemon) -> None:
    daemon.put("m.yaml", pipeline("p", script("printf 'a\\377\\n'; echo b >&2", "one"), script("printf c", "two"),
                                  script("true", "three")), custom("t"))
    id = daemon.fire("t")["id"]
    def raw(*args: str) -> bytes:
        return subprocess.run([str(daemon.build / "triggerctl"), "--socket", str(daemon.socket), "logs", id, *args],
                              capture_output=True, check=True).stdout
    assert raw("--step", "one") == b"a\xff\nb\n" and raw("--step", "three") == b""
    assert raw("--step=two") == b"c"
    whole = raw()
    for part in (b"==> one stdout <==\na\xff\n", b"==> one stderr <==\nb\n", b"==> two stdout <==\nc\n"):
        assert part in whole
    assert b"three" not in whole
    assert daemon.ctl("logs", id, "--step", "four").returncode == 1
    none = daemon.ctl("logs", "run_none")
    assert (none.returncode, none.stderr) == (1, 'triggerctl: there is no run "run_none"\n')  # said once, asked once


def test_delete(daemon: Daemon) -> None:
    path = daemon.put("m.yaml", ECHO, custom("t"))
    good(daemon.ctl("delete", "trigger", "t"))
    assert not daemon.exists("t") and "endpoint" not in path.read_text()
    good(daemon.ctl("delete", "pipeline", "p"))
    assert daemon.ctl("delete", "pipeline", "p").returncode == 1


# ---- what is not there, and what breaks ----


def test_a_socket_that_nobody_listens_at(daemon: Daemon) -> None:
    daemon.kill9()
    assert Path(daemon.socket).exists()
    done = daemon.ctl("get", "triggers")
    assert done.returncode == 3 and "refused" in done.stderr
    done = daemon.ctl("replay", "a", "b")
    assert done.returncode == 3 and done.stderr.count("no daemon") == 1


def test_standard_output_that_is_full(daemon: Daemon) -> None:
    daemon.put("m.yaml", ECHO, custom("t"))
    with open("/dev/full", "w") as full:
        done = subprocess.run([str(daemon.build / "triggerctl"), "--socket", str(daemon.socket), "get", "triggers"],
                              stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1 and "No space" in done.stderr


@pytest.mark.parametrize("environment", [{"http_proxy": "http://127.0.0.1:1"}, {"ALL_PROXY": "socks5://127.0.0.1:1"}])
def test_a_proxy_does_not_stand_between(daemon: Daemon, environment: dict[str, str]) -> None:
    good(daemon.ctl("status", env=environment))


def test_over_tcp(make_daemon: Any) -> None:
    daemon = make_daemon(listen=True).start()
    good(daemon.ctl("--socket", f"http://127.0.0.1:{daemon.port}/", "status"))


def test_status(daemon: Daemon) -> None:
    daemon.write("bad.yaml", "name: [\n")
    wait_for(daemon.errors)
    text = good(daemon.ctl("status"))
    assert "1 file, 1 error " in text and "ready" in text and str(daemon.socket) in text
    assert json.loads(good(daemon.ctl("status", "-o", "json")))["pid"] == daemon.pid
    assert json.loads(good(daemon.ctl("stats", "-o", "json"))) == daemon.get("/api/v1/triggers/stats")


# ---- doctor ----


def test_doctor_asks_the_daemon(daemon: Daemon) -> None:
    daemon.put("m.yaml", ECHO, custom("t"))
    def checks() -> dict[str, dict[str, Any]]:
        return {c["check"]: c for c in json.loads(daemon.ctl("doctor", "-o", "json").stdout)["checks"]}
    found = checks()
    assert found["daemon"]["result"] == found["manifests"]["result"] == found["sources"]["result"] == "ok"
    assert str(daemon.state) in found["state"]["message"]
    daemon.write("bad.yaml", "name: [\n")
    wait_for(daemon.errors)
    assert checks()["manifests"]["result"] == "warn"
