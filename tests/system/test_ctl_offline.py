"""triggerctl where no daemon runs: path, match, validate, explain, init, help and usage."""
from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from harness import SANITIZER, build_dir

CTL = build_dir() / "triggerctl"
PIPELINE = "kind: pipeline\nid: p\nsteps: [{id: s, exec: {command: [/bin/true]}}]\n"
TRIGGER = "name: t\npipeline_id: p\ntrigger_type: custom\nconfig: {endpoint: e}\n"


def ctl(*args: str | Path, input: str | bytes = "", env: dict[str, str] | None = None,
        cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    data = input.encode() if isinstance(input, str) else input
    done = subprocess.run([str(CTL), *map(str, args)], input=data, capture_output=True, timeout=120, cwd=cwd,
                          env={**os.environ, "TRIGGERD_SOCKET": "/nonexistent/sock", **(env or {})})
    out, err = done.stdout.decode(), done.stderr.decode()
    assert not SANITIZER.search(err), err
    return subprocess.CompletedProcess(done.args, done.returncode, out, err)


def good(*args: str | Path, **more: Any) -> str:
    done = ctl(*args, **more)
    assert done.returncode == 0, f"{done.args}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


def lines(done: str) -> list[Any]:
    return [json.loads(line) for line in done.splitlines()]


# ---- usage ----


@pytest.mark.parametrize("args, said", [
    ([], "a verb is missing"),
    (["gett"], 'did you mean "get"?'),
    (["get"], "is missing"),
    (["get", "trigers"], 'did you mean "triggers"?'),
    (["get", "triggers", "a", "b"], "one argument too many"),
    (["get", "triggers", ""], "ID is empty"),
    (["get", "triggers", "--statu", "x"], 'did you mean "--status"?'),
    (["get", "triggers", "--since", "1h"], "does not apply to triggers"),
    (["get", "pipelines", "p", "--type", "x"], "does not apply"),
    (["get", "triggers", "-o", "yml"], '--output: there is no "yml"; did you mean "yaml"?'),
    (["get", "triggers", "-o"], "needs a value"),
    (["get", "events", "--limit", "0"], "--limit"),
    (["get", "events", "--limit", "x"], "--limit"),
    (["--frobnicate"], "unknown option"),
    (["-x"], "unknown option"),
    (["--socket"], "needs a value"),
    (["emit", "e", "--dry-run"], "unknown option"),
    (["test", "t", "--dry-run=1"], "takes no value"),
    (["emit", "e", "--idempotency-key", "a\nb"], "--idempotency-key"),
    (["emit", "e", "--idempotency-key", ""], "--idempotency-key"),
    (["wait", "run", "r", "--for", "finished"], 'did you mean "failed"?'),
    (["get", "triggers", "--status", "completed"], "--status"),
    (["get", "manifests", "--status", "active"], "does not apply"),
    (["wait", "run", "r", "--timeout", "soon"], "--timeout"),
    (["wait", "pipeline", "p"], "did you mean"),
    (["run", "p", "--timeout", "1"], "--wait"),
    (["path"], "EXPR or --batch"),
    (["path", "$", "--batch"], "EXPR or --batch"),
    (["match"], "PATTERN or --batch"),
    (["init", "cron"], "did you mean"),
    (["replay"], "expected an EVENT, or a filter"),
])
def test_usage(args: list[str], said: str) -> None:
    done = ctl(*args)
    assert done.returncode == 2 and not done.stdout
    assert said in done.stderr and "usage: triggerctl" in done.stderr


@pytest.mark.parametrize("args", [["--socket", "/x/y", "stats"], ["stats", "--socket=/x/y"], ["--socket=/x/y", "stats"]])
def test_socket_is_taken_anywhere(args: list[str]) -> None:
    done = ctl(*args)
    assert done.returncode == 3 and "no daemon at /x/y" in done.stderr


def private_mounts() -> bool:
    return os.geteuid() == 0 and subprocess.run(["unshare", "-m", "mount", "-t", "tmpfs", "none", "/run"],
                                                capture_output=True).returncode == 0


@pytest.mark.skipif(not private_mounts(), reason="needs root and mounts of its own")
def test_who_has_no_daemon_finds_the_service() -> None:
    script = """
        mount -t tmpfs none /run && cp "$0" /run/triggerctl && mkdir /run/triggerd
        nobody() { setpriv --reuid 65534 --regid 65534 --clear-groups "$@"; }
        ! nobody env -u XDG_RUNTIME_DIR /run/triggerctl stats || exit 1
        python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("/run/triggerd/triggerd.sock")'
        chmod 600 /run/triggerd/triggerd.sock
        nobody env -u XDG_RUNTIME_DIR /run/triggerctl stats
    """
    env = {k: v for k, v in os.environ.items() if k != "TRIGGERD_SOCKET"}
    done = subprocess.run(["unshare", "-m", "sh", "-c", script, CTL], capture_output=True, text=True, env=env)
    own, service = done.stderr.splitlines()
    assert done.returncode == 3 and "no daemon at /tmp/triggerd-65534/triggerd.sock: " in own
    assert "no way in to the daemon at /run/triggerd/triggerd.sock: it is its user's and root's" in service


def test_a_url_stands_for_a_socket() -> None:
    done = ctl("stats", env={"TRIGGERD_SOCKET": "http://127.0.0.1:1/"})
    assert done.returncode == 3 and "http://127.0.0.1:1/" in done.stderr


def test_version_needs_no_daemon() -> None:
    assert re.match(r"triggerctl \d+\.\d+\.\d+\n", good("version"))
    assert good("--version").startswith("triggerctl ")
    assert json.loads(good("version", "-o", "json"))["triggerd"] is None


def test_help_of_every_verb() -> None:
    verbs = re.findall(r"^  ([a-z]+) ", good("--help"), re.MULTILINE)
    assert {"get", "wait", "match", "init"} <= set(verbs)
    for verb in verbs:
        text = good(verb, "--help")
        assert f"usage: triggerctl {verb}" in text
        assert re.search(rf"example:\n.*triggerctl {verb}", text, re.DOTALL)
        assert good("help", verb) == text


# ---- path ----


@pytest.mark.parametrize("path, document, wanted", [
    ("$", "7", "[7]"), ("$.a", '{"b": 1}', "[]"), ("$.*", '[1.0, -0, 1e400, 12345678901234567890]',
                                                   "[1.0,-0,1e400,12345678901234567890]"),
    ("$..n", '{"n": {"n": [null]}}', '[{"n":[null]},[null]]'), ("$[0,0]", '["é"]', '["é","é"]')])
def test_path(path: str, document: str, wanted: str) -> None:
    assert good("path", path, input=document) == wanted + "\n"


@pytest.mark.parametrize("path", ["", "$.", "$[", "a.b", "$.a.0.", "$['a'", "$.a "])
def test_what_is_no_path_is_refused(path: str) -> None:
    done = ctl("path", path, input="{}")
    assert done.returncode == (2 if path == "" else 1) and done.stderr and not done.stdout


@pytest.mark.parametrize("text, place", [("", "1:1"), ("{\n\"a\": 01}", "2:"), ("{} {}", "1:4"), ('{"a":1,"a":2}', "1:8"),
                                         ("[" * 200, "1:"), (b'"\xff"', "1:2"), ("\ufeff{}", "1:1")])
def test_json_that_is_none_has_a_place(text: str | bytes, place: str) -> None:
    for args in (["path", "$"], ["match", "{}"]):
        done = ctl(*args, input=text)
        assert done.returncode == 1 and not done.stdout
        assert f"standard input:{place}" in done.stderr


def test_path_batch() -> None:
    given = ['{"selector": "$.a", "document": {"a": 1}}', "", "nope", '{"selector": "$[", "document": 1}',
             '{"selector": "$"}', "[]", '{"selector": "$", "document": null, "name": "ignored"}',
             '{"selector": "$", "document": "a\u2028b\x85c\u2029"}']
    done = good("path", "--batch", input="\n".join(given))  # the last line has no end
    found = lines(done)
    assert [x.get("result") for x in found] == [[1], None, None, None, None, [None], ["a\u2028b\x85c\u2029"]]
    assert all(x["error"] for x in found if "result" not in x)
    assert good("path", "--batch", input="") == ""


def test_path_batch_answers_at_once() -> None:
    with subprocess.Popen([str(CTL), "path", "--batch"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin and process.stdout
        for n in range(3):
            process.stdin.write(b'{"selector": "$", "document": %d}\n' % n)
            process.stdin.flush()
            assert json.loads(process.stdout.readline()) == {"result": [n]}
        process.stdin.close()


def test_long_lines() -> None:
    long = "x" * (5 << 20)
    given = json.dumps({"selector": "$", "document": long}) + "\n" + " " * ((64 << 20) + 1) + "\n" + \
        '{"selector": "$", "document": 1}\n'
    first, second, third = lines(good("path", "--batch", input=given))
    assert first == {"result": [long]} and "64 MiB" in second["error"] and third == {"result": [1]}


def test_work_is_bounded() -> None:
    path, document = "$[?count($.*) > 0]", json.dumps([0] * 2000)
    done = ctl("path", path, input=document)
    assert done.returncode == 1 and done.stderr and not done.stdout
    assert lines(good("path", "--batch", input=f'{{"selector": "{path}", "document": {document}}}'))[0].keys() == {"error"}


# ---- match ----


@pytest.mark.parametrize("pattern, event, matches", [
    ('{"a": [1]}', '{"a": 1.0}', True), ('{"a": 1}', '{"a": [2, 1]}', True), ("{}", "{}", True),
    ('{"a": [{"exists": false}]}', "{}", True), ('{"a": ["1"]}', '{"a": 1}', False), ('{"a.b": [1]}', '{"a": {}}', False)])
def test_match(pattern: str, event: str, matches: bool) -> None:
    done = ctl("match", pattern, input=event)
    assert done.returncode == (0 if matches else 1) and not done.stderr
    if matches:
        assert done.stdout == "match\n"
    else:
        assert done.stdout.startswith("a") and "expected" in done.stdout


def test_match_takes_a_file(tmp_path: Path) -> None:
    (tmp_path / "pattern.json").write_text('{"a": [1]}')
    assert good("match", f"@{tmp_path}/pattern.json", input='{"a": 1}') == "match\n"
    assert ctl("match", f"@{tmp_path}/none.json", input="{}").returncode == 1
    assert ctl("match", "-", input="{}").returncode == 1


@pytest.mark.parametrize("pattern", ["", "{", "[]", "1", '{"a": [{"odd": 1}]}', '{"a": {"prefix": "x"}, "b": []}'])
def test_what_is_no_pattern_is_refused(pattern: str) -> None:
    done = ctl("match", pattern, input="{}")
    assert done.returncode == (2 if pattern == "" else 1) and done.stderr and not done.stdout


def test_match_batch() -> None:
    given = ['{"pattern": {"a": 1}, "event": {"a": 1}}', '{"pattern": {"a": 1}, "event": {"a": "\u2028"}}',
             '{"pattern": {"a": [{"odd": 1}]}, "event": {}}', '{"pattern": {}}', "x"]
    first, second, *wrong = lines(good("match", "--batch", input="\n".join(given) + "\n"))
    assert first == {"match": True}
    assert second.keys() == {"match", "reason"} and second["match"] is False and "a" in second["reason"]
    assert len(wrong) == 3 and all(x.keys() == {"error"} and x["error"] for x in wrong)


def test_a_reason_cannot_draw_on_the_terminal() -> None:
    done = ctl("match", '{"a": [1]}', input='{"a": "\x1b[31m\u202e"}'.replace("\x1b", "\\u001b"))
    assert done.returncode == 1 and "\x1b" not in done.stdout and "\u202e" not in done.stdout


# ---- validate ----


def write(root: Path, name: str, text: str) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_validate_a_tree(tmp_path: Path) -> None:
    write(tmp_path, "a.yaml", PIPELINE)
    write(tmp_path, "b/c.yml", TRIGGER)
    write(tmp_path, "d.json", json.dumps({"name": "u", "pipeline_id": "p", "trigger_type": "custom",
                                          "config": {"endpoint": "e"}}))
    for name in (".hidden.yaml", "x.yaml~", "#x.yaml#", ".git/x.yaml", ".h/x.yaml", "x.yaml.swp", "x.txt", "b/.c.yml.swp"):
        write(tmp_path, name, "nonsense: [\n")
    (tmp_path / "e.yaml").mkdir()  # a folder, whatever its name
    write(tmp_path, "e.yaml/f.yaml", "name: [\n")
    os.mkfifo(tmp_path / "g.yaml")
    done = ctl("validate", tmp_path)
    assert done.returncode == 1
    assert {line.split(":")[0] for line in done.stdout.splitlines()} == {f"{tmp_path}/e.yaml/f.yaml"}
    (tmp_path / "e.yaml/f.yaml").unlink()
    done = ctl("validate", tmp_path)
    assert done.returncode == 0 and not done.stdout and "3 files, 3 resources: 0 errors" in done.stderr


def test_links(tmp_path: Path) -> None:
    real = write(tmp_path, "real/a.yaml", TRIGGER)
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "link.yaml").symlink_to(real)
    (tree / "folder").symlink_to(tmp_path / "real")  # not followed, as the daemon does not
    (tree / "loop").symlink_to(tree)
    assert ctl("validate", tree).returncode == 0
    (tree / "dangling.yaml").symlink_to(tmp_path / "none")
    done = ctl("validate", tree)
    assert done.returncode == 1 and done.stdout.startswith(f"{tree}/dangling.yaml: ")
    (tmp_path / "entry").symlink_to(tmp_path / "real")
    assert ctl("validate", tmp_path / "entry").returncode == 0


@pytest.mark.parametrize("name", ["none.yaml", "fifo", "link.yaml"])
def test_what_cannot_be_read(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link.yaml").symlink_to("nowhere")
    done = ctl("validate", name, cwd=tmp_path)
    assert done.returncode == 1 and done.stdout.startswith(f"{name}: ")


def test_standard_input(tmp_path: Path) -> None:
    good("validate", "-", input=TRIGGER)
    good("validate", "-", input=json.dumps({"kind": "pipeline", "id": "p", "steps": [{"id": "s", "exec": {"script": "x"}}]}))
    done = ctl("validate", "-", "-", input=TRIGGER + "enabled: 1\n")
    assert done.returncode == 1 and done.stdout == "<stdin>:5:10: enabled: expected true or false, got 1\n"
    done = ctl("validate", write(tmp_path, "a.yaml", TRIGGER), "-", input=TRIGGER)
    assert done.stdout == f'<stdin>:1:1: id: trigger "t" is already defined in {tmp_path}/a.yaml:1\n'
    good("validate", "./-", cwd=write(tmp_path, "-", PIPELINE).parent)


def test_a_file_is_read_whatever_its_name(tmp_path: Path) -> None:
    assert ctl("validate", write(tmp_path, "x.txt", TRIGGER)).returncode == 0
    assert ctl("validate", write(tmp_path, ".y", "name: [")).returncode == 1


def test_too_large(tmp_path: Path) -> None:
    done = ctl("validate", write(tmp_path, "a.yaml", "# x\n" * (5 << 18)))
    assert done.returncode == 1 and done.stdout == f"{tmp_path}/a.yaml: larger than {4 << 20} bytes\n"


def test_too_deep(tmp_path: Path) -> None:
    write(tmp_path, "/".join(["d"] * 70) + "/a.yaml", TRIGGER)
    done = ctl("validate", tmp_path)
    assert done.returncode == 1 and "too many folders" in done.stdout
    write(tmp_path, "x/" + "/".join(["d"] * 62) + "/a.yaml", TRIGGER)
    assert ctl("validate", tmp_path / "x").returncode == 0


def test_defined_twice(tmp_path: Path) -> None:
    first = write(tmp_path, "a.yaml", f"{TRIGGER}---\n{PIPELINE}")
    second = write(tmp_path, "b.yaml", f"# the id of a pipeline is none of a trigger\n{PIPELINE.replace('id: p', 'id: t')}"
                                       f"---\n{TRIGGER}")
    done = ctl("validate", tmp_path)
    assert done.returncode == 1
    assert done.stdout == f'{second}:6:1: id: trigger "t" is already defined in {first}:1\n'
    assert ctl("validate", second, first).stdout.startswith(f"{first}:1:1: "), "the later argument is in error"
    assert ctl("validate", first, tmp_path / "a.yaml", f"{tmp_path}/./a.yaml").returncode == 0, "one file, once"
    assert ctl("validate", first).returncode == 0


def test_errors_are_in_order(tmp_path: Path) -> None:
    write(tmp_path, "a.yaml", TRIGGER)
    path = write(tmp_path, "b.yaml", TRIGGER + "max_concurrent: 0\n---\nname: 1\n")
    places = [int(line.split(":")[1]) for line in ctl("validate", tmp_path).stdout.splitlines()]
    assert places == sorted(places) and places[0] == 1 and len(places) > 2, path


def report(path: Path, form: str) -> str:
    done = ctl("validate", path, "-o", form)
    assert done.returncode == 1
    return done.stdout


def test_reports(tmp_path: Path) -> None:
    path = write(tmp_path, "sub %,dir/a:b.yaml", TRIGGER + "max_concurrent: 0\n")
    document = json.loads(report(path, "json"))
    assert document["valid"] is False and document["files"] == 1
    error = document["errors"][0]
    assert (error["file"], error["line"], error["column"], error["path"]) == (str(path), 5, 17, "max_concurrent")
    assert error["severity"] == "error" and error["message"]
    github = report(path, "github")
    assert github.startswith(f"::error file={tmp_path}/sub %25%2Cdir/a%3Ab.yaml,line=5,col=17::max_concurrent: ")
    sarif = json.loads(report(path, "sarif"))
    run, = sarif["runs"]
    assert sarif["version"] == "2.1.0" and run["tool"]["driver"]["name"]
    result, = run["results"]
    assert result["level"] == "error" and result["message"]["text"].startswith("max_concurrent: ")
    physical = result["locations"][0]["physicalLocation"]
    assert physical["artifactLocation"]["uri"] == f"file://{tmp_path}/sub%20%25%2Cdir/a%3Ab.yaml"
    assert physical["region"] == {"startLine": 5, "startColumn": 17}
    for form in ("json", "sarif"):
        assert json.loads(good("validate", write(tmp_path, "fine.yaml", TRIGGER), "-o", form))
    missing = json.loads(report(tmp_path / "none.yaml", "sarif"))
    assert "region" not in missing["runs"][0]["results"][0]["locations"][0]["physicalLocation"]


def test_reports_name_files_as_the_tree_does(tmp_path: Path) -> None:
    """What is below the working directory has no part of it; what is elsewhere is absolute."""
    bad = TRIGGER + "enabled: no\n"
    write(tmp_path, "in/a.yaml", bad)
    write(tmp_path, "b.yaml", bad.replace("name: t", "name: u"))
    root = tmp_path / "in"
    args = ("validate", root / "a.yaml", "./a.yaml", "../b.yaml", "-o")
    github = ctl(*args, "github", cwd=root).stdout.splitlines()
    assert [line.split("::")[1] for line in github] == ["error file=a.yaml,line=5,col=10", "error file=../b.yaml,line=5,col=10"]
    run, = json.loads(ctl(*args, "sarif", cwd=root).stdout)["runs"]
    assert run["originalUriBaseIds"] == {"%SRCROOT%": {"uri": f"file://{root}/"}}
    assert [r["locations"][0]["physicalLocation"]["artifactLocation"] for r in run["results"]] == [
        {"uri": "a.yaml", "uriBaseId": "%SRCROOT%"}, {"uri": f"file://{tmp_path}/b.yaml"}]


def test_one_line_an_error(tmp_path: Path) -> None:
    """Whatever a manifest holds, and whatever its file is called."""
    path = write(tmp_path, "a%\r\nb.yaml", TRIGGER + '"x\\n\\u202ey%": 1\n')
    text = ctl("validate", path).stdout
    assert text.count("\n") == 1 and text.startswith(f"{tmp_path}/a%\\r\\nb.yaml:5:1: x\\n\\u202ey%: unknown key; ")
    github = ctl("validate", path, "-o", "github").stdout
    assert github.startswith(f"::error file={tmp_path}/a%25%0D%0Ab.yaml,line=5,col=1::x%0A\u202ey%25: unknown key; ")
    assert github.count("\n") == 1
    for form in ("json", "sarif"):
        json.loads(ctl("validate", os.fsdecode(bytes(tmp_path) + b"/\xff.yaml"), "-o", form).stdout)


def test_more_errors_than_are_listed(tmp_path: Path) -> None:
    path = write(tmp_path, "a.yaml", TRIGGER + "".join(f"k{i}: 1\n" for i in range(1500)))
    found = ctl("validate", path).stdout.splitlines()
    assert len(found) == 1001 and sum("unknown key" in line for line in found) == 1000
    assert f"{path}:1:1: 500 more errors in this document are not listed" in found


def test_many_documents_in_one_file(tmp_path: Path) -> None:
    write(tmp_path, "a.yaml", "---\n".join(TRIGGER.replace("name: t", f"name: t{i % 9999}") for i in range(10000)))
    assert ctl("validate", tmp_path).stdout == f'{tmp_path}/a.yaml:49996:1: id: trigger "t0" is already defined at line 1\n'


def test_the_examples_are_valid() -> None:
    good("validate", Path(__file__).resolve().parents[2] / "examples")


# ---- explain and init ----


@pytest.mark.parametrize("path, words", [
    ("trigger", ["cooldown_seconds", "one of skip, latest, queue", "trigger types", "custom"]),
    ("trigger.max_concurrent", ["integer", "1 to 100000", "default:     1"]),
    ("trigger.name", ["required", "not empty, at most 200 characters"]),
    ("pipeline", ["steps", "required"]), ("pipeline.steps", ["graph"]), ("pipeline.steps.retry.jitter", ["0 to 1"]),
    ("step", ["needs", "exec"]), ("step.exec.script", ["/bin/sh"]), ("step.timeout_seconds", ["more than 0"]),
    ("retry.factor", ["default:     2"]), ("exec.limits", ["memory_bytes"]), ("custom", ["endpoint", "filter"]),
    ("trigger.config.custom.endpoint", ["reconnects"]), ("pipeline_completed.status", ["success, failed, any"]),
    ("custom.filter", ["event pattern", "type:        object"]), ("trigger.config.filter", ["event pattern"]),
    ("trigger.config.debounce_seconds", ["default:     1", "takes effect"]), ("trigger.config.tls.ca_file", ["string"]),
    ("schedule.input_mapping", ["here or in config"]), ("trigger.config.input_mapping", ["here or in config"])])
def test_explain(path: str, words: list[str]) -> None:
    text = good("explain", path)
    for word in words:
        assert word in text


@pytest.mark.parametrize("path, near", [("triger", "trigger"), ("trigger.colour", "config"), ("retry.factr", "factor"),
                                        ("trigger.name.x", "no fields"), ("trigger.", "did you mean"), ("trigger.filter", '"custom.filter" or'), ("schedule.filter", '"webhook.filter"'),
                                        ("endpoint", '"custom.endpoint" or'), ("exec.retry", '"step.retry"?'),
                                        ("file_watch.cooldown_seconds", '"trigger.cooldown_seconds"?'),
                                        ("custom.memory_bytes", '"exec.limits.memory_bytes" or'),
                                        (".", "did you mean"), ("step.exek", "exec"), ("trigger.config.path", '"file_watch.path" or "webhook.path"')])
def test_explain_what_is_not_there(path: str, near: str) -> None:
    done = ctl("explain", path)
    assert done.returncode == 1 and near in done.stderr and not done.stdout


def types() -> list[str]:
    """The types that `explain trigger` lists."""
    listed = ctl("explain", "trigger").stdout.split("trigger types")[1]
    return re.findall(r"^  ([a-z_]+)", listed, re.MULTILINE)


@pytest.mark.parametrize("type", ["pipeline", *(types() if CTL.exists() else [])])
def test_init_gives_what_validates(tmp_path: Path, type: str) -> None:
    text = good("init", type)
    assert text.startswith("# yaml-language-server: $schema=")
    if name := re.search(r"^name: (My .*)$", text, re.MULTILINE):
        words = name[1].split()
        assert words[1].lower() == type.split("_")[0] and "_" not in name[1]
        assert f"as a slug: {'-'.join(words).lower()};" in text
    good("validate", write(tmp_path, "m.yaml", text))
    # What is commented out is right as well: every key alone, put in force.
    base, found = text.splitlines(), 0
    for i, line in enumerate(base):
        if re.fullmatch(r" *# [a-z_]+: [^ ].*", line) and not re.match(r"# (yaml-language-server|false):", line):
            changed = [*base[:i], line.replace("# ", "", 1), *base[i + 1:]]
            done = ctl("validate", write(tmp_path, "m.yaml", "\n".join(changed) + "\n"))
            assert done.returncode == 0 or "every_seconds" in line, line + done.stdout
            found += 1
    assert found > 1
