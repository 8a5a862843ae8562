"""Secrets: references are replaced where a step needs them, and what they stand for is shown nowhere."""
from __future__ import annotations

import hashlib
import hmac
import json
import os
from pathlib import Path
from typing import Any

import pytest
from harness import Daemon, Gate, custom, pipeline, script, step_of, wait_for
from mounted import needs_fuse

WORD = "swordfish-7c1e"
TOKEN = "hunter22-99aa"


@pytest.fixture
def d(make_daemon: Any) -> Daemon:
    """A daemon with one secret in its environment and one beside its manifests."""
    daemon: Daemon = make_daemon(env={"WORD": WORD})
    (daemon.manifests / "token").write_text(TOKEN + "\n")
    return daemon.start()


def told(run: dict[str, Any]) -> str:
    assert run["status"] == "completed", run
    return run["outputs"]["out"]["stdout"]


def warnings(d: Daemon) -> str:
    done = d.ctl("validate", d.manifests)
    assert done.returncode == 0, done
    return done.stdout + done.stderr


# What a program was given, without saying it: as a hash.
HASH = 'sha() { printf %s "$1" | sha256sum | cut -c1-16; }\n'


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


# ---- where they are replaced ----


def test_every_place_of_a_step(d: Daemon) -> None:
    (d.data / WORD).mkdir()
    command = {"id": "c", "exec": {"command": ["/bin/sh", "-c", HASH + 'sha "$1"; sha "$A"; sha "$B"; sha "$(pwd)"', "x",
                                               "<${env:WORD}>"],
                                   "env": {"A": "Bearer ${file:token}", "B": "{{ $.inputs.n }}-${env:WORD}"},
                                   "cwd": str(d.data) + "/${env:WORD}"}}
    lines = script(HASH + 'sha "${env:WORD}"; sha ${file:token}; sha "${env:WORD}${HOME:+x}"', "s")
    d.put("m.yaml", pipeline("p", command, lines, outputs={"c": "$.steps.c.output", "s": "$.steps.s.output"}),
          custom("t", default_inputs={"n": 1}))
    run = d.fire("t")
    assert run["status"] == "completed", run
    assert run["outputs"]["c"]["stdout"].split() == [sha(f"<{WORD}>"), sha(f"Bearer {TOKEN}"), sha(f"1-{WORD}"),
                                                     sha(f"{d.data}/{WORD}")]
    assert run["outputs"]["s"]["stdout"].split() == [sha(WORD), sha(TOKEN), sha(WORD + "x")]


def test_default_inputs_reach_the_step_and_are_stored_as_references(d: Daemon) -> None:
    step = script(HASH + 'sha "$INPUT_WORD"; sha "$INPUT_DEEP"; sha "$A"; sha "$(cat)"', env={"A": "{{ $.inputs.word }}"})
    defaults = {"word": "${env:WORD}", "deep": {"list": ["x", "<${file:token}>"]}, "plain": "x"}
    d.put("m.yaml", pipeline("p", step, outputs={"out": "$.steps.s.output", "word": "$.inputs.word"}),
          custom("t", default_inputs=defaults))
    event = d.wait_event(d.emit1("t", {"a": 1})["id"], "completed")
    run = d.run(event["run_id"])
    expanded = {"word": WORD, "deep": {"list": ["x", f"<{TOKEN}>"]}, "plain": "x"}
    whole = {**expanded, "_trigger_event": event["resolved_inputs"]["_trigger_event"]}
    assert told(run).split() == [sha(WORD), sha(json.dumps(expanded["deep"], separators=(",", ":"))), sha(WORD),
                                 sha(json.dumps(whole, separators=(",", ":")))]
    for inputs in (event["resolved_inputs"], run["inputs"]):
        assert {k: v for k, v in inputs.items() if k != "_trigger_event"} == defaults
    assert run["outputs"]["word"] == "${env:WORD}"


