"""exec: whom a step runs as, what bounds it, its sandbox, why it did not start, and that nothing stays behind."""
from __future__ import annotations

import json
import os
import pwd
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest
from harness import Daemon, finished, pipeline, printed, run_steps as run, sandbox_works, script, step_of, wait_for

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="only root may run steps as others")


def command(*argv: str, id: str = "s", **more: Any) -> dict[str, Any]:
    inner = {k: more.pop(k) for k in ("env", "cwd", "limits", "user", "sandbox", "writable") if k in more}
    return {"id": id, "exec": {"command": list(argv), **inner}, **more}


def program(path: Path, text: str, mode: int = 0o755) -> str:
    path.write_text(text)
    path.chmod(mode)
    return str(path)


# ---- why it did not start ----


def test_why_a_program_does_not_start(daemon: Daemon) -> None:
    d = daemon.data
    d.chmod(0o755)
    cases = {
        "/nowhere/program": "no such file",
        "no-such-program-anywhere": "not found in PATH",
        program(d / "plain", "#!/bin/sh\n", 0o644): "not executable",
        program(d / "lost", "#!/nowhere/interpreter\n"): "bad interpreter: /nowhere/interpreter",
        program(d / "dos", "#!/bin/sh\r\n"): "carriage return",
        program(d / "noise", "\1\2\3"): "exec format error",
        str(d): "is a directory",
    }
    for path, reason in cases.items():
        done = run(daemon, command(path, "x"), outputs={})
        assert done["status"] == "failed", path
        assert path in done["error_message"] and reason in done["error_message"], done["error_message"]
        assert step_of(done)["exit_code"] is None


# ---- whom it runs as ----


@ROOT_ONLY
def test_a_step_runs_as_a_user(daemon: Daemon) -> None:
    user = pwd.getpwnam("nobody")
    groups = " ".join(str(g) for g in os.getgrouplist(user.pw_name, user.pw_gid))
    for name in ("nobody", str(user.pw_uid)):
        done = run(daemon, script('echo "$(id -u) $(id -ru) $(id -g)"; id -G; grep -E "^(CapEff|CapPrm|NoNew)" /proc/self/status; '
                                  'echo "$HOME"', user=name, cwd="/"), outputs={})
        lines = printed(daemon, done).decode().splitlines()
        assert lines[0] == f"{user.pw_uid} {user.pw_uid} {user.pw_gid}"
        assert sorted(lines[1].split()) == sorted(groups.split())
        assert {x.split()[1] for x in lines[2:4]} == {"0" * 16} and lines[4].split()[1] == "1"
        assert lines[5] == user.pw_dir
    own = run(daemon, script('echo "$HOME"', user="nobody", cwd="/", env={"HOME": "/own"}), outputs={})
    assert printed(daemon, own) == b"/own\n"


@ROOT_ONLY
def test_the_groups_of_a_user(daemon: Daemon) -> None:
    """A supplementary group opens what it opens, and those of the daemon do not."""
    names = [u for u in pwd.getpwall() if u.pw_uid and len(os.getgrouplist(u.pw_name, u.pw_gid)) > 1]
    if not names:
        pytest.skip("no user here has a second group")
    user = names[0]
    wanted = sorted(os.getgrouplist(user.pw_name, user.pw_gid))
    done = run(daemon, script("id -G", user=user.pw_name, cwd="/"), outputs={})
    assert sorted(int(x) for x in printed(daemon, done).split()) == wanted


@ROOT_ONLY
def test_a_user_that_may_not(daemon: Daemon) -> None:
    secret = daemon.data / "secret"
    secret.write_text("x")
    secret.chmod(0o600)
    locked = daemon.data / "locked"
    locked.mkdir(mode=0o700)
    assert run(daemon, command("/bin/cat", str(secret), user="nobody", cwd="/"))["status"] == "failed"
    done = run(daemon, command("/bin/true", user="nobody", cwd=str(locked)))
    assert "cwd" in done["error_message"] and "permission denied" in done["error_message"]


def test_a_user_that_is_none(daemon: Daemon) -> None:
    done = run(daemon, command("/bin/true", user="no-such-user"))
    assert done["status"] == "failed" and 'there is no user "no-such-user"' in done["error_message"]


