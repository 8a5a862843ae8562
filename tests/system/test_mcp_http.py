"""MCP servers over streamable HTTP."""
from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from harness import ECHO, Daemon, documents, finished, pipeline, wait_for
from mcp_http import Handler, HttpServer, Message, hold, initialized, result_of, well
from test_mcp import connected, events, failed, listener, notification, run

CALL = pipeline("t", {"id": "s", "mcp": {"server": "database", "tool": "echo", "arguments": {"n": 1}}})


@pytest.fixture
def peer() -> Iterator[HttpServer]:
    server = HttpServer()
    yield server
    server.close()


@pytest.fixture
def put(daemon: Daemon, peer: HttpServer) -> Callable[..., None]:
    def write(*docs: dict[str, Any], **more: Any) -> None:
        server = {"kind": "mcp_server", "name": "database", "url": peer.url, **more}
        done = daemon.ctl("apply", daemon.write("mcp.yaml", documents(server, *docs, ECHO)))
        assert done.returncode == 0, done.stdout + done.stderr

    return write


def test_events_and_tools(daemon: Daemon, peer: HttpServer, put: Callable[..., None]) -> None:
    put(listener(), CALL, headers={"Authorization": "Bearer t"}, subscribe=["a:b"])
    connected(daemon)
    wait_for(lambda: peer.streams)
    peer.send(notification("row_inserted", {"id": 1}))
    [event] = events(daemon)
    assert event["event_data"] == {"id": 1}
    assert finished(daemon, run(daemon, "t"))["outputs"]["out"] == {"n": 1}
    assert peer.methods()[:3] == ["initialize", "notifications/initialized", "resources/subscribe"]
    first, *rest = [headers for _, headers in peer.posts]
    assert first["Mcp-Session-Id"] is None and first["MCP-Protocol-Version"] is None
    for headers in [*rest, *peer.gets]:
        assert headers["Mcp-Session-Id"] in peer.sessions and headers["MCP-Protocol-Version"] == "2025-11-25"
    for headers in (first, *rest):
        assert headers["Accept"] == "application/json, text/event-stream" and headers["Content-Type"] == "application/json"
        assert headers["Authorization"] == "Bearer t"
    assert peer.gets[0]["Accept"] == "text/event-stream" and peer.gets[0]["Authorization"] == "Bearer t"
    daemon.stop()
    assert [d["Mcp-Session-Id"] for d in peer.deletes] == list(peer.sessions)


@pytest.mark.parametrize(("status", "session"), [(405, True), (405, False), (404, False), (400, False), (404, True)])
def test_there_may_be_no_stream(daemon: Daemon, peer: HttpServer, put: Callable[..., None], status: int, session: bool) -> None:
    """Then what comes with answers counts."""
    def answer(h: Handler, m: Message) -> None:
        if m.get("method") != "tools/call":
            return well(h, m)
        h.stream()
        h.event({"jsonrpc": "2.0", **notification("row_inserted", {"from": "a stream"})})
        h.event(result_of(m, {"content": [], "structuredContent": {"ok": True}}))

    peer.stateless = not session
    peer.listen = lambda h: h.reply(status)
    peer.answer = answer
    put(listener(), CALL)
    connected(daemon)
    assert finished(daemon, run(daemon, "t"))["outputs"]["out"] == {"ok": True}
    [event] = events(daemon)
    assert event["event_data"] == {"from": "a stream"}
    time.sleep(1.5)
    assert len(peer.gets) == 1, "it is not asked again"
    assert peer.methods().count("initialize") == 1
    assert ("ping" in peer.methods()) == (session and status == 404), "whether the session is over is asked"
    assert connected(daemon)


def test_a_stream_that_ends_goes_on(daemon: Daemon, peer: HttpServer, put: Callable[..., None]) -> None:
    put(listener())
    connected(daemon)
    wait_for(lambda: peer.streams)
    peer.send({**notification("row_inserted", {"i": 1}), "_id": "e-7", "_retry": 50})
    events(daemon)
    peer.hang_up()
    wait_for(lambda: len(peer.gets) == 2)
    assert peer.gets[1]["Last-Event-ID"] == "e-7"
    wait_for(lambda: peer.streams)
    peer.send(notification("row_inserted", {"i": 2}))
    events(daemon, n=2)
    assert peer.methods().count("initialize") == 1