@pytest.mark.parametrize("restart", [False, True])
def test_nothing_that_comes_with_an_event_refers(d: Daemon, restart: bool) -> None:
    """Even where it says what the manifest would have said, and after a restart that finds the run half done."""
    gate = Gate(d.data)
    step = script('printf "%s|%s|%s" "$INPUT_WORD" "$A" "$INPUT_OTHER"', env={"A": "{{ $.inputs.word }} {{ $.inputs.half }}WORD}"},
                  needs=["g"])
    d.put("m.yaml", pipeline("p", gate.step("g"), step),
          custom("t", default_inputs={"word": "${env:WORD}", "other": "${env:WORD}", "half": ""},
                 config={"input_mapping": {"word": "$.word", "half": "$.half"}}))
    forged = d.emit1("t", {"word": "${env:WORD}", "half": "${env:"})
    honest = d.emit1("t", {"half": "-"})
    wait_for(lambda: gate.lines("start"))
    if restart:
        d.kill9()
        d.start()
    gate.open()
    assert told(d.run_of(forged)) == "${env:WORD}|${env:WORD} ${env:WORD}|***"
    assert told(d.run_of(honest)) == "***|*** -WORD}|***"
    assert d.event(forged["id"])["event_data"] == {"word": "${env:WORD}", "half": "${env:"}


def test_a_run_by_hand_and_a_replay(d: Daemon) -> None:
    d.put("m.yaml", pipeline("p", script('printf %s "$INPUT_WORD"')), custom("t", default_inputs={"word": "${env:WORD}"}))
    run = d.post("/api/v1/pipelines/p/run", {"inputs": {"word": "${env:WORD}"}})
    done = wait_for(lambda: (r := d.run(run["id"])) and r["status"] == "completed" and r)
    assert told(done) == "${env:WORD}"
    event = d.wait_event(d.emit1("t")["id"], "completed")
    assert told(d.run(event["run_id"])) == "***"


def test_an_emitted_reference_stays_text(d: Daemon) -> None:
    emit = {"id": "e", "emit": {"endpoint": "next", "data": {"a": "${env:WORD}", "b": "{{ $.inputs.word }}"}}}
    d.put("m.yaml", pipeline("p", emit), custom("t", default_inputs={"word": "${env:WORD}"}),
          pipeline("q", script('printf "%s" "$INPUT_A$INPUT_B"')),
          custom("next", "q", config={"input_mapping": {"a": "$.a", "b": "$.b"}}))
    d.fire("t")
    event = d.wait_event(d.wait_events(1, "next")[0]["id"], "completed")
    assert event["event_data"] == {"a": "${env:WORD}", "b": "${env:WORD}"}
    assert told(d.run(event["run_id"])) == "${env:WORD}${env:WORD}"
    assert "warning: steps[0].emit.data.a: ${env:WORD}: is not replaced here" in warnings(d)


def test_a_changed_secret_is_the_new_one_at_the_next_attempt(d: Daemon) -> None:
    gate = Gate(d.data)
    read = script(HASH + 'sha "${file:token}"', "r", needs=["g"])
    d.put("m.yaml", pipeline("p", script("echo ${file:token}", "a"), gate.step("g"), read), custom("t"))
    event = d.emit1("t")
    wait_for(lambda: gate.lines("start"))
    (d.manifests / "token").write_text("another one\n")
    gate.open()
    assert told(d.run_of(event)).strip() == sha("another one")


# ---- what cannot be read ----


def failure(d: Daemon, reference: str) -> str:
    d.put("f.yaml", pipeline("f", script("echo never", env={"A": reference})), custom("f", "f"))
    run = d.fire("f")
    assert run["status"] == "failed" and step_of(run)["status"] == "failed", run
    return run["error_message"]


def test_what_is_missing_fails_the_step_and_is_named(d: Daemon) -> None:
    assert failure(d, "${env:MISSING_X}") == ('step "s": env.A: ${env:MISSING_X}: is not set in the environment of '
                                              'triggerd')
    assert "${file:none}: there is no such file below /run/secrets, " in failure(d, "${file:none}")
    d.put("m.yaml", pipeline("p", script("echo never")), custom("t", default_inputs={"a": {"b": "x${env:MISSING_X}"}}))
    run = d.fire("t")
    assert run["error_message"] == ('step "s": inputs.a.b: ${env:MISSING_X}: is not set in the environment of '
                                    'triggerd'), run