@ROOT_ONLY
def test_only_root_may_run_a_step_as_another(near: Path, make_daemon: Any) -> None:
    """triggerd as nobody: another user is refused with the reason, its own goes."""
    d: Daemon = make_daemon(str(near / "d"), user="nobody")
    for path in (d.root, d.manifests, d.data, d.socket.parent):
        shutil.chown(path, "nobody")
    d.start()
    assert run(d, script("id -un", user="nobody", cwd="/"))["outputs"]["out"]["stdout"] == "nobody\n"
    done = run(d, script("id -un", user="root", cwd="/"))
    assert done["status"] == "failed"
    assert 'user: "root": triggerd must be root to run a step as another user' in done["error_message"], done["error_message"]


# ---- what bounds it ----


@pytest.mark.parametrize("limits, text, words", [
    ({"open_files": 16}, "exec python3 -c 'import os; [os.dup(1) for _ in range(32)]'", ["open_files", "16"]),
    ({"memory_bytes": 256 << 20}, "exec python3 -c 'bytearray(1 << 30)'", ["memory_bytes", str(256 << 20)]),
    ({"cpu_seconds": 1}, "exec python3 -c 'while True: pass'", ["SIGXCPU", "cpu_seconds", "1"]),
    ({"cpu_seconds": 0.25}, "exec python3 -c 'while True: pass'", ["killed by SIG", "(limits.cpu_seconds is 0.25)"]),
])
def test_a_limit_is_told_of(daemon: Daemon, limits: dict[str, float], text: str, words: list[str]) -> None:
    done = run(daemon, script(text, limits=limits), outputs={})
    assert done["status"] == "failed"
    for word in words:
        assert word in done["error_message"], done["error_message"]


@ROOT_ONLY
def test_the_limit_of_processes(daemon: Daemon) -> None:
    """The kernel holds root to none, so another user."""
    done = run(daemon, script("for i in 1 2 3 4 5 6 7 8; do sleep 5 & done; wait", user="games", cwd="/", limits={"processes": 3},
                              timeout_seconds=20), outputs={})
    assert done["status"] == "failed" and "processes" in done["error_message"], done["error_message"]


def test_limits_are_in_force(daemon: Daemon) -> None:
    done = run(daemon, command("/bin/cat", "/proc/self/limits", limits={
        "open_files": 77, "memory_bytes": 1 << 30, "cpu_seconds": 32.5, "processes": 4444}), outputs={})
    table = {line[:26].strip(): line[26:].split()[:2] for line in printed(daemon, done).decode().splitlines()[1:]}
    assert table["Max open files"] == ["77", "77"]
    assert table["Max address space"] == [str(1 << 30)] * 2
    assert table["Max cpu time"] == ["33", "38"], "SIGXCPU, and 5 s later SIGKILL"
    assert table["Max processes"] == ["4444", "4444"]
    assert table["Max core file size"] == ["0", "0"]


# ---- output ----


def test_the_bound_of_output_is_a_steps_own(daemon: Daemon) -> None:
    done = run(daemon, script("echo 123456789", "a", max_output_bytes=4), script("echo 123456789", "b"),
               outputs={"a": "$.steps.a.output", "b": "$.steps.b.output"})
    assert printed(daemon, done, "a") == b"1234\n[triggerd: 6 more bytes were dropped]\n"
    assert done["outputs"] == {"a": {"stdout": "1234"}, "b": 123456789}


def test_a_gibibyte_of_output_is_not_kept(daemon: Daemon) -> None:
    """What is dropped costs no memory (under a sanitizer 256 MiB, whose books are not measured)."""
    asan = daemon.sanitized
    size = (256 << 20) if asan else (1 << 30)
    run(daemon, script("head -c 4000000 /dev/zero; head -c 4000000 /dev/zero >&2"), outputs={})
    before = daemon.memory("RssAnon")
    daemon.put("p.yaml", pipeline("p", script(f"head -c {size} /dev/zero"), outputs={}))
    id = daemon.post("/api/v1/pipelines/p/run", {})["id"]
    peak = 0

    def over() -> Any:
        nonlocal peak
        peak = max(peak, daemon.memory("RssAnon"))
        return (r := daemon.run(id))["status"] not in ("pending", "running") and r

    done = wait_for(over, 120)
    assert done["status"] == "completed"
    mark = f"[triggerd: {size - (1 << 20)} more bytes were dropped]".encode()
    assert mark in printed(daemon, done)[-100:]
    assert asan or peak - before <= 2 << 10, f"{peak - before} KiB more"


