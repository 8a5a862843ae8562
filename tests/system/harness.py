"""A real daemon in a directory of its own, and what tests ask of it.

Standard library only, so that the benchmarks use it as well. The programs are taken from TRIGGERD_BUILD, else from
build/asan or build/release, whichever is there.
"""
from __future__ import annotations

import http.client
import json
import os
import pwd
import random
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Any, ClassVar, TypeVar

ROOT = Path(__file__).resolve().parents[2]
FINAL = ("completed", "failed", "skipped", "cancelled")
SANITIZER = re.compile(r"ERROR: \w+Sanitizer|WARNING: ThreadSanitizer|runtime error:|: Assertion .* failed")
# Under a sanitizer and on a busy machine everything takes longer; bounds of the contract are tested with their own numbers.
PATIENCE = float(os.environ.get("TRIGGERD_TEST_PATIENCE", "60"))

T = TypeVar("T")


def build_dir() -> Path:
    if "TRIGGERD_BUILD" in os.environ:
        return Path(os.environ["TRIGGERD_BUILD"]).resolve()
    for name in ("asan", "release"):
        if (ROOT / "build" / name / "triggerd").exists():
            return ROOT / "build" / name
    return ROOT / "build" / "asan"


def wait_for(predicate: Callable[[], T], timeout: float = PATIENCE, what: str = "") -> T:
    """The first truthy value of `predicate`; AssertionError with the last value after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    pause = 0.002
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout:g} s: {what or 'condition'}; last seen: {value!r}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)


def never(predicate: Callable[[], Any], seconds: float, what: str = "") -> None:
    """`predicate` stays falsy for so long: for what must not happen, where nothing can be waited for."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = predicate()
        assert not value, f"happened: {what or value!r}"
        time.sleep(0.02)


def free_port() -> int:
    """Of those that the kernel gives to no outgoing connection: none takes it before its server listens."""
    while True:
        port = random.randint(10000, 32000)
        with socket.socket() as s, suppress(OSError):
            s.bind(("127.0.0.1", port))
            return port