def test_a_retry_finds_a_file_that_came_late(d: Daemon) -> None:
    d.put("m.yaml", pipeline("p", script("printf %s \"${file:late}\"", retry={"max_attempts": 1000, "initial_seconds": 0.05,
                                                                           "factor": 1})), custom("t"))
    event = d.emit1("t")
    wait_for(lambda: step_of(d.run(d.event(event["id"])["run_id"]))["attempt"] > 1)
    (d.manifests / "late").write_text("it came\n\n")
    assert told(d.run_of(event)) == "***"


def test_files_stay_in_their_directories(d: Daemon) -> None:
    outside = d.data / "outside"
    outside.write_text("canary-outside")
    (d.manifests / "sub").mkdir()
    (d.manifests / "out").symlink_to(outside)
    (d.manifests / "outdir").symlink_to(d.data)
    (d.manifests / "loop").symlink_to("loop")
    os.mkfifo(d.manifests / "fifo")
    (d.manifests / "large").write_text("x" * 65537)
    (d.manifests / "nul").write_bytes(b"canary\0outside")
    for reference, why in {
        f"${{file:{outside}}}": "is not below", "${file:out}": "leads out of", "${file:outdir/outside}": "leads out of",
        "${file:../data/outside}": "leads out of", f"${{file:{d.manifests}/../data/outside}}": "leads out of",
        f"${{file:{d.manifests}x}}": "is not below", "${file:sub/../../data/outside}": "leads out of",
        "${file:fifo}": "is no regular file", "${file:sub}": "is no regular file", "${file:.}": "leads out of",
        "${file:large}": "has more than 65536 bytes", "${file:nul}": "holds a NUL byte", "${file:loop}": "symbolic links",
        "${file:/proc/self/environ}": "is not below", "${file:token/x}": "there is no such file",
    }.items():
        message = failure(d, reference)
        assert reference in message and why in message and "canary" not in message, message


def test_files_as_kubernetes_and_systemd_lay_them_out(make_daemon: Any, tmp_path: Path) -> None:
    secrets, credentials = tmp_path / "secrets", tmp_path / "credentials"
    (secrets / "..2026").mkdir(parents=True)
    (secrets / "..2026" / "word").write_text("from a volume\n")
    (secrets / "..data").symlink_to("..2026")
    (secrets / "word").symlink_to("..data/word")
    (secrets / "absolute").symlink_to(secrets / "..data" / "word")
    (tmp_path / "alias").symlink_to(secrets)
    credentials.mkdir()
    (credentials / "key").write_text("from systemd")
    (credentials / "word").write_text("second")
    config = tmp_path / "triggerd.yaml"
    config.write_text(json.dumps({"secrets_dirs": [str(tmp_path / "alias"), "$CREDENTIALS_DIRECTORY"]}))
    d: Daemon = make_daemon(args=("--config", str(config)), env={"CREDENTIALS_DIRECTORY": str(credentials)}).start()
    (d.manifests / "own").write_text("x")
    names = ["word", "absolute", "key", f"{tmp_path}/alias/word", f"{secrets}/word", f"{credentials}/word"]
    env = {f"V{i}": f"${{file:{name}}}" for i, name in enumerate(names)}
    d.put("m.yaml", pipeline("p", script(HASH + "".join(f'sha "$V{i}"; ' for i in range(len(names))), env=env)),
          custom("t"))
    assert told(d.fire("t")).split() == [sha(x) for x in ("from a volume", "from a volume", "from systemd",
                                                         "from a volume", "from a volume", "second")]
    assert "there is no such file" in failure(d, "${file:own}")  # a list of one's own is all there is


@pytest.mark.parametrize("text, at, what", [
    ("'${env:}'", "6:6", "names no variable"), ("'x ${env:1BAD}'", "6:6", "expected a variable's name"),
    ("'${file:}'", "6:6", "names no file"), ("'${env:OPEN'", "6:6", "without `}`"),
    ("['${env:A}', '${env:A-B}']", "6:19", "expected a variable's name")])
def test_malformed_references_are_errors_at_their_place(daemon: Daemon, text: str, at: str, what: str) -> None:
    daemon.write("m.yaml", "name: T\npipeline_id: p\ntrigger_type: custom\nconfig: {endpoint: e}\n"
                           f"default_inputs:\n  a: {text}\n")
    found = wait_for(daemon.errors)
    assert len(found) == 1 and what in found[0] and found[0].startswith(f"m.yaml:{at}: default_inputs.a"), found
    assert not daemon.exists("t")