def test_an_answer_whose_stream_breaks_off_is_fetched(daemon: Daemon, peer: HttpServer, put: Callable[..., None]) -> None:
    asked: list[Message] = []
    began: list[float] = []

    def answer(h: Handler, m: Message) -> None:
        if m.get("method") != "tools/call":
            return well(h, m)
        asked.append(m)
        h.stream()
        began.append(time.monotonic())
        h.event(None, id="r-1", retry=300)

    def listen(h: Handler) -> None:
        if h.headers["Last-Event-ID"] != "r-1":
            return hold(h)
        began.append(time.monotonic())
        h.stream()
        h.event(result_of(asked[0], {"content": [{"type": "text", "text": "[1]"}]}), id="r-2")

    peer.answer, peer.listen = answer, listen
    put(CALL)
    assert finished(daemon, run(daemon, "t"))["outputs"]["out"] == [1]
    assert began[1] - began[0] >= 0.29


def test_a_session_that_is_over_begins_anew(daemon: Daemon, peer: HttpServer, put: Callable[..., None]) -> None:
    put(listener(), CALL, subscribe=["a:b"])
    connected(daemon)
    wait_for(lambda: peer.streams)
    time.sleep(0.6)
    peer.sessions.clear()
    peer.hang_up()
    wait_for(lambda: peer.methods().count("initialize") == 2 and peer.streams)
    assert wait_for(lambda: peer.methods().count("resources/subscribe") == 2)
    peer.send(notification("row_inserted", {"i": 1}))
    events(daemon)
    assert finished(daemon, run(daemon, "t"))["status"] == "completed"


def test_a_call_that_a_session_has_not_taken_is_for_the_next(daemon: Daemon, peer: HttpServer, put: Callable[..., None]) -> None:
    """Without a stream it is the first that hears of it."""
    peer.listen = lambda h: h.reply(405)
    put(listener(), CALL)
    connected(daemon)
    for n in (2, 3):
        peer.sessions.clear()
        done = finished(daemon, run(daemon, "t"))
        assert done["outputs"]["out"] == {"n": 1}, done
        assert peer.methods().count("initialize") == n and peer.methods().count("tools/call") == 2 * (n - 1)


def test_a_session_that_is_always_over(daemon: Daemon, peer: HttpServer, put: Callable[..., None]) -> None:
    peer.answer = lambda h, m: h.reply(404) if m.get("method") == "tools/call" else well(h, m)
    put(CALL)
    assert "forgotten the session" in finished(daemon, run(daemon, "t"))["error_message"]
    assert peer.methods().count("tools/call") == 4


def test_a_session_may_be_over_before_its_stream(daemon: Daemon, peer: HttpServer, put: Callable[..., None]) -> None:
    def listen(h: Handler) -> None:
        if len(peer.gets) == 1:
            peer.sessions.clear()
        hold(h)

    peer.listen = listen
    put(listener())
    wait_for(lambda: peer.methods().count("initialize") == 2 and peer.streams)
    connected(daemon)
    peer.send(notification("row_inserted", {"i": 1}))
    events(daemon)


def test_an_exchange_that_breaks_off_ends_no_session(daemon: Daemon, peer: HttpServer, put: Callable[..., None]) -> None:
    """While there is a stream, which would break off too."""
    def answer(h: Handler, m: Message) -> None:
        if m.get("method") != "tools/call":
            return well(h, m)
        h.send_response(200)
        h.send_header("Content-Type", "application/json")
        h.send_header("Content-Length", "100")
        h.end_headers()
        h.wfile.write(b'{"jsonrpc"')
        h.close_connection = True

    peer.answer = answer
    put(listener(), CALL)
    connected(daemon)
    wait_for(lambda: peer.streams)
    assert finished(daemon, run(daemon, "t"))["status"] == "failed"
    peer.send(notification("row_inserted", {"i": 1}))
    events(daemon)
    connected(daemon)
    assert peer.methods().count("initialize") == 1 and len(peer.gets) == 1


@pytest.mark.parametrize(("status", "reason", "words"), [
    (500, "InitializeFailed", "notifications/initialized: HTTP 500: not yet"),
    (0, "InitializeTimeout", "notifications/initialized: no answer within 2 s"),
])
def test_a_server_that_does_not_take_initialized(daemon: Daemon, peer: HttpServer, put: Callable[..., None], status: int,
                                                 reason: str, words: str) -> None:
    def answer(h: Handler, m: Message) -> None:
        if m.get("method") != "notifications/initialized":
            well(h, m)
        elif status:
            h.reply(status, b"not yet", "text/plain")
        else:
            told.wait(20)

    told = threading.Event()
    peer.answer = answer
    put(listener(), timeout_seconds=2)
    assert words in failed(daemon, reason=reason)["message"]
    told.set()
    assert not peer.gets, "it is not listened to before"
    peer.answer = well
    connected(daemon)


