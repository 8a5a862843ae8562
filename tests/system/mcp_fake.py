"""An MCP server over standard input and output that does what a test tells it to. Standard library only.

    mcp_fake.py DIR [--behave WORD]...

It appends each message that it gets to DIR/got.jsonl, and its pid to DIR/pids. Lines written to DIR/say (a FIFO's poor
cousin: a file that grows) are sent as they are. Behaviours: hang (in initialize), die (in initialize), version=V,
no-subscribe, no-log, ignore-term, stderr=TEXT, garbage (before each answer), late (answers out of order), dup (each answer
twice), refuse-subscribe=N (the first N), instructions.
Tools: echo, add, fail, text, env, slow, die, exit, notify, flood, huge, progress.
"""
from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

DIR = Path(sys.argv[1])
BEHAVE = {w.partition("=")[0]: w.partition("=")[2] for w in sys.argv[2:] if w != "--behave"}
out_lock = threading.Lock()


def put(text: str) -> None:
    with out_lock:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()


def send(message: dict[str, Any]) -> None:
    put(json.dumps({"jsonrpc": "2.0", **message}))


def notify(method: str, params: dict[str, Any] | None = None) -> None:
    send({"method": f"notifications/{method}", **({"params": params} if params is not None else {})})


def log(data: Any, level: str = "info") -> None:
    notify("message", {"level": level, "logger": "fake", "data": data})


def answer(id: Any, result: Any) -> None:
    if "garbage" in BEHAVE:
        put("this is no message")
        put('{"half": ')
    send({"id": id, "result": result})
    if "dup" in BEHAVE:
        send({"id": id, "result": {"content": [{"type": "text", "text": "twice"}]}})
        send({"id": 987654, "result": {}})


def fail(id: Any, code: int, text: str) -> None:
    send({"id": id, "error": {"code": code, "message": text}})


def text_of(text: str, **more: Any) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": text}], **more}


def call(id: Any, params: dict[str, Any]) -> None:
    name, args = params.get("name"), params.get("arguments", {})
    if name == "echo":
        answer(id, text_of(json.dumps(args), structuredContent=args))
    elif name == "add":
        answer(id, text_of(json.dumps({"sum": args["a"] + args["b"]})))
    elif name == "text":
        answer(id, text_of(args.get("text", "plain")))
    elif name == "fail":
        answer(id, text_of(args.get("text", "it went wrong"), isError=True))
    elif name == "env":
        answer(id, text_of(json.dumps(dict(os.environ))))
    elif name == "slow":
        threading.Timer(args.get("seconds", 60), answer, (id, text_of("late"))).start()
    elif name == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    elif name == "exit":
        print("about to go", file=sys.stderr, flush=True)
        os._exit(args.get("code", 3))
    elif name == "notify":
        for i in range(args.get("n", 1)):
            notify(args.get("event", "row_inserted"), {"i": i, **args.get("params", {})})
        answer(id, text_of("done"))
    elif name == "huge":
        answer(id, text_of("x" * args["bytes"]))
    elif name == "progress":
        token = params.get("_meta", {}).get("progressToken")
        for i in range(1, 4):
            notify("progress", {"progressToken": token, "progress": i, "total": 3, "message": f"part {i}"})
        answer(id, text_of("done"))
    elif name == "roots":
        send({"id": "r1", "method": "roots/list"})
        send({"id": "p1", "method": "ping"})
        send({"id": "s1", "method": "sampling/createMessage", "params": {}})
        answer(id, text_of("asked"))
    else:
        fail(id, -32602, f"Unknown tool: {name}")


TOOLS = ["echo", "add", "text", "fail", "env", "slow", "die", "exit", "notify", "huge", "progress", "roots"]


def handle(m: dict[str, Any]) -> None:
    method, id, params = m.get("method"), m.get("id"), m.get("params") or {}
    if method == "initialize":
        if "hang" in BEHAVE:
            time.sleep(600)
        if "die" in BEHAVE:
            print("cannot open the database", file=sys.stderr, flush=True)
            os._exit(4)
        capabilities: dict[str, Any] = {"tools": {}}
        if "no-subscribe" not in BEHAVE:
            capabilities["resources"] = {"subscribe": True}
        if "no-log" not in BEHAVE:
            capabilities["logging"] = {}
        answer(id, {"protocolVersion": BEHAVE.get("version") or params["protocolVersion"], "capabilities": capabilities,
                    "serverInfo": {"name": "fake", "version": "1.2.3"}})
    elif method == "tools/list":
        at = int(params.get("cursor", "0"))
        page = [{"name": n, "inputSchema": {"type": "object"}} for n in TOOLS[at:at + 5]]
        answer(id, {"tools": page, **({"nextCursor": str(at + 5)} if at + 5 < len(TOOLS) else {})})
    elif method == "tools/call":
        call(id, params)
    elif method == "resources/subscribe":
        left = int(BEHAVE.get("refuse-subscribe") or 0)
        if left > 0:
            BEHAVE["refuse-subscribe"] = str(left - 1)
            fail(id, -32002, "no such resource yet")
        else:
            answer(id, {})
    elif method == "resources/read":
        if "missing" in params["uri"]:
            fail(id, -32002, "Resource not found")
        else:
            answer(id, {"contents": [{"uri": params["uri"], "text": "what it holds"}]})
    elif id is not None and method:
        answer(id, {})


def say(at: int) -> None:
    """Lines that a test adds to DIR/say, behind `at`."""
    path = DIR / "say"
    while True:
        time.sleep(0.01)
        if not path.exists():
            continue
        with path.open("rb") as f:
            f.seek(at)
            data = f.read()
        end = data.rfind(b"\n") + 1
        if end:
            at += end
            with out_lock:
                sys.stdout.buffer.write(data[:end])
                sys.stdout.buffer.flush()


def main() -> None:
    if "ignore-term" in BEHAVE:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with (DIR / "pids").open("a") as f:
        f.write(f"{os.getpid()}\n")
    if "stderr" in BEHAVE:
        print(BEHAVE["stderr"], file=sys.stderr, flush=True)
    # Where it begins is settled before anybody is answered: a thread may be late.
    at = (DIR / "say").stat().st_size if (DIR / "say").exists() else 0
    threading.Thread(target=say, args=(at,), daemon=True).start()
    held: list[dict[str, Any]] = []
    for line in sys.stdin:
        with (DIR / "got.jsonl").open("a") as f:
            f.write(line)
        m = json.loads(line)
        if "late" in BEHAVE and m.get("method") == "tools/call":
            held.append(m)
            if len(held) == 3:
                for other in reversed(held):
                    handle(other)
                held.clear()
            continue
        handle(m)
    if "ignore-term" in BEHAVE:
        time.sleep(600)


if __name__ == "__main__":
    main()