def test_malformed_references_of_steps(daemon: Daemon) -> None:
    daemon.write("m.yaml", pipeline("p", script("echo ${env:}", "a", env={"B": "${file:x"}, cwd="/${env:9}"),
                                    {"id": "b", "exec": {"command": ["x", "${env:A B}", "${HOME:-/} ${db:Status-Status}"]}}))
    found = wait_for(lambda: (e := daemon.errors()) and len(e) >= 4 and e)
    for where in ("steps[0].exec.script", "steps[0].exec.env.B", "steps[0].exec.cwd", "steps[1].exec.command[1]"):
        assert sum(f": {where}: " in e for e in found) == 1, (where, found)
    assert len(found) == 4


def test_where_references_do_nothing_is_told(daemon: Daemon) -> None:
    daemon.put("m.yaml", pipeline("p", {"id": "s", "exec": {"command": ["/bin/echo", "${env:HOME}"]}}),
               custom("t", default_inputs={"a": "${ENV:HOME}"}, config={"filter": {"a": ["${env:HOME}"]}}))
    found = warnings(daemon)
    assert "warning: config.filter.a[0]: ${env:HOME}: is not replaced here" in found
    assert "warning: steps[0].exec.command[1]: ${env:HOME}: arguments are seen in the list of processes" in found
    assert "warning: default_inputs.a: `${ENV:` is text" in found


# ---- what a program prints ----


def test_what_a_program_prints_is_masked(d: Daemon) -> None:
    text = """
printf 'a %s b' "$W"; printf 'swordfish'; sleep 0.1; printf -- '-7c'; sleep 0.1; printf '1e!'
printf 'err %s\\n' "$W" >&2
"""
    d.put("m.yaml", pipeline("p", script(text, env={"W": "${env:WORD}"}), script(f"printf %s {WORD}; cat", "other",
                                                                                 needs=["s"])), custom("t"))
    run = d.fire("t")
    shown = d.http("GET", f"/api/v1/runs/{run['id']}/steps/s/stdout").body
    assert shown == b"a *** b***!"
    assert d.http("GET", f"/api/v1/runs/{run['id']}/steps/s/stderr").body == b"err ***\n"
    assert told(run).startswith("***"), run  # a step that refers to nothing masks what its run uses


def test_output_that_is_json(d: Daemon) -> None:
    d.stop()
    d.env["QUOTED"] = 'a"b\\c\nd'
    d.env["NUMBER"] = "8675309"
    d.start()
    prog = 'import json,os; e=os.environ; print(json.dumps({"q": "<" + e["Q"] + ">", "n": [1, int(e["N"])], "keep": 1.50}))'
    d.put("m.yaml", pipeline("p", {"id": "s", "exec": {"command": ["python3", "-c", prog], "env": {"Q": "${env:QUOTED}", "N": "1"}}}),
          custom("t"), pipeline("n", {"id": "s", "exec": {"command": ["python3", "-c", prog], "env": {"Q": "x", "N": "${env:NUMBER}"}}}),
          custom("n", "n"))
    assert d.out("t") == {"q": "<***>", "n": [1, 1], "keep": 1.5}
    run = d.fire("n")
    assert "8675309" not in json.dumps(run) and run["outputs"]["out"] == {"stdout": '{"q": "<x>", "n": [1, ***], "keep": 1.5}\n'}


def test_what_is_shown_while_it_runs_and_when_it_fails(d: Daemon) -> None:
    gate = Gate(d.data)
    text = 'printf "%s\\n" "now $W"; echo swordfish-7; echo "it was $W" >&2; while [ ! -e "$G" ]; do sleep 0.02; done; exit 3'
    d.put("m.yaml", pipeline("p", script(text, env={"W": "${env:WORD}", "G": str(gate.file)})), custom("t"))
    event = d.emit1("t")
    run_id = wait_for(lambda: d.event(event["id"])["run_id"])
    live = wait_for(lambda: d.http("GET", f"/api/v1/runs/{run_id}/steps/s/stdout").body)
    assert live.startswith(b"now ***\n")
    gate.open()
    run = d.run_of(event)
    assert run["error_message"] == 'step "s": exit code 3: it was ***' or "it was ***" in run["error_message"]
    assert WORD not in json.dumps(run)