def test_a_stream_that_brings_nothing_is_not_asked_for_at_once(daemon: Daemon, peer: HttpServer,
                                                               put: Callable[..., None]) -> None:
    """Whatever the server says."""
    asked: list[float] = []

    def listen(h: Handler) -> None:
        asked.append(time.monotonic())
        h.stream()
        h.wfile.write(b"retry: 0\n\n")

    peer.listen = listen
    put(listener())
    wait_for(lambda: len(asked) >= 6)
    assert asked[5] - asked[0] >= 0.4


def test_an_empty_id_is_none(daemon: Daemon, peer: HttpServer, put: Callable[..., None]) -> None:
    def listen(h: Handler) -> None:
        if len(peer.gets) > 1:
            return hold(h)
        h.stream()
        h.wfile.write(b"id: a\ndata:\n\nid\nretry: 1\n\n")

    peer.listen = listen
    put(listener())
    wait_for(lambda: len(peer.gets) == 2)
    assert peer.gets[1]["Last-Event-ID"] is None


def test_what_was_received_before_a_reset_is_heard(daemon: Daemon, peer: HttpServer, put: Callable[..., None]) -> None:
    def listen(h: Handler) -> None:
        if len(peer.gets) > 1:
            return hold(h)
        h.stream()
        for i in range(500):
            h.event({"jsonrpc": "2.0", **notification("row_inserted", {"i": i})})
        h.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    peer.listen = listen
    put(listener())
    wait_for(lambda: daemon.trigger("orders")["trigger_count"] == 500, 120)
    wait_for(lambda: peer.streams)


def test_a_server_that_is_away(daemon: Daemon, peer: HttpServer, put: Callable[..., None]) -> None:
    put(listener(), CALL)
    connected(daemon)
    wait_for(lambda: peer.streams)
    port = peer.server_address[1]
    peer.close()
    condition = failed(daemon)
    assert condition["reason"] == "ConnRefused" and "cannot be had again" in condition["message"]
    assert daemon.trigger("orders")["status"] == "error"
    done = finished(daemon, run(daemon, "t"))
    assert done["status"] == "failed" and "connect" in done["error_message"]
    again = HttpServer(port)
    connected(daemon)
    wait_for(lambda: again.streams)
    again.send(notification("row_inserted", {"i": 1}))
    events(daemon)
    again.close()


@pytest.mark.parametrize(("status", "body", "error"), [
    (500, b"the disk is full", "HTTP 500: the disk is full"), (401, b"", "HTTP 401"), (200, b"", "ended without a message"),
    (202, b"", "gave no answer"), (429, b"slow down", "HTTP 429: slow down"),
])
def test_a_request_that_is_refused(daemon: Daemon, peer: HttpServer, put: Callable[..., None], status: int, body: bytes,
                                   error: str) -> None:
    peer.answer = lambda h, m: h.reply(status, body, "text/plain") if m.get("method") == "tools/call" else well(h, m)
    put(listener(), CALL)
    connected(daemon)
    done = finished(daemon, run(daemon, "t"))
    assert done["status"] == "failed" and error in done["error_message"], done
    assert peer.methods().count("initialize") == 1


def test_an_initialize_that_is_refused(daemon: Daemon, peer: HttpServer, put: Callable[..., None]) -> None:
    (daemon.manifests / "token").write_text("s3cret-t0ken\n")
    peer.answer = lambda h, m: h.reply(403, f"not with {h.headers['Authorization']}".encode(), "text/plain")
    put(listener(), headers={"Authorization": "Bearer ${file:token}"})
    condition = failed(daemon)
    assert condition["reason"] == "InitializeFailed"
    assert "HTTP 403: not with Bearer ***" in condition["message"]
    peer.answer = well
    connected(daemon)
    assert peer.posts[-1][1]["Authorization"] == "Bearer s3cret-t0ken"
    assert "s3cret" not in daemon.output() + json.dumps(daemon.get("/api/v1/mcp_servers"))


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirects(daemon: Daemon, peer: HttpServer, put: Callable[..., None], status: int) -> None:
    """They are followed as they were; to another origin goes no header of the manifest's."""
    other = HttpServer()
    peer.answer = lambda h, m: h.reply(status, Location=other.url)
    peer.listen = lambda h: h.reply(status, Location=other.url)
    peer.stateless = True
    put(listener(), CALL, headers={"Authorization": "Bearer t"})
    assert finished(daemon, run(daemon, "t"))["outputs"]["out"] == {"n": 1}
    wait_for(lambda: other.streams)
    other.send({**notification("row_inserted", {"i": 1}), "_id": "e-1", "_retry": 1})
    events(daemon)
    other.hang_up()
    wait_for(lambda: len(other.gets) == 2)
    assert other.gets[1]["Last-Event-ID"] == "e-1"
    assert all(h["Authorization"] is None for h in [*other.gets, *(h for _, h in other.posts)])
    other.close()


