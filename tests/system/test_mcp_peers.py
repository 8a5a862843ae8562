"""MCP's own programs at the other end: the TypeScript "everything" server, a server of the Python SDK, and the
conformance suite with triggerctl as the client under test. tests/install-mcp-peers.sh brings them."""
from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import ECHO, ROOT, Daemon, build_dir, documents, finished, free_port, pipeline, wait_for
from test_mcp import connected, events, listener, run

PEERS = ROOT / "build" / "mcp-peers"
NODE = PEERS / "node_modules" / ".bin" / "node"
EVERYTHING = PEERS / "node_modules" / "@modelcontextprotocol" / "server-everything" / "dist" / "index.js"
CONFORMANCE = PEERS / "node_modules" / "@modelcontextprotocol" / "conformance" / "dist" / "index.js"
PYTHON = PEERS / "venv" / "bin" / "python"

pytestmark = pytest.mark.skipif(not (PEERS / "installed-1").exists(),
                                reason="tests/install-mcp-peers.sh has not brought MCP's own programs")

SDK = '''
import sys
from mcp.server.lowlevel import Server
import mcp.server.stdio, mcp.types as types, anyio
'''


@pytest.fixture(params=["stdio", "streamableHttp"])
def everything(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """The everything server as a manifest has it."""
    base = {"kind": "mcp_server", "name": "database"}
    if request.param == "stdio":
        yield {**base, "command": str(NODE), "args": [str(EVERYTHING), "stdio"]}
        return
    port = free_port()
    with (tmp_path / "everything.log").open("wb") as log:
        process = subprocess.Popen([NODE, EVERYTHING, "streamableHttp"], env={**os.environ, "PORT": str(port)}, stdout=log,
                                   stderr=log)
    try:
        wait_for(lambda: "listening" in (tmp_path / "everything.log").read_text(), what="everything listens")
        yield {**base, "url": f"http://127.0.0.1:{port}/mcp"}
    finally:
        process.kill()
        process.wait()


def put(daemon: Daemon, *docs: dict[str, Any]) -> None:
    done = daemon.ctl("apply", daemon.write("mcp.yaml", documents(*docs, ECHO)))
    assert done.returncode == 0, done.stdout + done.stderr


def step(id: str, tool: str, /, **arguments: Any) -> dict[str, Any]:
    return {"id": id, "mcp": {"server": "database", "tool": tool, "arguments": arguments}}


def test_everything(daemon: Daemon, everything: dict[str, Any]) -> None:
    everything["log_level"] = "debug"
    steps = [step("sum", "get-sum", a=2, b=3), step("structured", "get-structured-content", location="New York"),
             step("long", "trigger-long-running-operation", duration=1, steps=2), step("roots", "get-roots-list")]
    everything["roots"] = [{"uri": "file:///srv/data", "name": "data"}]
    put(daemon, everything, listener(event_type="*"),
        pipeline("t", *steps, outputs={s["id"]: f"$.steps.{s['id']}.output" for s in steps}),
        pipeline("log", step("s", "toggle-simulated-logging")))
    message = connected(daemon)["message"]
    assert "speaks MCP 2025-11-25" in message, message
    done = finished(daemon, run(daemon, "t"))
    assert done["status"] == "completed", done
    assert "5" in done["outputs"]["sum"]["text"]
    assert set(done["outputs"]["structured"]) >= {"temperature", "conditions", "humidity"}
    assert "2/2" in daemon.ctl("logs", done["id"], "--step", "long").stdout
    assert "file:///srv/data" in json.dumps(done["outputs"]["roots"])
    finished(daemon, run(daemon, "log"))
    wait_for(lambda: any(e["event_type"] == "mcp_message" for e in daemon.events("orders")), 40)
    shown = daemon.get("/api/v1/mcp_servers/database")
    assert shown["state"] == "connected" and "tools" in shown["capabilities"]
    assert "get-sum" in daemon.ctl("mcp", "tools", "database").stdout
    assert daemon.ctl("mcp", "call", "database", "echo", "--args", '{"message": "hi"}').stdout == "Echo: hi\n"
    assert daemon.ctl("mcp", "call", "database", "get-sum", "--args", '{"a": "no number"}').returncode == 1


def test_everything_updates_resources(daemon: Daemon, everything: dict[str, Any]) -> None:
    uri = "demo://resource/dynamic/text/1"
    everything["subscribe"] = [uri]
    put(daemon, everything, listener(event_type="resources/updated", config={"read": True}),
        pipeline("t", step("s", "toggle-subscriber-updates")))
    connected(daemon)
    assert finished(daemon, run(daemon, "t"))["status"] == "completed"
    event = wait_for(lambda: daemon.events("orders"), 40)[0]
    assert event["event_data"]["uri"] == uri and event["event_data"]["contents"][0]["uri"] == uri


@pytest.mark.parametrize("version", ["2024-11-05", "2025-11-25"])
def test_python_sdk(daemon: Daemon, tmp_path: Path, version: str) -> None:
    """Its FastMCP server, with a tool that logs a domain event and tells its progress."""
    script = tmp_path / "server.py"
    script.write_text((ROOT / "tests" / "system" / "mcp_sdk_server.py").read_text())
    put(daemon, {"kind": "mcp_server", "name": "database", "command": str(PYTHON), "args": [str(script), version]},
        listener(config={"filter": {"table": "orders", "status": "pending"}, "input_mapping": {"order_id": "$.id"}}),
        pipeline("t", step("s", "insert", table="orders", status="pending", id=7)))
    connected(daemon)
    done = finished(daemon, run(daemon, "t"))
    assert done["status"] == "completed", done
    assert done["outputs"]["out"] in ({"result": "inserted 7"}, {"text": "inserted 7"})
    [event] = events(daemon)
    assert event["event_type"] == "mcp_row_inserted" and event["resolved_inputs"]["order_id"] == 7


# What a client of ours does in each scenario; the others need what triggerd does not have.
SCENARIOS = {"initialize": ["tools", "URL"], "tools_call": ["call", "URL", "add_numbers", "--args", '{"a":5,"b":3}'],
             "sse-retry": ["call", "URL", "test_reconnection"]}
NOT_FOR_US = {"elicitation-sep1034-client-defaults": "elicitation is not offered: nobody is there to be asked",
              "auth/": "OAuth: tokens come from `headers` and references to secrets"}


def test_every_scenario_is_told_of() -> None:
    listed = subprocess.run([NODE, CONFORMANCE, "list", "--client"], capture_output=True, text=True, check=True).stdout
    names = re.findall(r"^  - (\S+)", listed, re.MULTILINE)
    assert len(names) >= 20
    for name in names:
        assert name in SCENARIOS or any(name.startswith(prefix) for prefix in NOT_FOR_US), name


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_conformance(tmp_path: Path, scenario: str) -> None:
    client = tmp_path / "client.sh"
    words = " ".join("\"$1\"" if w == "URL" else f"'{w}'" for w in SCENARIOS[scenario])
    client.write_text(f"#!/bin/sh\nexec '{build_dir() / 'triggerctl'}' mcp {words}\n")
    client.chmod(0o755)
    done = subprocess.run([NODE, CONFORMANCE, "client", "--command", client, "--scenario", scenario, "-o", tmp_path / "out"],
                          capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    [checks] = (tmp_path / "out").rglob("checks.json")
    statuses = {c["status"] for c in json.loads(checks.read_text())}
    assert "SUCCESS" in statuses and "FAILURE" not in statuses