def test_a_bound_cuts_no_secret_in_two(d: Daemon) -> None:
    step = script('printf "0123456789%s" "$W"; printf "0123456789%s" "$W" >&2; exit 1', env={"W": "${env:WORD}"})
    step["exec"]["max_output_bytes"] = 16
    d.put("m.yaml", pipeline("p", step), custom("t"))
    run = d.fire("t")
    for stream in ("stdout", "stderr"):
        assert d.http("GET", f"/api/v1/runs/{run['id']}/steps/s/{stream}").body == b"0123456789***"


def test_a_cancelled_or_late_step_ends_as_any_other(d: Daemon) -> None:
    d.put("m.yaml", pipeline("p", script("exec sleep 60", env={"W": "${file:token}"}, timeout_seconds=0.2)), custom("t"))
    run = d.fire("t")
    assert run["status"] == "timed_out" and TOKEN not in json.dumps(run)


def test_a_step_may_end_while_its_secrets_are_read(d: Daemon) -> None:
    """Its time-out is shorter than that takes, or about as long: whichever comes first, it ends once."""
    d.put("m.yaml", pipeline("p", script("exec sleep 60", env={"W": "${file:token}"}, timeout_seconds=0.001)),
          custom("t", max_concurrent=8))
    events = [d.emit1("t") for _ in range(40)]
    for event in events:
        assert d.run_of(event)["status"] == "timed_out"


# ---- the canaries ----


def everything(d: Daemon, run: dict[str, Any], event: str) -> dict[str, bytes]:
    """Every view there is."""
    seen = {path: d.http("GET", path).body for path in (
        "/api/v1/triggers", "/api/v1/triggers/t", "/api/v1/triggers/t/describe", "/api/v1/triggers/t/events",
        f"/api/v1/triggers/events/{event}", "/api/v1/pipelines", "/api/v1/pipelines/p", "/api/v1/runs",
        f"/api/v1/runs/{run['id']}", "/api/v1/manifests", "/api/v1/triggers/stats", "/metrics", "/healthz",
        *(f"/api/v1/runs/{run['id']}/steps/{s['id']}/{stream}" for s in run["steps"] for stream in ("stdout", "stderr")))}
    for args in (("get", "triggers", "-o", "json"), ("get", "runs", "-o", "wide"), ("get", "manifests", "-o", "yaml"),
                 ("describe", "trigger", "t"), ("describe", "pipeline", "p"), ("describe", "run", run["id"]),
                 ("describe", "event", event), ("logs", run["id"]), ("events", "t"), ("stats",), ("status",),
                 ("validate", str(d.manifests)), ("diff", str(d.manifests / "m.yaml"))):
        done = d.ctl(*args)
        seen["triggerctl " + " ".join(args)] = (done.stdout + done.stderr).encode()
    for file in d.state.rglob("*"):
        if file.is_file():
            seen[str(file)] = file.read_bytes()
    seen["log"] = d.output().encode()
    return seen


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_canaries(make_daemon: Any, log_format: str) -> None:
    names = ["ENV", "ARG", "CWD", "SCRIPT", "INPUT", "DEEP", "FAIL"]
    canary = {name: f"canary-{name.lower()}-{os.urandom(6).hex()}" for name in names}
    d: Daemon = make_daemon(env={f"C_{k}": v for k, v in canary.items()},
                            args=("--log-level", "debug", "--log-format", log_format))
    canary["FILE"] = "canary-file-5a5a5a5a"
    (d.manifests / "secret").write_text(canary["FILE"])
    d.start()
    (d.data / canary["CWD"]).mkdir()
    gate = Gate(d.data)
    show = 'env; pwd; cat; env >&2; echo "$@"'
    steps = [
        {"id": "a", "exec": {"command": ["/bin/sh", "-c", show, "sh", "${env:C_ARG}"], "cwd": f"{d.data}/${{env:C_CWD}}",
                             "env": {"E": "${env:C_ENV}", "F": "x${file:secret}y", "I": "{{ $.inputs.deep.x[0] }}"}}},
        script('echo ${env:C_SCRIPT} $(cat)', "b", needs=["a"]),
        gate.step("g", needs=["b"]),
        {"id": "e", "emit": {"endpoint": "other", "data": {"all": "{{ $ }}"}}, "needs": ["g"]},
        script('env >&2; cat >&2; exec "/nowhere/$F"', "f", needs=["e"], env={"F": "${env:C_FAIL}"}),
    ]
    d.put("m.yaml", pipeline("p", *steps, outputs={"a": "$.steps.a.output", "inputs": "$.inputs"}),
          custom("t", default_inputs={"i": "${env:C_INPUT}", "deep": {"x": ["${env:C_DEEP} ${file:secret}"]}}))
    event = d.emit1("t", {"text": "${env:C_ENV}"})
    wait_for(lambda: gate.lines("start"))
    for child in d.children():  # the step that runs now needs its inputs, and nothing else
        cmdline = Path(f"/proc/{child.pid}/cmdline").read_bytes().decode()
        environment = " ".join(child.env.values())
        assert not any(v in cmdline for v in canary.values()), cmdline
        assert not any(canary[k] in environment for k in ("ENV", "ARG", "CWD", "SCRIPT", "FAIL")), environment
    assert not any(v.encode() in Path(f"/proc/{d.pid}/cmdline").read_bytes() for v in canary.values())
    d.kill9()
    d.start()
    gate.open()
    run = d.run_of(event)
    assert run["status"] == "failed", run
    seen = everything(d, run, event["id"])
    d.stop()
    seen["log"] = d.output().encode()
    for file in d.state.rglob("*"):
        if file.is_file():
            seen[f"{file} at the end"] = file.read_bytes()
    assert seen[f"/api/v1/runs/{run['id']}/steps/a/stdout"].count(b"***") >= 7
    found = [(where, name) for where, data in seen.items() for name, value in canary.items() if value.encode() in data]
    assert not found