def test_redirects_without_end(daemon: Daemon, peer: HttpServer, put: Callable[..., None]) -> None:
    peer.answer = lambda h, m: h.reply(307, Location="/mcp")
    put(listener())
    assert "more than 5 redirects" in failed(daemon)["message"]


def test_garbage_on_streams(daemon: Daemon, peer: HttpServer, put: Callable[..., None]) -> None:
    def listen(h: Handler) -> None:
        h.stream()
        h.wfile.write(b"\xef\xbb\xbf: a comment\r\n\r\ndata: no json\r\n\r\nevent: other\ndata: {}\n\nnonsense\n\n")
        h.wfile.write(b'data: {"jsonrpc": "2.0",\ndata: "method": "notifications/row_inserted",\rdata:"params": {"i": 1}}\r\r')
        h.wfile.write(b'data: {"jsonrpc": "2.0", "method": "notifications/row_inserted"')
        h.wfile.flush()

    peer.listen = listen
    put(listener())
    [event, *_] = events(daemon)
    assert event["event_data"] == {"i": 1}


def test_a_large_answer(daemon: Daemon, peer: HttpServer, put: Callable[..., None]) -> None:
    sizes = iter([10 << 20, 17 << 20])
    peer.answer = lambda h, m: (h.json(result_of(m, {"content": [{"type": "text", "text": "x" * next(sizes)}]}))
                                if m.get("method") == "tools/call" else well(h, m))
    put({**CALL, "outputs": {}}, listener())
    assert finished(daemon, run(daemon, "t"))["status"] == "completed"
    done = finished(daemon, run(daemon, "t"))
    assert done["status"] == "failed" and "larger than 16 MiB" in done["error_message"]
    connected(daemon)
    assert peer.methods().count("initialize") == 1


@pytest.mark.parametrize("way", ["answer", "stream"])
def test_a_message_may_have_16_mib(daemon: Daemon, peer: HttpServer, put: Callable[..., None], way: str) -> None:
    """And not a byte more."""
    def answer(h: Handler, m: Message) -> None:
        if m.get("method") != "tools/call":
            return well(h, m)
        message = json.dumps(result_of(m, {"content": [], "structuredContent": {"pad": ""}}))
        size = (16 << 20) + m["params"]["arguments"]["more"]
        message = message.replace('""', '"' + "x" * (size - len(message)) + '"')
        if way == "answer":
            return h.reply(200, message.encode())
        h.stream()
        h.wfile.write(b"data: " + message.encode() + b"\n\n")

    step = {"id": "s", "mcp": {"server": "database", "tool": "echo", "arguments": {"more": "{{ $.inputs.n }}"}}}
    call = pipeline("t", step, outputs={})
    peer.answer = answer
    put(call)
    assert finished(daemon, run(daemon, "t", n=0))["status"] == "completed"
    assert finished(daemon, run(daemon, "t", n=1))["status"] == "failed"


def test_an_edit_gives_the_session_back(daemon: Daemon, peer: HttpServer, put: Callable[..., None]) -> None:
    put(listener())
    connected(daemon)
    [session] = peer.sessions
    put(listener(), headers={"X-New": "yes"})
    wait_for(lambda: peer.methods().count("initialize") == 2)
    wait_for(lambda: [d["Mcp-Session-Id"] for d in peer.deletes] == [session])
    connected(daemon)


def test_a_timeout_is_told(daemon: Daemon, peer: HttpServer, put: Callable[..., None]) -> None:
    def answer(h: Handler, m: Message) -> None:
        if m.get("method") == "tools/call":
            told.wait(20)
        well(h, m)

    told = threading.Event()
    peer.answer = answer
    put(CALL, timeout_seconds=2)
    done = finished(daemon, run(daemon, "t"))
    told.set()
    assert "no answer within 2 s" in done["error_message"]
    wait_for(lambda: "notifications/cancelled" in peer.methods())


def test_without_a_daemon(daemon: Daemon, peer: HttpServer) -> None:
    done = daemon.ctl("mcp", "call", peer.url, "echo", "--args", '{"a": 1}')
    assert (done.returncode, done.stdout) == (0, '{"a": 1}\n'), done.stderr
    assert "echo" in daemon.ctl("mcp", "tools", peer.url).stdout
    assert len(peer.deletes) == 2
