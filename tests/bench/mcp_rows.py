"""What bench.py measures of MCP servers: notifications that become events, calls of tools by steps, and many that are
idle."""
from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "system"))
from harness import Daemon, custom, documents, pipeline, wait_for  # noqa: E402
from mcp_http import HttpServer  # noqa: E402

if TYPE_CHECKING:
    from bench import Bench, Figures

PEERS = ROOT / "build" / "mcp-peers"
PYTHON = PEERS / "venv" / "bin" / "python"
NOTIFICATIONS = 200000
BYTES = 300  # of an emit and of a notification
CALLS, STEPS = 20000, 8  # steps of a run, all at once
SDK_CALLS = 3000
AT_ONCE = 64
IDLE = 50


def server(bench: Bench, name: str) -> dict[str, Any]:
    return {"kind": "mcp_server", "name": name, "command": bench.tool("mcp_server")}


def listener(id: str, name: str) -> dict[str, Any]:
    return {"kind": "trigger", "id": id, "name": id, "pipeline_id": "p", "trigger_type": "mcp_event",
            "config": {"server_name": name, "event_type": "row_inserted"}}


def connected(d: Daemon, count: int) -> None:
    def look() -> bool:
        return sum(s["state"] == "connected" for s in d.get("/api/v1/mcp_servers")["mcp_servers"]) == count

    wait_for(look, 60, f"{count} connected")


# ---- notifications ----


def notifications(bench: Bench) -> None:
    """Beside emits over the unix socket. A paused trigger records its events and runs nothing."""
    nothing = pipeline("p", {"id": "s", "exec": {"command": ["/bin/true"]}})

    def body() -> str:
        def event(pad: str) -> str:
            return json.dumps({"endpoint": "bench", "data": {"n": "%" * 10, "pad": pad}})
        return event("x" * (BYTES - len(event(""))))

    def emits() -> Figures:
        with bench.fresh("floor") as dir, bench.daemon(dir, {"m.yaml": documents(nothing, custom("t", "p", "bench"))}) as d:
            d.post("/api/v1/triggers/t/pause")
            spent = bench.processor(d)
            figures = bench.load("--unix", str(d.socket), "-c", str(AT_ONCE), "-s", str(bench.seconds), "-p",
                                 "/api/v1/triggers/emit", "-b", body())
            spent = bench.processor(d) - spent
            assert bench.total(d) == figures["requests"]
            return {"rate": figures["rate"], "us": spent * 1e6 / figures["requests"]}

    def sent() -> Figures:
        files = {"m.yaml": documents(nothing, server(bench, "bench"), listener("t", "bench"))}
        with bench.fresh("daemon") as dir, bench.daemon(dir, files) as d:
            connected(d, 1)
            d.post("/api/v1/triggers/t/pause")
            begin, spent = time.monotonic(), bench.processor(d)
            d.post("/api/v1/mcp_servers/bench/call", {"tool": "flood", "arguments": {"count": NOTIFICATIONS, "bytes": BYTES}})
            wait_for(lambda: bench.total(d) >= NOTIFICATIONS, 300, "all recorded")
            seconds, spent = time.monotonic() - begin, bench.processor(d) - spent
            total = bench.total(d)
            assert total == NOTIFICATIONS, f"{NOTIFICATIONS} sent, {total} recorded"
            last = d.get("/api/v1/triggers/events?page_size=1")["events"][0]
            assert last["event_data"]["n"] == NOTIFICATIONS - 1, last
            return {"rate": NOTIFICATIONS / seconds, "us": spent * 1e6 / NOTIFICATIONS}

    if not bench.has_daemon:
        return
    bench.measure(emits, sent, [
        (f"MCP: notifications recorded, {NOTIFICATIONS}, beside emits", "1/s", "rate", 1, "≥0.5"),
        ("  … the daemon's processor time for each", "us", "us", 1, "")])


# ---- calls ----


def calls(bench: Bench) -> None:
    """Runs of `mcp` steps, each recorded, beside the Python SDK's client with as many calls at once of the same tool. What a
    run with one step costs is mostly its emit and the run around the step."""
    if not (PEERS / "installed-1").exists():
        print("MCP: without the Python SDK (tests/install-mcp-peers.sh), no figure of calls", flush=True)
        return
    arguments = {"text": "said " * 20}

    def sdk() -> Figures:
        done = subprocess.run([str(PYTHON), str(Path(__file__).with_name("mcp_client.py")), str(SDK_CALLS), str(AT_ONCE), "echo",
                               json.dumps(arguments), bench.tool("mcp_server")], capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"mcp_client.py: {done.stderr[-2000:]}")
        rate = json.loads(done.stdout)["rate"]
        return {"rate": rate, "steps": rate}

    step = {"mcp": {"server": "bench", "tool": "echo", "arguments": arguments}}
    bench.measure(sdk, lambda: bench.runs(step, CALLS // STEPS, arguments, server(bench, "bench"), steps=STEPS), [
        (f"MCP: calls by mcp steps, {STEPS} a run, beside the Python SDK's", "1/s", "steps", 1, "≥3")])
    bench.measure(sdk, lambda: bench.runs(step, CALLS, arguments, server(bench, "bench")), [
        ("  … runs of one step, each emitted", "1/s", "rate", 1, "")])


# ---- idle ----


def idle(bench: Bench) -> None:
    def woken(way: str, servers: list[dict[str, Any]]) -> None:
        files = {"m.yaml": documents(pipeline("p", {"id": "s", "exec": {"command": ["/bin/true"]}}), *servers,
                                     *(listener(f"t{i}", s["name"]) for i, s in enumerate(servers)))}
        with bench.fresh("daemon") as dir, bench.daemon(dir, files) as d:
            connected(d, IDLE)
            time.sleep(8)  # what the start needs is over
            found = bench.woken(d, 10)
            connected(d, IDLE)
        bench.figure(f"MCP: wake-ups in 10 s, {IDLE} idle servers over {way}", "", found, "≤0")

    if not bench.has_daemon:
        return
    woken("stdio", [server(bench, f"s{i}") for i in range(IDLE)])
    with closing(HttpServer()) as http:
        woken("HTTP", [{"kind": "mcp_server", "name": f"s{i}", "url": http.url} for i in range(IDLE)])