@needs_fuse
def test_canaries_in_the_mounted_view(make_mounted: Any) -> None:
    d = make_mounted(env={"WORD": WORD})
    (d.manifests / "token").write_text(TOKEN + "\n")
    d.start()
    gate = Gate(d.data)
    d.put("m.yaml", pipeline("p", script("echo $A; cat; env >&2", "a", env={"A": "${env:WORD}"}), gate.step("g", needs=["a"]),
                             script("echo ${file:token} >&2; exit 1", "z", needs=["g"])),
          custom("t", default_inputs={"word": "x${env:WORD}"}))
    event = d.emit1("t", {"word": "${env:WORD}"})

    def look() -> int:
        seen = 0
        for folder in ("triggers", "pipelines", "events"):
            for path in (d.m / folder).rglob("*"):
                if path.is_file() and path.name not in ("log", "stream", "ctl", "test"):
                    text = path.read_bytes()
                    assert WORD.encode() not in text and TOKEN.encode() not in text, path
                    seen += 1
        for name in ("errors", "stats.json", "metrics"):
            assert WORD.encode() not in (d.m / name).read_bytes()
        return seen

    wait_for(lambda: gate.lines("start"))
    assert look() > 10
    gate.open()
    run = d.run_of(event)
    assert run["status"] == "failed"
    stdout = (d.m / "pipelines" / "p" / "runs" / run["id"] / "steps" / "a" / "stdout").read_text()
    assert stdout.startswith("***\n") and '"x***"' in stdout
    assert look() > 10


# ---- written literally ----