def test_a_child_keeps_the_output_open(daemon: Daemon) -> None:
    """It left the group with both ends of the pipes: the run ends all the same, and so does the child."""
    done = run(daemon, script("setsid sh -c 'trap \"\" TERM HUP; sleep 300' & echo '\"first\"'; echo last >&2"))
    assert done["status"] == "completed" and done["outputs"]["out"] == "first"
    assert printed(daemon, done, stream="stderr") == b"last\n"
    wait_for(lambda: not daemon.children())


# ---- the graph ----


def test_a_fan_of_200_steps(daemon: Daemon) -> None:
    fan = [command("/bin/echo", str(i), id=f"s{i}", needs=["first"]) for i in range(200)]
    done = run(daemon, command("/bin/true", id="first"), *fan,
               script("true", "last", needs=[s["id"] for s in fan]), outputs={f"o{i}": f"$.steps.s{i}.output" for i in range(200)})
    assert done["status"] == "completed"
    assert done["outputs"] == {f"o{i}": i for i in range(200)}
    ends = [step_of(done, f"s{i}")["completed_at"] for i in range(200)]
    assert step_of(done, "last")["started_at"] >= max(ends)


def test_a_run_keeps_its_pipeline(daemon: Daemon) -> None:
    """Edits while it runs are for later runs, and a deleted pipeline lets its runs end."""
    gate = daemon.data / "gate"
    wait = {"env": {"GATE": str(gate)}}
    daemon.put("p.yaml", pipeline("p", script('while [ ! -e "$GATE" ]; do sleep 0.02; done; echo 1', "a", **wait),
                                  script("echo 2", "b", needs=["a"]), outputs={"b": "$.steps.b.output"}))
    old = daemon.post("/api/v1/pipelines/p/run", {})["id"]
    wait_for(lambda: step_of(daemon.run(old), "a")["status"] == "running")
    daemon.put("p.yaml", pipeline("p", script('while [ ! -e "$GATE" ]; do sleep 0.02; done; echo 10', "a", **wait),
                                  script("echo 20", "c", needs=["a"]), outputs={"c": "$.steps.c.output"}))
    new = daemon.post("/api/v1/pipelines/p/run", {})["id"]
    wait_for(lambda: step_of(daemon.run(new), "a")["status"] == "running")
    (daemon.manifests / "p.yaml").unlink()
    wait_for(lambda: daemon.http("GET", "/api/v1/pipelines/p").status == 404)
    gate.touch()
    assert finished(daemon, old)["outputs"] == {"b": 2}
    assert finished(daemon, new)["outputs"] == {"c": 20}


def test_what_a_step_is_told(daemon: Daemon) -> None:
    daemon.put("p.yaml", pipeline("p", script("env"), outputs={}))
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    id = daemon.http("POST", "/api/v1/pipelines/p/run", {}, headers={"traceparent": trace}).ok()["id"]
    done = finished(daemon, id)
    env = dict(x.split("=", 1) for x in printed(daemon, done).decode().splitlines() if "=" in x)
    assert env["TRACEPARENT"].split("-")[1] == trace.split("-")[1]
    assert env["TRIGGERD_RUN_ID"] == id and env["TRIGGERD_IDEMPOTENCY_KEY"] == f"{id}/s"
    assert env["TRIGGERD_PIPELINE_ID"] == "p" and env["TRIGGERD_STEP_ID"] == "s" and env["TRIGGERD_ATTEMPT"] == "1"
    assert env["TRIGGERD_SOCKET"] == str(daemon.socket)


# ---- data is never a command ----

