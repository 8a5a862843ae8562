"""An MCP server over streamable HTTP that a test steers from inside its own process. Standard library only.

What it does with a request is `answer(handler, message)`; by default what a well-kept server does. What it was asked is
kept in `posts` (messages with their headers), `gets` and `deletes` (headers).
"""
from __future__ import annotations

import json
import queue
import socket
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Message = dict[str, Any]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "HttpServer"
    message: Message  # of a POST
    chunked = False   # the stream under way

    def log_message(self, *_: Any) -> None:
        pass

    def reply(self, status: int, body: bytes = b"", type: str = "application/json", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if body:
            self.send_header("Content-Type", type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def json(self, message: Any, **headers: str) -> None:
        self.reply(200, json.dumps(message).encode(), **headers)

    def stream(self, **headers: str) -> None:
        """A stream that lasts until the handler returns."""
        self.close_connection = True
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def event(self, message: Any | None, id: str | None = None, retry: int | None = None) -> None:
        text = f"id: {id}\n" if id else ""
        text += f"retry: {retry}\n" if retry is not None else ""
        text += f"data: {json.dumps(message) if message is not None else ''}\n\n"
        self.wfile.write(text.encode())
        self.wfile.flush()

    def do_POST(self) -> None:
        message = self.message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.posts.append((message, self.headers))
        if self.path != "/mcp":
            self.server.other(self)
        elif message.get("method") != "initialize" and not self.server.knows(self.headers):
            self.reply(404)
        else:
            self.server.answer(self, message)

    def do_GET(self) -> None:
        self.server.gets.append(self.headers)
        self.server.listen(self)

    def do_DELETE(self) -> None:
        self.server.deletes.append(self.headers)
        self.reply(200)


class HttpServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64
    allow_reuse_address = True

    def __init__(self, port: int = 0) -> None:
        self.posts: list[tuple[Message, Any]] = []
        self.gets: list[Any] = []
        self.deletes: list[Any] = []
        self.sessions: set[str] = set()
        self.stateless = False
        self.streams: list[queue.Queue[Message | None]] = []
        self.answer: Callable[[Handler, Message], None] = well
        self.listen: Callable[[Handler], None] = hold
        self.other: Callable[[Handler], None] = lambda h: h.reply(404)
        self.open = True
        super().__init__(("127.0.0.1", port), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}/mcp"
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def handle_error(self, *_: Any) -> None:
        pass

    def knows(self, headers: Any) -> bool:
        return self.stateless or headers["Mcp-Session-Id"] in self.sessions

    def begin(self) -> dict[str, str]:
        if self.stateless:
            return {}
        id = f"session-{len(self.sessions)}-{time.monotonic_ns()}"
        self.sessions.add(id)
        return {"Mcp_Session_Id": id}

    def send(self, *messages: Message) -> None:
        """On every stream that is held."""
        for m in messages:
            for q in self.streams:
                q.put({"jsonrpc": "2.0", **m})

    def hang_up(self) -> None:
        """Ends every stream."""
        for q in self.streams:
            q.put(None)

    def methods(self) -> list[str]:
        return [m.get("method", "answer") for m, _ in self.posts]

    def close(self) -> None:
        self.open = False
        self.hang_up()
        self.shutdown()
        self.server_close()


def result_of(message: Message, result: Any) -> Message:
    return {"jsonrpc": "2.0", "id": message["id"], "result": result}


def initialized(message: Message) -> Message:
    return result_of(message, {"protocolVersion": message["params"]["protocolVersion"],
                               "capabilities": {"tools": {}, "resources": {"subscribe": True}, "logging": {}},
                               "serverInfo": {"name": "fake-http", "version": "2"}})


def well(h: Handler, m: Message) -> None:
    if m.get("method") == "initialize":
        h.json(initialized(m), **h.server.begin())
    elif "id" not in m or "method" not in m:
        h.reply(202)
    elif m["method"] == "tools/call":
        text = json.dumps(m["params"]["arguments"])
        h.json(result_of(m, {"content": [{"type": "text", "text": text}]}))
    else:
        h.json(result_of(m, {"tools": [{"name": "echo"}]} if m["method"] == "tools/list" else {}))


def hold(h: Handler) -> None:
    """A stream for what send() gives."""
    if not h.server.knows(h.headers):
        h.reply(404)
        return
    q: queue.Queue[Message | None] = queue.Queue()
    h.stream()
    h.server.streams.append(q)
    try:
        while h.server.open and (m := q.get()) is not None:
            h.event(m, id=m.pop("_id", None), retry=m.pop("_retry", None))
    finally:
        h.server.streams.remove(q)
        h.connection.shutdown(socket.SHUT_RDWR)