def test_passwords_in_urls_are_hidden_in_views_and_kept_in_manifests(make_daemon: Any) -> None:
    d: Daemon = make_daemon(args=("--log-level", "debug"), env={"WORD": WORD}).start()
    url = "redis://user:canary-pw@host:6379/0"
    text = f"""\
kind: trigger
id: t
name: t
pipeline_id: p
trigger_type: custom
config: {{endpoint: t}}
default_inputs:
  url: {url}  # where it goes
  token: redis://user:${{env:WORD}}@host
"""
    path = d.write("t.yaml", text)
    d.put("p.yaml", pipeline("p", {"id": "s", "exec": {"command": ["/bin/sh", "-c", f"echo >&2 'no {url}'; exit 1"],
                                                       "env": {"URL": url}}}))
    wait_for(lambda: d.exists("t"))
    shown = {"url": "redis://user:***@host:6379/0", "token": "redis://user:${env:WORD}@host"}
    assert d.trigger("t")["default_inputs"] == shown
    assert d.get("/api/v1/pipelines/p")["steps"][0]["exec"]["env"] == {"URL": shown["url"]}
    views = [d.ctl("get", "triggers", "-o", "yaml").stdout, d.ctl("describe", "trigger", "t").stdout,
             d.ctl("describe", "pipeline", "p").stdout, json.dumps(d.get("/api/v1/manifests"))]

    # what is shown means what it was, and everything else stays
    d.http("PUT", "/api/v1/triggers/t", {"default_inputs": {**shown, "more": 1}}).ok()
    assert f"url: {url}  # where it goes" in path.read_text() and "more: 1" in path.read_text()
    d.http("PUT", "/api/v1/triggers/t", {"default_inputs": {**shown, "url": "redis://user:***@other/1"}}).ok()
    assert "url: redis://user:canary-pw@other/1" in path.read_text()
    d.http("PUT", "/api/v1/triggers/t", {"default_inputs": {"url": "redis://user:${env:WORD}@other"}}).ok()
    assert "redis://user:${env:WORD}@other" in path.read_text() and "canary" not in path.read_text()
    path.write_text(text)
    wait_for(lambda: d.trigger("t")["default_inputs"] == shown)

    edited = d.data / "edited.yaml"
    edited.write_text(text.replace("host:6379", "new:6379").replace("name: t", "name: t2") + "# once redis://a:canary-pw@b\n")
    diff = d.ctl("diff", edited).stdout
    assert "-  url: redis://user:***@host:6379/0  # where it goes\n" in diff
    assert "+  url: redis://user:***@new:6379/0  # where it goes\n" in diff and "+name: t2\n" in diff
    views.append(diff)

    run = d.fire("t")
    assert "no redis://user:***@host:6379/0" in run["error_message"]
    views += [run["error_message"], d.event(run["event_id"])["error_message"]]
    d.write("bad.yaml", pipeline("bad", {"id": "s", "exec": {"command": ["x"], "limits": url}}, timeout_seconds=url))
    errors = wait_for(lambda: (e := d.errors()) and len(e) == 2 and e)
    assert all("redis://user:***@host" in e for e in errors), errors
    views += [*errors, d.ctl("validate", d.manifests).stdout, d.output()]
    assert not [v for v in views if "canary-pw" in v]


def webhook(id: str, secret: str) -> dict[str, Any]:
    return {"kind": "trigger", "id": id, "name": id, "pipeline_id": "p", "trigger_type": "webhook",
            "config": {"path": id, "signature": {"scheme": "github", "secret": secret}}}


def deliver(d: Daemon, id: str, secret: str) -> int:
    body = b"{}"
    mac = "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return d.http("POST", f"/hooks/{id}", body, {"X-Hub-Signature-256": mac, "Content-Type": "application/json"}).status


