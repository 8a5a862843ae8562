"""MCP servers that do everything wrong, from a seed, and count the events that they have sent whole. Standard library only.

    mcp_faults.py STATE SEED FAULTS LIVES      over standard input and output; tells how far it is in STATE

FaultyHttp is the same over streamable HTTP, inside a test. What both say wrong comes from spoken(); each kind of fault
comes once before any comes twice.
"""
from __future__ import annotations

import json
import os
import random
import signal
import socket
import struct
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mcp_http import Handler, HttpServer, Message, initialized, result_of

EVENT = "notifications/row_inserted"


def text(**members: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", **members}).encode()


class Deck:
    """Draws kinds: each once, in some order, and then at random."""

    def __init__(self, rng: random.Random, kinds: Sequence[str]) -> None:
        self.rng, self.kinds = rng, list(kinds)
        self.first = rng.sample(self.kinds, len(self.kinds))

    def draw(self) -> str:
        return self.first.pop() if self.first else self.rng.choice(self.kinds)


# What is said wrong: the messages, each without the end of its line.
SPOKEN: dict[str, Callable[[random.Random], list[bytes]]] = {
    "garbage": lambda rng: [bytes(rng.choice(b"abc{}[]\",:\\ \t\x00\xff") for _ in range(rng.randrange(200)))],
    "half": lambda rng: [b'{"jsonrpc": "2.0", "method": "notifications/row_inser'],
    "bad utf-8": lambda rng: [b'{"jsonrpc": "2.0", "method": "notifications/row_inserted", "params": {"i": "\xff"}}'],
    "twice": lambda rng: [b'{"jsonrpc": "2.0", "jsonrpc": "2.0", "method": "notifications/row_inserted"}'],
    "deep": lambda rng: [b"[" * 5000],
    "unknown id": lambda rng: [text(id=rng.randrange(10**6) + 10**6, result={})],
    "answered again": lambda rng: [text(id=1, result={"protocolVersion": "1"})],
    "odd id": lambda rng: [text(id={"a": 1}, result={})],
    "both": lambda rng: [text(id=10**7, result={}, error={})],
    "asks": lambda rng: [text(id=rng.randrange(100),
                              method=rng.choice(["ping", "roots/list", "sampling/createMessage", "x"]))],
    "batch": lambda rng: [b'[{"jsonrpc": "2.0", "method": "notifications/row_inserted", "params": {}}]'],
    "empty": lambda rng: [b"", b"\r"],
    "params": lambda rng: [text(method=EVENT, params=[1])],
    "long": lambda rng: [b"x" * 300000],
}
HUGE = {"10 MiB": 10 << 20, "more than 16 MiB": 17 << 20}  # of these a few are enough


def over_stdio(place: Path, seed: int, faults: int, lives: int) -> None:
    state: dict[str, Any] = {"life": 0, "next": 0, "faults": 0, "kinds": {}}
    if place.exists():
        state = json.loads(place.read_text())
    state["life"] += 1
    rng = random.Random(seed * 1000 + state["life"])
    out = sys.stdout.buffer

    def line(message: bytes) -> None:
        out.write(message + b"\n")

    for asked in sys.stdin:
        m = json.loads(asked)
        if m.get("method") == "initialize":
            line(json.dumps(initialized(m)).encode())
            out.flush()
        if m.get("method") == "notifications/initialized":
            break

    deck = Deck(rng, [*SPOKEN, "complains"])
    huge = {rng.randrange(faults // lives): name for name in HUGE}
    for n in range(faults // lives):
        kind = huge.get(n) or deck.draw()
        if kind == "complains":
            print("oh no", file=sys.stderr, flush=True)
        for message in [b"y" * HUGE[kind]] if kind in HUGE else SPOKEN.get(kind, lambda _: [])(rng):
            line(message)
        state["kinds"][kind] = state["kinds"].get(kind, 0) + 1
        state["faults"] += 1
        if rng.random() < 0.2:
            line(text(method=EVENT, params={"i": state["next"]}))
            out.flush()
            state["next"] += 1
    if state["life"] < lives:
        out.write(text(method=EVENT, params={"i": -1}))  # not whole
    out.flush()
    state["done"] = state["life"] >= lives
    new = place.with_suffix(".new")
    new.write_text(json.dumps(state))
    new.rename(place)
    if state["life"] < lives:
        os.kill(os.getpid(), signal.SIGKILL)
    for _ in sys.stdin:
        pass


# Wrong with the stream of a GET: while it lasts, and instead of it.
STREAM_ENDS = ["closed", "cut in an event", "cut in a chunk", "reset"]
NO_STREAM = ["500", "503", "429", "of another type", "redirect", "closed at once"]
# Wrong with the answer to a call.
ANSWERS = ["500", "502", "of another type", "no JSON", "half of it", "closed at once", "reset", "another id first", "twice",
           "late", "slowly", "redirect", "taken up", "taken up twice", "cut without an id", "202", "empty", "batch", "an error",
           "10 MiB", "after others"]
BEGINNINGS = ["hangs", "500", "no JSON", "closed at once", "no version", "announce: 500", "announce: hangs", "announce: 404"]


class FaultyHttp(HttpServer):
    """`events` have been sent whole by the GET's stream, in order; `posted` by answers. With `calm` it does well."""

    def __init__(self, seed: int, faults: int) -> None:
        self.lock = threading.RLock()
        self.rng = random.Random(seed)
        self.kinds: Counter[str] = Counter()
        self.events = 0
        self.posted: list[int] = []
        self.n_posted = 0
        self.on_streams, self.on_answers = faults * 3 // 4, faults - faults * 3 // 4  # left
        self.calm = self.quiet = False
        self.session = self.announce = ""  # the one that is known
        self.n_sessions = 0
        self.mute = self.heard = False  # this session answers a GET with 405; has answered one
        self.dropped = False  # by a reset, and not sent again yet
        self.calls = 0  # in this session
        self.begun = 0.0
        self.resumable: dict[str, list[bytes]] = {}  # by the last event's id
        self.spoken, self.ends = Deck(self.rng, list(SPOKEN)), Deck(self.rng, STREAM_ENDS)
        self.no_stream, self.answers = Deck(self.rng, NO_STREAM), Deck(self.rng, ANSWERS)
        self.beginnings = Deck(self.rng, BEGINNINGS)
        self.huge = list(HUGE)
        super().__init__()
        self.answer, self.listen, self.other = FaultyHttp._answer, FaultyHttp._listen, FaultyHttp._elsewhere

    def count(self, kind: str) -> str:
        self.kinds[kind] += 1
        return kind

    def calm_down(self) -> None:
        with self.lock:
            self.calm = True
            if self.mute:
                self.forget("a call's 404")

    def left(self) -> bool:
        return not self.calm and self.on_streams + self.on_answers > 0

    def one_in(self, n: int) -> bool:
        return self.rng.randrange(n) == 0

    def knows(self, headers: Any) -> bool:
        return bool(self.session) and headers["Mcp-Session-Id"] == self.session

    def forget(self, why: str) -> None:
        """What was sent before is whole; its streams are closed by who writes them."""
        with self.lock:
            self.session = ""
            self.count(f"session over: {why}")

    # ---- POST ----

    @staticmethod
    def _elsewhere(h: Handler) -> None:
        """Where redirects lead."""
        FaultyHttp._answer(h, h.message, redirected=True)

    @staticmethod
    def _answer(h: Handler, m: Message, redirected: bool = False) -> None:
        self = h.server
        assert isinstance(self, FaultyHttp)
        method = m.get("method")
        if method == "initialize":
            self._begin(h, m)
        elif method == "notifications/initialized":
            self._announced(h)
        elif method == "tools/call":
            self._call(h, m, redirected)
        elif "id" in m and method:
            h.json(result_of(m, {}))
        else:
            h.reply(202)

    def _begin(self, h: Handler, m: Message) -> None:
        with self.lock:
            kind = self.beginnings.draw() if self.left() and self.n_sessions > 0 and self.rng.random() < 0.3 else ""
            self.announce = kind if kind.startswith("announce") else ""
            if kind:
                self.count(f"initialize: {kind}")
            if not kind or self.announce:
                self.n_sessions += 1
                self.session = f"s{self.n_sessions}-{self.rng.randrange(10**9)}"
                self.mute = self.left() and self.n_sessions % 4 == 2 and bool(self.count("405"))
                self.calls, self.heard, self.begun = 0, False, time.monotonic()
                self.resumable.clear()
        if kind == "hangs":
            time.sleep(2)
        elif kind == "500":
            h.reply(500, b"not now", "text/plain")
        elif kind == "no JSON":
            h.reply(200, b"{]")
        elif kind == "closed at once":
            h.close_connection = True
        elif kind == "no version":
            h.json(result_of(m, {"capabilities": {}}))
        else:
            h.json(initialized(m), Mcp_Session_Id=self.session)

    def _announced(self, h: Handler) -> None:
        kind, self.announce = self.announce, ""
        if kind == "announce: 404":
            self.forget("at once")
        if kind == "announce: hangs":
            time.sleep(2)
        h.reply(500 if kind == "announce: 500" else 404 if kind == "announce: 404" else 202)

    def _call(self, h: Handler, m: Message, redirected: bool) -> None:
        with self.lock:
            self.calls += 1
            # Such a session has no other way to be over; others are in the middle of their events.
            ripe = self.left() and not self.dropped and time.monotonic() - self.begun > 0.6 and self.calls > 20
            if ripe and self.one_in(5 if self.mute else 60):
                self.forget("a call's 404")
            if not self.session:
                h.reply(404)
                return
            kind = "" if redirected or self.on_answers <= 0 or self.calm else self.answers.draw()
            if kind:
                self.on_answers -= 1
                self.count(f"answer: {kind}")
        self._answer_call(h, m, kind)

    def _posted(self) -> bytes:
        with self.lock:
            self.n_posted += 1
            return text(method="notifications/row_posted", params={"i": self.n_posted})

    def _answer_call(self, h: Handler, m: Message, kind: str) -> None:
        good = json.dumps(result_of(m, {"content": [], "structuredContent": {"n": m["params"]["arguments"]["n"]}})).encode()
        head = {"Content-Type": "application/json"}
        if kind in ("500", "502"):
            h.reply(int(kind), b"out of order", "text/plain")
        elif kind == "of another type":
            h.reply(200, good, "text/html")
        elif kind == "no JSON":
            h.reply(200, good[:-1])
        elif kind in ("half of it", "reset"):
            self._head(h, 200, **head, Content_Length=str(len(good)))
            h.wfile.write(good[:len(good) // 2])
            self._reset(h) if kind == "reset" else None
            h.close_connection = True
        elif kind == "closed at once":
            h.close_connection = True
        elif kind == "late":
            time.sleep(self.rng.random() * 0.1)
            h.reply(200, good)
        elif kind == "slowly":
            self._head(h, 200, **head, Content_Length=str(len(good)))
            for at in range(0, len(good), 16):
                h.wfile.write(good[at:at + 16])
                time.sleep(0.005)
        elif kind == "redirect":
            h.reply(307, Location="/elsewhere")
        elif kind in ("202", "empty"):
            h.reply(202 if kind == "202" else 200)
        elif kind == "batch":
            h.reply(200, b"[" + good + b"]")
        elif kind == "an error":
            h.reply(200, text(id=m["id"], error={"code": -32603, "message": "no"}))
        elif kind == "10 MiB":
            h.reply(200, good.replace(b'"content": []', b'"content": [{"type": "text", "text": "' + b"z" * (10 << 20) + b'"}]'))
        elif kind:
            self._answer_by_stream(h, m["id"], good, kind)
        else:
            h.reply(200, good)

    def _answer_by_stream(self, h: Handler, id: int, good: bytes, kind: str) -> None:
        h.stream()
        at = f"p{id}-{self.session}"
        before, after = self._posted(), self._posted()
        if kind.startswith("taken up"):
            self._event(h, before, f"{at}-1", retry=1)
            self.posted.append(json.loads(before)["params"]["i"])
            self.resumable[f"{at}-1"] = [after, good] if kind == "taken up" else [after]
            if kind == "taken up twice":
                self.resumable[f"{at}-1"] = [after]
                self.resumable[f"{at}-2"] = [good]
            h.wfile.write(b"id: z\ndata: " + after[:20])
        elif kind == "cut without an id":
            self._event(h, before)
            self.posted.append(json.loads(before)["params"]["i"])
            h.wfile.write(b"data: " + good[:30])
        else:
            first = {"another id first": [text(id=10**8, result={}), text(id=str(id), result={})], "twice": [good],
                     "after others": [before]}[kind]
            for message in [*first, good, after]:
                self._event(h, message)
            self.posted += [json.loads(after)["params"]["i"], *([json.loads(before)["params"]["i"]] if before in first else [])]

    # ---- GET ----

    @staticmethod
    def _head(h: Handler, status: int, **headers: str) -> None:
        h.send_response(status)
        for name, value in headers.items():
            h.send_header(name.replace("_", "-"), value)
        h.end_headers()

    @staticmethod
    def _reset(h: Handler) -> None:
        h.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        h.close_connection = True

    def _event(self, h: Handler, message: bytes, id: str = "", retry: int | None = None) -> None:
        """In one of the ways in which an event may be written."""
        end = self.rng.choice([b"\n", b"\n", b"\r\n", b"\r"])
        lines = [b"data:" + self.rng.choice([b"", b" "]) + message]
        if b'", "' in message and self.one_in(4):
            lines = [b"data: " + part for part in message.replace(b'", "', b'",\n "', 1).split(b"\n")]
        if id:
            lines.insert(self.rng.randrange(len(lines) + 1), b"id: " + id.encode())
        if retry is not None:
            lines.append(b"retry: %d" % retry)
        if self.one_in(4):
            lines.insert(0, self.rng.choice([b": a comment", b"event: message", b"nonsense", b"retry: x"]))
        self._write(h, end.join(lines) + end + end)

    @staticmethod
    def _write(h: Handler, data: bytes) -> None:
        h.wfile.write(b"%x\r\n%s\r\n" % (len(data), data) if h.chunked else data)
        h.wfile.flush()

    @staticmethod
    def _listen(h: Handler) -> None:
        self, redirected = h.server, h.path != "/mcp"
        assert isinstance(self, FaultyHttp)
        last = h.headers["Last-Event-ID"] or ""
        with self.lock:
            known = self.knows(h.headers)
            kind = ""
            if known and last.startswith("p"):
                pass
            elif known and self.mute:
                h.reply(405)
                return
            elif known and self.left() and not redirected and self.one_in(8):
                kind = self.count(f"GET: {self.no_stream.draw()}")[5:]
                if kind == "of another type" and not self.heard:
                    self.mute = True  # as good as a 405
            elif known and self.left() and not self.dropped and self.one_in(40 if time.monotonic() - self.begun > 0.6 else 10):
                self.forget("a GET's 404")
                known = False
        if not known:
            h.reply(404)
        elif last.startswith("p"):
            self._take_up(h, last)
        elif kind == "closed at once":
            h.close_connection = True
        elif kind == "redirect":
            h.reply(307, Location="/elsewhere")
        elif kind:
            h.reply(200 if kind == "of another type" else int(kind), b"<html>", "text/html")
        else:
            self._stream(h, int(last.partition("-")[2]) + 1 if last else self.events)

    def _take_up(self, h: Handler, last: str) -> None:
        h.stream()
        messages = self.resumable.get(last, [])
        at, _, n = last.rpartition("-")
        for message in messages:
            n = str(int(n) + 1)
            self._event(h, message, f"{at}-{n}", retry=1)
            if b"row_posted" in message:
                self.posted.append(json.loads(message)["params"]["i"])

    def _stream(self, h: Handler, at: int) -> None:
        mine, h.close_connection, self.heard = self.session, True, True
        h.chunked = self.rng.random() < 0.5
        self._head(h, 200, Content_Type="text/event-stream", **({"Transfer_Encoding": "chunked"} if h.chunked else {}),
                   Connection="close")
        if self.one_in(4):
            self._write(h, b"\xef\xbb\xbf")
        # A reset drops what is on its way: that is asked for again, by who has had an id, before the session is over.
        resumable = "Last-Event-ID" in h.headers
        with self.lock:
            self.events, self.dropped = at, False  # what the other has
        while self.open:
            with self.lock:
                if self.session != mine:
                    break  # what was sent is whole; what was not is for the next session
                more = self.on_streams > 0 and not self.calm
                if more and self.one_in(12):
                    self.on_streams -= 1
                    kind = self.ends.draw()
                    self._end(h, at, self.count(f"stream: {kind}")[8:] if kind != "reset" or resumable else "closed")
                    return
                if more and self.one_in(40) and at == self.events:
                    self._flood(h, at, 200)
                    at += 200
                if more:
                    self.on_streams -= 1
                    self._say(h)
                if not more and not self.quiet or more and self.one_in(5):
                    self._event(h, text(method=EVENT, params={"i": at}), f"e-{at}", retry=1)
                    at += 1
                    self.events = max(self.events, at)
            time.sleep(0.0005 if more else 0.02)  # who waits for the lock gets it
        self._write(h, b"")

    def _flood(self, h: Handler, at: int, n: int) -> None:
        self.count("stream: flood")
        self._write(h, b"".join(b"id: e-%d\ndata: %s\n\n" % (at + i, text(method=EVENT, params={"i": at + i})) for i in range(n)))
        self.events = max(self.events, at + n)

    def _say(self, h: Handler) -> None:
        if self.huge and self.one_in(20):
            name = self.count(self.huge.pop())
            self._write(h, b"data: " + b"y" * HUGE[name] + b"\n\n")
            return
        for message in SPOKEN[self.count(self.spoken.draw())](self.rng):
            if b"\n" not in message and b"\r" not in message:
                self._write(h, b"data: " + message + b"\n\n")

    def _end(self, h: Handler, at: int, kind: str) -> None:
        event = b"id: e-%d\ndata: %s\n\n" % (at, text(method=EVENT, params={"i": at}))
        part = event[:self.rng.randrange(1, len(event) - 1)]
        if kind == "cut in an event":
            self._write(h, part)
        elif kind == "cut in a chunk":
            h.wfile.write(b"%x\r\n%s" % (len(event), part) if h.chunked else part)
        elif kind == "reset":
            self.dropped = True
            self._reset(h)
        elif h.chunked:
            h.wfile.write(b"0\r\n\r\n")


if __name__ == "__main__":
    over_stdio(Path(sys.argv[1]), *map(int, sys.argv[2:5]))