def write_atomic(path: Path, data: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_bytes(data.encode() if isinstance(data, str) else data)
    temporary.rename(path)


def documents(*docs: dict[str, Any]) -> str:
    """Several resources as one YAML file (JSON is YAML)."""
    return "".join(f"---\n{json.dumps(d, indent=1)}\n" for d in docs)


# ---- manifests that tests start from ----


def custom(id: str, pipeline: str = "p", endpoint: str | None = None, **more: Any) -> dict[str, Any]:
    config = {"endpoint": endpoint or id, **more.pop("config", {})}
    return {"kind": "trigger", "id": id, "name": id, "pipeline_id": pipeline, "trigger_type": "custom", "config": config,
            **more}


def file_watch(id: str, path: str | Path, pipeline: str = "p", config: dict[str, Any] | None = None,
               **more: Any) -> dict[str, Any]:
    full = {"path": str(path), "events": ["created", "modified", "deleted", "moved"], "debounce_seconds": 0.1,
            **(config or {})}
    return {"kind": "trigger", "id": id, "name": id, "pipeline_id": pipeline, "trigger_type": "file_watch",
            "config": full, "max_concurrent": 1, **more}


def pipeline(id: str, *steps: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A pipeline whose output `out` is that of its last step, unless `outputs` are given."""
    more.setdefault("outputs", {"out": f"$.steps.{steps[-1]['id']}.output"})
    return {"kind": "pipeline", "id": id, "steps": list(steps), **more}


def script(text: str, id: str = "s", **more: Any) -> dict[str, Any]:
    """An exec step that runs `text` by /bin/sh -eu; what belongs to exec goes there, the rest beside it."""
    inner = {k: more.pop(k) for k in ("env", "cwd", "limits", "user", "sandbox", "writable", "max_output_bytes") if k in more}
    return {"id": id, "exec": {"script": text, **inner}, **more}


# The run's output `out` is its inputs.
ECHO = pipeline("p", script("exec cat"))


@dataclass
class Gate:
    """Holds scripts back: `step()` waits for the file, `open()` makes it. Each start and end of a script is told in `log`,
    a line each: "start KEY ATTEMPT PID" and "end KEY ATTEMPT", where KEY is the input `key` (or -)."""
    dir: Path

    @property
    def file(self) -> Path:
        return self.dir / "gate"

    @property
    def log(self) -> Path:
        return self.dir / "gate.log"

    def step(self, id: str = "s", then: str = "", **more: Any) -> dict[str, Any]:
        text = ('echo "start ${INPUT_KEY:--} $TRIGGERD_ATTEMPT $$" >> "$LOG"\n'
                'while [ ! -e "$GATE" ]; do sleep 0.02; done\n'
                'echo "end ${INPUT_KEY:--} $TRIGGERD_ATTEMPT" >> "$LOG"\n' + then)
        return script(text, id, env={"GATE": str(self.file), "LOG": str(self.log)}, **more)

    def open(self) -> None:
        self.file.touch()

    def shut(self) -> None:
        self.file.unlink(missing_ok=True)

    def lines(self, word: str | None = None) -> list[list[str]]:
        if not self.log.exists():
            return []
        lines = [line.split() for line in self.log.read_text().splitlines()]
        return [line for line in lines if word is None or line[0] == word]

    def keys(self, word: str) -> list[str]:
        return [line[1] for line in self.lines(word)]


# ---- HTTP ----


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        try:
            self.sock.connect(self._path)
        except BaseException:
            self.sock.close()
            raise


@dataclass
class Answer:
    status: int
    headers: Message
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    def ok(self) -> Any:
        """The JSON of an answer that must be 2xx (None if there is no body)."""
        assert 200 <= self.status < 300, f"{self.status}: {self.body.decode(errors='replace')}"
        return self.json() if self.body else None

    def problem(self, status: int) -> Any:
        """The problem document of an answer that must have this status."""
        assert self.status == status, f"{self.status} instead of {status}: {self.body.decode(errors='replace')}"
        assert self.headers.get_content_type() == "application/problem+json"
        problem = self.json()
        assert problem["detail"], problem
        assert problem.get("status", status) == status
        return problem


# ---- processes ----


@dataclass
class Process:
    pid: int
    env: dict[str, str]


def processes() -> Iterator[Process]:
    """Every process of this machine with an environment that can be read."""
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        with suppress(OSError):
            raw = Path(f"/proc/{entry}/environ").read_bytes()
            pairs = (x.split(b"=", 1) for x in raw.split(b"\0") if b"=" in x)
            env = {k.decode(errors="replace"): v.decode(errors="replace") for k, v in pairs}
            if alive(entry):
                yield Process(int(entry), env)


def alive(pid: int | str) -> bool:
    """Does it run? A zombie that nobody has reaped does not."""
    with suppress(OSError):
        return b"\nState:\tZ" not in Path(f"/proc/{pid}/status").read_bytes()
    return False


# ---- the daemon ----


class Daemon:
    """triggerd with its manifests, state and socket below `root`. `start()` returns when /readyz says 200."""

    _told: ClassVar[dict[Path, Any]] = {}  # what /openapi.json of a build says

    def __init__(self, root: Path, *, build: Path | None = None, listen: bool = False, args: tuple[str, ...] = (),
                 env: dict[str, str] | None = None, user: str | None = None) -> None:
        self.root = Path(root)
        self.user = user  # None: who runs the tests
        self.build = build or build_dir()
        self.manifests = self.root / "manifests"
        self.state = self.root / "state"
        self.data = self.root / "data"  # for files of the test
        self.log = self.root / "triggerd.log"
        self.manifests.mkdir(parents=True, exist_ok=True)
        self.data.mkdir(exist_ok=True)
        # A socket's path has 107 bytes at most.
        self._short = Path(tempfile.mkdtemp(prefix="trg"))
        self.socket = self._short / "sock"
        self.port = free_port() if listen else 0
        self.args = list(args)
        self.env = dict(env or {})
        self.process: subprocess.Popen[bytes] | None = None
        self.hangs = False  # a test may make a thread of it hang for good
        self._node_id: str | None = None

    # -- life --

    def command(self) -> list[str]:
        listen = ["--listen", f"127.0.0.1:{self.port}"] if self.port else []
        return [str(self.build / "triggerd"), "--manifests", str(self.manifests), "--state", str(self.state), "--socket",
                str(self.socket), *listen, *self.args]

    def identity(self) -> dict[str, Any]:
        if self.user is None:
            return {}
        who = pwd.getpwnam(self.user)
        return {"user": who.pw_uid, "group": who.pw_gid, "extra_groups": []}

    def spawn(self) -> subprocess.Popen[bytes]:
        """Start it without waiting for anything."""
        assert self.process is None or self.process.poll() is not None
        env = {**os.environ, "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "detect_leaks=1"), **self.env}
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env,
                                            start_new_session=True, **self.identity())
        return self.process

    @property
    def sanitized(self) -> bool:
        """Its memory and speed are those of a sanitizer's."""
        return b"__asan_init" in (self.build / "triggerd").read_bytes()

    def memory(self, name: str = "VmRSS") -> int:
        """KiB, as /proc/PID/status has them."""
        found = re.search(rf"^{name}:\s+(\d+) kB", Path(f"/proc/{self.pid}/status").read_text(), re.M)
        assert found, name
        return int(found[1])

    def ready(self) -> bool:
        with suppress(OSError, http.client.HTTPException):
            return self.http("GET", "/readyz").status == 200
        return False

    def start(self, timeout: float = PATIENCE) -> Daemon:
        process = self.spawn()

        def up() -> bool:
            assert process.poll() is None, f"ended with {process.returncode}:\n{self.output()}"
            return self.ready()

        wait_for(up, timeout, "ready")
        return self

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def output(self) -> str:
        """What it wrote: its log, and a sanitizer's report."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def check_output(self) -> None:
        found = SANITIZER.search(self.output())
        assert self.hangs or "is left behind" not in self.output(), self.output()[-2000:]
        assert not found, self.output()[max(found.start() - 200, 0):][:8000] if found else ""

    def signal(self, number: int = signal.SIGTERM) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def wait(self, timeout: float = 45) -> int:
        """Wait for its end; gives the exit code."""
        assert self.process is not None
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGABRT)
            self.process.wait()
            raise AssertionError(f"did not end within {timeout:g} s:\n{self.output()[-4000:]}") from None

    def stop(self, timeout: float = 45) -> None:
        """Drain: must exit 0, clean in the eyes of the sanitizers, and leave no process behind."""
        if self.process is None or self.process.poll() is not None:
            return
        node = self.node_id()
        self.signal(signal.SIGTERM)
        code = self.wait(timeout)
        self.check_output()
        assert code == 0, f"exit {code}:\n{self.output()[-4000:]}"
        wait_for(lambda: not self._children(node), 10, "no process left behind")

    def kill9(self) -> None:
        assert self.process is not None
        self.node_id()
        self.process.kill()
        self.killed_at = time.time()
        self.process.wait()

    def kill_tree(self) -> None:
        """kill -9 of the daemon and of all that its steps started, at once."""
        node = self.node_id()
        self.signal(signal.SIGSTOP)
        children = self._children(node)
        self.kill9()
        for child in children:
            with suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGKILL)

    def restart(self) -> None:
        self.stop()
        self.start()

    def close(self) -> None:
        """The end of a test: drain if it runs, look at what it left."""
        try:
            if self.process is not None and self.process.poll() is None:
                self.stop()
            self.check_output()
        finally:
            if self.process is not None and self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            self.kill_children()
            shutil.rmtree(self._short, ignore_errors=True)

    # -- its processes --

    def node_id(self) -> str:
        """The id made once for the state directory, by which its processes are known; "" before there is one."""
        database = self.state / "triggerd.db"
        if self._node_id is None and database.exists():
            with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=10)) as db:
                self._node_id = db.execute("SELECT value FROM meta WHERE key = 'node_id'").fetchone()[0]
        return self._node_id or ""

    def _children(self, node: str) -> list[Process]:
        return [p for p in processes() if node and p.env.get("TRIGGERD_NODE_ID") == node]

    def children(self) -> list[Process]:
        """Running processes of its steps, of earlier lives too."""
        return self._children(self.node_id())

    def kill_children(self) -> None:
        for child in self._children(self._node_id or ""):
            with suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGKILL)

    # -- requests --

    def http(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None, *,
             tcp: bool = False, timeout: float = 60) -> Answer:
        """One request. A body that is not bytes or str is sent as JSON; Content-Type is application/json unless given."""
        connection = (http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout) if tcp else
                      UnixConnection(self.socket, timeout))
        full = dict(headers or {})
        if body is not None:
            if not isinstance(body, (bytes, str)):
                body = json.dumps(body)
            if isinstance(body, str):
                body = body.encode()
            full.setdefault("Content-Type", "application/json")
        try:
            connection.request(method, path, body, full)
            answer = connection.getresponse()
            found = Answer(answer.status, answer.headers, answer.read())
        finally:
            connection.close()
        self._check_told(method, path, found)
        return found

    def _check_told(self, method: str, path: str, answer: Answer) -> None:
        """Every answer is one that /openapi.json tells of (which is the same for every daemon of a build)."""
        try:
            import openapi
        except ImportError:  # in the benchmarks
            return
        if openapi.jsonschema is None or path == "/openapi.json":
            return
        if self.build not in Daemon._told:
            with suppress(OSError, http.client.HTTPException):
                told = self.http("GET", "/openapi.json")
                if told.status == 200:
                    Daemon._told[self.build] = openapi.Description(told.json())
        if self.build in Daemon._told:
            Daemon._told[self.build].check(method, path, answer.status, answer.headers, answer.body)

    def get(self, path: str) -> Any:
        return self.http("GET", path).ok()

    def post(self, path: str, body: Any = None, **headers: str) -> Any:
        return self.http("POST", path, body, {k.replace("_", "-"): v for k, v in headers.items()}).ok()

    def ctl(self, *args: str | Path, input: str | None = None, env: dict[str, str] | None = None,
            timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """triggerctl, told of the socket by TRIGGERD_SOCKET."""
        full = {**os.environ, "TRIGGERD_SOCKET": str(self.socket), **(env or {})}
        done = subprocess.run([str(self.build / "triggerctl"), *map(str, args)], input=input, capture_output=True,
                              text=True, env=full, timeout=timeout, cwd=self.root)
        assert not SANITIZER.search(done.stderr), done.stderr
        return done

    # -- manifests --

    def write(self, name: str, *docs: dict[str, Any] | str | bytes) -> Path:
        """Write a manifest file by rename: text as it is, or resources."""
        path = self.manifests / name
        if len(docs) == 1 and isinstance(docs[0], (str, bytes)):
            write_atomic(path, docs[0])
        else:
            write_atomic(path, documents(*docs))  # type: ignore[arg-type]
        return path

    def put(self, name: str, *docs: dict[str, Any]) -> Path:
        """Write resources and wait until they are in force."""
        before = {(d.get("kind", "trigger"), d["id"]): self.generation(d) for d in docs}
        shown = {(d.get("kind", "trigger"), d["id"]): self.resource(d) for d in docs}
        path = self.write(name, *docs)
        for d in docs:
            key = (d.get("kind", "trigger"), d["id"])
            if shown[key] is not None and all(shown[key].get(k) == v for k, v in d.items() if k != "kind"):
                continue  # nothing of its own changed
            wait_for(lambda d=d, key=key: self.generation(d) > before[key], what=f"{key} in force; {self.errors()}")
        return path

    def resource(self, doc: dict[str, Any]) -> dict[str, Any] | None:
        kind = "pipelines" if doc.get("kind") == "pipeline" else "triggers"
        answer = self.http("GET", f"/api/v1/{kind}/{doc['id']}")
        return answer.json() if answer.status == 200 else None

    def generation(self, doc: dict[str, Any]) -> int:
        shown = self.resource(doc)
        return shown["observed_generation"] if shown else 0

    def errors(self) -> list[str]:
        """Every manifest error as LINE:COL: path: message, with the file's name before it."""
        found = []
        for manifest in self.get("/api/v1/manifests")["manifests"]:
            for e in manifest["errors"]:
                place = f"{Path(manifest['file']).name}:{e['line']}:{e['column']}"
                found.append(": ".join(x for x in (place, e.get("path"), e["message"]) if x))
        return found

    # -- triggers and events --

    def trigger(self, id: str) -> dict[str, Any]:
        return self.get(f"/api/v1/triggers/{id}")

    def exists(self, id: str) -> bool:
        return self.http("GET", f"/api/v1/triggers/{id}").status == 200

    def condition(self, id: str, type: str) -> dict[str, Any]:
        return next((c for c in self.trigger(id)["conditions"] if c["type"] == type), {})

    def source_log(self, id: str) -> list[str]:
        """The log's lines about changes of a trigger's source."""
        return [line for line in self.output().splitlines() if f"trigger={id}" in line and "source " in line]

    def emit(self, endpoint: str, data: Any = None, **headers: str) -> Any:
        return self.post("/api/v1/triggers/emit", {"endpoint": endpoint, "data": {} if data is None else data}, **headers)

    def emit1(self, endpoint: str, data: Any = None, **headers: str) -> dict[str, Any]:
        """An emit that meets exactly one trigger; gives its event."""
        answer = self.emit(endpoint, data, **headers)
        assert len(answer["events"]) == 1, answer
        return answer["events"][0]

    def events(self, trigger: str | None = None, **filter: Any) -> list[dict[str, Any]]:
        """All events, oldest first, over all pages."""
        base = f"/api/v1/triggers/{trigger}/events" if trigger else "/api/v1/triggers/events"
        found: dict[str, dict[str, Any]] = {}
        page = 1
        while True:
            query = "&".join(f"{k}={v}" for k, v in {**filter, "page": page, "page_size": 100}.items())
            answer = self.get(f"{base}?{query}")
            found.update((e["id"], e) for e in answer["events"])
            if page * 100 >= answer["total"]:
                return list(reversed(found.values()))
            page += 1

    def event(self, id: str) -> dict[str, Any]:
        return self.get(f"/api/v1/triggers/events/{id}")

    def run(self, id: str) -> dict[str, Any]:
        return self.get(f"/api/v1/runs/{id}")

    def wait_event(self, id: str, status: str | tuple[str, ...] = FINAL, timeout: float = PATIENCE) -> dict[str, Any]:
        """Wait for a status; one that is final and not asked for fails at once."""
        wanted = (status,) if isinstance(status, str) else status

        def look() -> dict[str, Any] | None:
            event = self.event(id)
            if event["status"] in wanted:
                return event
            assert event["status"] not in FINAL, f"{event['status']} instead of {wanted}: {event}"
            return None

        found = wait_for(look, timeout, f"{id} {wanted}")
        assert found is not None
        return found

    def wait_events(self, count: int, trigger: str | None = None, timeout: float = PATIENCE,
                    **filter: Any) -> list[dict[str, Any]]:
        """Wait until there are `count` events (oldest first); more of them fail."""
        found = wait_for(lambda: (e := self.events(trigger, **filter)) and len(e) >= count and e, timeout,
                         f"{count} events {trigger or ''} {filter or ''}")
        assert len(found) == count, found
        return found

    def settle(self, trigger: str | None = None, timeout: float = PATIENCE) -> list[dict[str, Any]]:
        """Wait until every event is final; gives them, oldest first."""
        wait_for(lambda: all(e["status"] in FINAL for e in self.events(trigger)), timeout, "all events final")
        return self.events(trigger)

    def run_of(self, event: dict[str, Any]) -> dict[str, Any]:
        """The run of an event, which must be final."""
        return self.run(self.wait_event(event["id"])["run_id"])

    def fire(self, endpoint: str, data: Any = None) -> dict[str, Any]:
        """Emit, wait for the end, give the finished run."""
        return self.run_of(self.emit1(endpoint, data))

    def out(self, endpoint: str, data: Any = None) -> Any:
        """Emit, wait for completion, give the run's output `out`."""
        run = self.fire(endpoint, data)
        assert run["status"] == "completed", run
        return run["outputs"]["out"]

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric over the series that have these labels."""
        total = 0.0
        for line in self.http("GET", "/metrics").body.decode().splitlines():
            found = re.fullmatch(re.escape(name) + r"(?:\{(.*)\})? (\S+)", line)
            if found:
                have = dict(re.findall(r'(\w+)="([^"]*)"', found[1] or ""))
                if labels.items() <= have.items():
                    total += float(found[2])
        return total


def step_of(run: dict[str, Any], id: str = "s") -> dict[str, Any]:
    """A step of a run, as /api/v1/runs/{id} shows it."""
    return next(s for s in run["steps"] if s["id"] == id)


# ---- runs by hand ----


def run_steps(d: Daemon, *steps: dict[str, Any], inputs: Any = None, **more: Any) -> dict[str, Any]:
    """The finished run of a pipeline with these steps, started by hand."""
    d.put("p.yaml", pipeline("p", *steps, **more))
    started = d.post("/api/v1/pipelines/p/run", {"inputs": inputs or {}})
    return finished(d, started["id"])


def finished(d: Daemon, id: str) -> dict[str, Any]:
    return wait_for(lambda: (r := d.run(id))["status"] not in ("pending", "running") and r, what=f"{id} ended")


def printed(d: Daemon, run: dict[str, Any], step: str = "s", stream: str = "stdout") -> bytes:
    answer = d.http("GET", f"/api/v1/runs/{run['id']}/steps/{step}/{stream}")
    assert answer.status == 200
    return answer.body


@contextmanager
def delayed(pid: int, call: str, by: str) -> Iterator[None]:
    """A system call of all its threads takes so much longer meanwhile (`300ms`, `60s`)."""
    tracer = subprocess.Popen(["strace", "-f", "-qq", "-o", "/dev/null", "-p", str(pid), "-e", f"trace={call}", "-e",
                               f"inject={call}:delay_enter={by}"], stderr=subprocess.PIPE, text=True)
    try:
        wait_for(lambda: tracer.poll() is not None or all(
            "TracerPid:\t0\n" not in Path(f"/proc/{pid}/task/{t}/status").read_text()
            for t in os.listdir(f"/proc/{pid}/task")), what="traced")
        if tracer.poll() is not None:
            import pytest
            pytest.skip(f"strace: {tracer.communicate()[1]}")
        yield
    finally:
        tracer.terminate()
        tracer.wait()


def sandbox_works() -> bool:
    return shutil.which("bwrap") is not None and subprocess.run(
        ["bwrap", "--unshare-all", "--cap-drop", "ALL", "--ro-bind", "/", "/", "--proc", "/proc", "true"], capture_output=True,
        check=False).returncode == 0