EVIL = ["$(touch HIT)", "`touch HIT`", "'; touch HIT; '", '"; touch HIT; "', "\ntouch HIT\n", "; touch HIT #", "| touch HIT",
        "&& touch HIT", "${IFS}touch${IFS}HIT", "$((`touch HIT`))", "a b\tc", "*", "~", "-rf", "--help", "\\", "%s%n", "\x1b]0;x\x07",
        "{{ $.inputs.other }}", "${env:HOME}", "${file:/etc/passwd}", "\u2028\u202e\U0001f41a", "=x", "é\u0301"]


def test_data_is_never_a_command(daemon: Daemon, tmp_path: Path) -> None:
    """Every place where data meets a command: argv, INPUT_ variables, env, cwd, standard input, names of inputs."""
    hit = tmp_path / "HIT"
    other = tmp_path / "other"
    other.mkdir()
    show = 'printf "%s\\0" "$INPUT_X" "$Y"; pwd; cat'
    daemon.put("p.yaml", pipeline(
        "p", script(show, "script", env={"Y": "{{ $.inputs.x }}"}, cwd="{{ $.inputs.dir }}"),
        command("/usr/bin/printf", "%s\\0", "{{ $.inputs.x }}", "<{{ $.inputs.x }}>", id="argv"),
        command("{{ $.inputs.program }}", "{{ $.inputs.x }}", id="program", env={"Y": "{{ $.inputs.x }}"}), outputs={}))
    for n, text in enumerate(EVIL):
        bad = text.replace("HIT", str(hit))
        name = bad.replace("/", "_").replace("\n", " ")
        dir = other / f"{n} {name}"
        dir.mkdir()
        inputs = {"x": bad, "dir": str(dir), "program": "/bin/echo", "other": "expanded", bad: 1, "PATH": "/nowhere",
                  "x]; touch": 2, "LD_PRELOAD": "/nowhere.so"}
        done = finished(daemon, daemon.post("/api/v1/pipelines/p/run", {"inputs": inputs})["id"])
        assert done["status"] == "completed", (bad, done["error_message"])
        variable, env, rest = printed(daemon, done, "script").split(b"\0", 2)
        assert variable.decode() == env.decode() == bad
        cwd, stdin = rest.decode().split("\n", 1)
        assert cwd == str(dir) and json.loads(stdin) == inputs
        assert printed(daemon, done, "argv").decode().split("\0")[:2] == [bad, f"<{bad}>"]
        assert not hit.exists() and not list(Path(daemon.data).rglob("HIT")), bad
    with_nul = daemon.http("POST", "/api/v1/pipelines/p/run", body=b'{"inputs": {"x": "a\\u0000b"}}')
    assert with_nul.status == 400


def test_a_program_named_by_data_is_no_command_line(daemon: Daemon) -> None:
    for text in ("/bin/echo hit", "echo;id", "", "-c"):
        done = run(daemon, command("{{ $.inputs.x }}", "id"), inputs={"x": text}, outputs={})
        assert done["status"] == "failed" and step_of(done)["exit_code"] is None, text


# ---- sandbox: strict ----


SANDBOX = pytest.mark.skipif(not sandbox_works(), reason="bubblewrap does not work here")


@SANDBOX
def test_a_sandbox(daemon: Daemon) -> None:
    """No network, nothing can be written to but what is named and /tmp, which is its own."""
    out, shut = daemon.data / "out", Path("/var/tmp") / f"triggerd-test-{os.getpid()}"
    out.mkdir()
    outside = Path(f"/tmp/triggerd-test-outside-{os.getpid()}")
    outside.write_text("x")
    try:
        done = run(daemon, script(f"""
            test ! -e {outside}; echo mine > /tmp/mine; cat /tmp/mine
            echo kept > {out}/file
            for p in /etc/x /usr/x {shut}; do
                if (echo x > "$p") 2>/dev/null; then echo "could write $p"; fi
            done
            echo x > {daemon.data}/x  # in the /tmp of its own
            grep -v lo: /proc/net/dev | tail -n +3 | wc -l
            echo "procs $(ls /proc | grep -c '^[0-9]')"
            grep -E '^(CapEff|CapBnd|NoNewPrivs):' /proc/self/status
            echo "$INPUT_K"; cat""", sandbox="strict", writable=[str(out)]), inputs={"k": "v w"}, outputs={})
        assert done["status"] == "completed", done["error_message"]
        lines = printed(daemon, done).decode().splitlines()
        assert lines[:2] == ["mine", "0"]
        assert int(lines[2].split()[1]) < 8, "sees only its own processes"
        assert lines[3:6] == ["CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1"]
        assert lines[6] == "v w" and json.loads(lines[7]) == {"k": "v w"}
        assert (out / "file").read_text() == "kept\n"
        assert not Path("/tmp/mine").exists() and not shut.exists() and not (daemon.data / "x").exists()
    finally:
        outside.unlink()