def test_secrets_of_steps_and_servers(daemon: Daemon) -> None:
    """What a PUT sends back as it was shown stays, also where steps change places."""
    http = {"url": "http://u:canary-url@127.0.0.1:1/x", "headers": {"Authorization": "Bearer canary-token", "X-A": "plain",
                                                                    "Cookie": "a=${env:HOME}"}}
    publish = {"queue_type": "kafka", "connection_url": "kafka://127.0.0.1:1", "queue_name": "x", "body": "b",
               "security": {"protocol": "sasl_plaintext", "username": "u", "password": "canary-password"}}
    server = {"kind": "mcp_server", "name": "m", "url": "http://127.0.0.1:1/", "headers": {"Authorization": "canary-header"}}
    path = daemon.write("m.yaml", pipeline("p", {"id": "a", "http": http}, {"id": "b", "publish": publish}, outputs={}), server)
    wait_for(lambda: daemon.http("GET", "/api/v1/mcp_servers/m").status == 200)
    steps = daemon.get("/api/v1/pipelines/p")["steps"]
    assert steps[0]["http"] == {"url": "http://u:***@127.0.0.1:1/x", "headers": {
        "Authorization": "***", "X-A": "plain", "Cookie": "a=${env:HOME}"}}
    assert steps[1]["publish"]["security"]["password"] == "***"
    shown = daemon.get("/api/v1/mcp_servers/m")
    assert shown["headers"] == {"Authorization": "***"}

    for sent in (steps, steps[::-1], [{"id": "first", "exec": {"command": ["/bin/true"]}}, *steps]):
        daemon.http("PUT", "/api/v1/pipelines/p", {"steps": sent}).ok()
        assert daemon.get("/api/v1/pipelines/p")["steps"] == sent
        assert all(word in path.read_text() for word in ("canary-url", "canary-token", "canary-password"))
    daemon.http("PUT", "/api/v1/mcp_servers/m", {"headers": {**shown["headers"], "X-B": "1"}}).ok()
    assert "canary-header" in path.read_text() and "X-B" in path.read_text()
    steps[0]["http"]["headers"]["Authorization"] = "Bearer other"
    daemon.http("PUT", "/api/v1/pipelines/p", {"steps": steps}).ok()
    assert "Bearer other" in path.read_text() and "canary-token" not in path.read_text()


def test_secrets_of_signatures(make_daemon: Any) -> None:
    d: Daemon = make_daemon(args=("--log-level", "debug"), env={"WORD": WORD}).start()
    (d.manifests / "token").write_text(TOKEN + "\n")
    secrets = {"literal": "canary-literal", "env": "${env:WORD}", "file": "${file:token}", "gone": "${env:GONE_X}",
               "mixed": "canary-${env:WORD}"}
    path = d.write("m.yaml", pipeline("p", script("echo done")), *(webhook(id, secret) for id, secret in secrets.items()))
    wait_for(lambda: d.exists("mixed"))
    shown = {id: d.trigger(id)["config"]["signature"]["secret"] for id in secrets}
    assert shown == {**secrets, "literal": "***", "mixed": "***${env:WORD}"}
    values = {"literal": "canary-literal", "env": WORD, "file": TOKEN, "mixed": f"canary-{WORD}"}
    for id, value in values.items():
        assert (deliver(d, id, value), deliver(d, id, "wrong-" + value)) == (200, 401), id
    gone = d.http("POST", "/hooks/gone", b"{}", {"X-Hub-Signature-256": "sha256=" + "0" * 64})
    assert gone.status >= 400 and b"canary" not in gone.body

    # sent back as it was shown, with something else changed
    for id in secrets:
        config = d.trigger(id)["config"]
        d.http("PUT", f"/api/v1/triggers/{id}", {"config": {**config, "methods": ["POST", "PUT"]}}).ok()
        assert f'"secret": "{secrets[id]}"' in path.read_text(), id
        assert d.trigger(id)["config"] == {**config, "methods": ["POST", "PUT"]}
    d.http("PUT", "/api/v1/triggers/literal", {"config": {"path": "literal", "signature": {
        "scheme": "github", "secret": "${file:token}"}}}).ok()
    assert deliver(d, "literal", TOKEN) == 200 and "canary-literal" not in path.read_text()

    edited = d.data / "edited.json"
    edited.write_text(json.dumps(webhook("mixed", "canary-other")))
    bad = d.write("bad.yaml", {**webhook("bad", "x"), "config": {"path": "bad", "signature": {
        "scheme": "github", "secret": 12345678901}}})
    errors = wait_for(d.errors)
    bad.unlink()
    diff = d.ctl("diff", edited).stdout
    assert '"secret": "***"' in diff and "***${env:WORD}" in diff
    views = [*errors, diff, json.dumps(d.get("/api/v1/triggers")), d.ctl("describe", "trigger", "mixed").stdout,
             d.ctl("get", "triggers", "-o", "yaml").stdout, d.ctl("events", "mixed").stdout, d.output(),
             json.dumps(d.events())]
    found = [(v, c) for v in views for c in ("canary-literal", "canary-other", WORD, TOKEN, "12345678901") if c in v]
    assert not found