@SANDBOX
def test_a_sandbox_has_no_network(daemon: Daemon) -> None:
    """Not by address, not by name, and not through a socket of a service: triggerd's own would lead out of it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        try_it = (f"import socket, sys\n"
                  f"def tried(family, where):\n"
                  f"    s = socket.socket(family)\n"
                  f"    try: s.connect(where); return 'connected'\n"
                  f"    except OSError as e: return type(e).__name__\n"
                  f"print(tried(socket.AF_INET, ('127.0.0.1', {server.getsockname()[1]})))\n"
                  f"print(tried(socket.AF_UNIX, {str(daemon.socket)!r}))\n")
        free = run(daemon, command("python3", "-c", try_it), outputs={})
        assert printed(daemon, free) == b"connected\nconnected\n"
        for writable in ([], [str(daemon.socket.parent)]):
            done = run(daemon, command("python3", "-c", try_it, sandbox="strict", writable=writable), outputs={})
            assert done["status"] == "completed", done["error_message"]
            assert b"connected" not in printed(daemon, done)


@SANDBOX
def test_a_sandbox_sees_its_cwd_and_program(daemon: Daemon) -> None:
    """Also where they lie below a /tmp that is otherwise empty inside; read-only all the same."""
    here = Path(f"/tmp/triggerd-test-cwd-{os.getpid()}")
    here.mkdir()
    try:
        tool = program(here / "tool", '#!/bin/sh\npwd; touch x 2>/dev/null || echo "read-only"\n')
        for argv in ([tool], ["./tool"]):
            done = run(daemon, command(*argv, sandbox="strict", cwd=str(here)), outputs={})
            assert printed(daemon, done).decode() == f"{here}\nread-only\n", done["error_message"]
        done = run(daemon, command(tool, sandbox="strict", cwd=str(here), writable=[str(here)]), outputs={})
        assert printed(daemon, done).decode() == f"{here}\n" and (here / "x").exists()
    finally:
        shutil.rmtree(here)


@SANDBOX
def test_how_a_step_in_a_sandbox_ends(daemon: Daemon) -> None:
    done = run(daemon, script("echo words >&2; exit 7", sandbox="strict"))
    assert step_of(done)["exit_code"] == 7 and "words" in done["error_message"]
    done = run(daemon, script("kill -SEGV $$", sandbox="strict"))
    assert done["status"] == "failed" and "SEGV" in done["error_message"], done["error_message"]
    done = run(daemon, command("/nowhere/program", sandbox="strict"))
    assert "/nowhere/program" in done["error_message"] and "no such file" in done["error_message"].lower()
    done = run(daemon, script("true", sandbox="strict", writable=["/nowhere/there"]))
    assert done["status"] == "failed" and "/nowhere/there" in done["error_message"]
    done = run(daemon, script("exec sleep 300", sandbox="strict", timeout_seconds=0.5))
    assert done["status"] == "timed_out"
    wait_for(lambda: not daemon.children())


@SANDBOX
def test_a_step_in_a_sandbox_has_time_to_end(daemon: Daemon) -> None:
    """SIGTERM reaches the program and not what watches over it."""
    said = daemon.data / "said"
    daemon.put("p.yaml", pipeline("p", script(
        f"trap 'sleep 0.3; echo bye > {said}; exit 3' TERM; echo up; while :; do sleep 0.05; done",
        sandbox="strict", writable=[str(daemon.data)]), outputs={}))
    id = daemon.post("/api/v1/pipelines/p/run", {})["id"]
    wait_for(lambda: daemon.http("GET", f"/api/v1/runs/{id}/steps/s/stdout").body == b"up\n")
    daemon.post(f"/api/v1/runs/{id}/cancel")
    assert finished(daemon, id)["status"] == "cancelled"
    assert said.read_text() == "bye\n"
    wait_for(lambda: not daemon.children())


@SANDBOX
def test_what_forks_away_in_a_sandbox_ends_with_it(daemon: Daemon) -> None:
    done = run(daemon, script("setsid sh -c 'trap \"\" TERM; (env -i sleep 300 &) ; sleep 300' >/dev/null 2>&1 & echo 1",
                              sandbox="strict"))
    assert done["outputs"]["out"] == 1
    wait_for(lambda: not daemon.children())


@SANDBOX
@pytest.mark.parametrize("end", ["kill", "drain"])
def test_a_sandbox_and_the_end_of_the_daemon(make_daemon: Any, tmp_path: Path, end: str) -> None:
    """Nothing in it outlives the daemon, however that ends; its run goes on afterwards, in a sandbox again."""
    config = tmp_path / "triggerd.yaml"
    config.write_text("shutdown_grace_seconds: 0.1\n")
    d: Daemon = make_daemon(args=("--config", str(config))).start()
    d.put("p.yaml", pipeline("p", script('test "$TRIGGERD_ATTEMPT" = 1 || exit 0; echo up; exec sleep 300',
                                         sandbox="strict"), outputs={}))
    id = d.post("/api/v1/pipelines/p/run", {})["id"]
    wait_for(lambda: d.http("GET", f"/api/v1/runs/{id}/steps/s/stdout").body == b"up\n")
    assert len(d.children()) >= 2
    if end == "kill":
        d.kill9()
        wait_for(lambda: not d.children())
    else:
        d.stop()
        assert not d.children()
    d.start()
    assert finished(d, id)["attempt"] == 2


@pytest.mark.parametrize("bwrap, reason", [(None, "not installed"), ("#!/bin/sh\necho 'no namespaces' >&2\nexit 1\n", "no namespaces"),
                                           ("#!/bin/sh\nkill -9 $$\n", "SIGKILL")])
def test_without_a_sandbox_a_pipeline_is_refused(make_daemon: Any, tmp_path: Path, bwrap: str | None, reason: str) -> None:
    """Never run without: not a single step, whatever starts it; it says why; other pipelines run."""
    bin = tmp_path / "bin"
    bin.mkdir()
    if bwrap:
        program(bin / "bwrap", bwrap)
    d: Daemon = make_daemon(env={"PATH": str(bin)}).start()
    hit = d.data / "hit"
    first = script(f"echo x >> {hit}", "first")
    for _ in range(2):
        done = run(d, first, script(f"echo x >> {hit}", "s", needs=["first"], sandbox="strict"), outputs={})
        assert done["status"] == "failed" and done["error_message"].startswith('step "s": sandbox: strict is refused: ')
        assert reason in done["error_message"], done["error_message"]
    d.put("q.yaml", pipeline("q", first, script("true", sandbox="strict", needs=["first"]), outputs={}))

    def told() -> Any:
        return [c for c in d.get("/api/v1/pipelines/q")["conditions"] if c["type"] == "Runnable"]

    condition = wait_for(told)[0]
    assert condition["status"] == "False" and reason in condition["message"]
    assert reason in d.output(), "the log tells"
    d.put("q.yaml", pipeline("q", script("true"), outputs={}))
    assert not told()
    assert finished(d, d.post("/api/v1/pipelines/q/run", {})["id"])["status"] == "completed"
    assert hit.exists() is False or hit.read_text() == "x\n", "at most the one that began before it was known"


def test_writable_is_of_a_sandbox(daemon: Daemon) -> None:
    for more, word in (({"writable": ["/x"]}, "sandbox"), ({"sandbox": "strict", "writable": ["x"]}, "absolute"),
                       ({"sandbox": "loose"}, "strict")):
        answer = daemon.http("POST", "/api/v1/pipelines", pipeline("p", script("true", **more)))
        assert answer.status == 422 and word in answer.body.decode(), more
