"""Just enough of AMQP 0-9-1 to look at a RabbitMQ: declare, bind, publish with confirms, get, count, consume.

Standard library only; one channel; every call waits for its answer.
"""
from __future__ import annotations

import socket
import struct
from typing import Any, NamedTuple

Table = dict[str, Any]


class AmqpError(Exception):
    """What the server closed the channel or the connection with: `code` and text."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code} {text}")
        self.code = code


class Message(NamedTuple):
    tag: int
    redelivered: bool
    exchange: str
    routing_key: str
    properties: Table
    body: bytes


# ---- values ----


def short(text: str) -> bytes:
    raw = text.encode()
    return bytes([len(raw)]) + raw


def value(v: Any) -> bytes:
    if isinstance(v, bool):
        return b"t" + bytes([v])
    if isinstance(v, int):
        return b"l" + struct.pack(">q", v)
    if isinstance(v, float):
        return b"d" + struct.pack(">d", v)
    if isinstance(v, str):
        return b"S" + struct.pack(">I", len(v.encode())) + v.encode()
    if isinstance(v, bytes):
        return b"x" + struct.pack(">I", len(v)) + v
    if isinstance(v, list):
        items = b"".join(map(value, v))
        return b"A" + struct.pack(">I", len(items)) + items
    if isinstance(v, dict):
        return b"F" + table(v)
    assert v is None
    return b"V"


def table(t: Table) -> bytes:
    items = b"".join(short(k) + value(v) for k, v in t.items())
    return struct.pack(">I", len(items)) + items


class Reader:
    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, n: int) -> bytes:
        piece = self.data[self.at:self.at + n]
        self.at += n
        return piece

    def unpack(self, format: str) -> Any:
        return struct.unpack(">" + format, self.take(struct.calcsize(">" + format)))[0]

    def short(self) -> str:
        return self.take(self.unpack("B")).decode(errors="replace")

    def long(self) -> bytes:
        return self.take(self.unpack("I"))

    def value(self) -> Any:
        kind = self.take(1).decode()
        if kind == "t":
            return bool(self.unpack("B"))
        if kind in "bBsuIilLfdT":
            return self.unpack({"b": "b", "B": "B", "s": "h", "u": "H", "I": "i", "i": "I", "l": "q", "L": "Q", "f": "f",
                                "d": "d", "T": "Q"}[kind])
        if kind == "D":
            return (self.unpack("B"), self.unpack("I"))
        if kind == "S":
            return self.long().decode(errors="replace")
        if kind == "x":
            return self.long()
        if kind == "F":
            return self.table()
        if kind == "A":
            inner, items = Reader(self.long()), []
            while inner.at < len(inner.data):
                items.append(inner.value())
            return items
        assert kind == "V", kind
        return None

    def table(self) -> Table:
        inner, t = Reader(self.long()), {}
        while inner.at < len(inner.data):
            name = inner.short()
            t[name] = inner.value()
        return t


# name, how it is read, its bit
PROPERTIES = [("content_type", "short", 15), ("content_encoding", "short", 14), ("headers", "table", 13),
              ("delivery_mode", "B", 12), ("priority", "B", 11), ("correlation_id", "short", 10), ("reply_to", "short", 9),
              ("expiration", "short", 8), ("message_id", "short", 7), ("timestamp", "Q", 6), ("type", "short", 5),
              ("user_id", "short", 4), ("app_id", "short", 3)]


def encode_properties(p: Table) -> bytes:
    flags, raw = 0, b""
    for name, kind, bit in PROPERTIES:
        if name in p:
            flags |= 1 << bit
            raw += short(p[name]) if kind == "short" else table(p[name]) if kind == "table" else struct.pack(">" + kind, p[name])
    return struct.pack(">H", flags) + raw


def decode_properties(r: Reader) -> Table:
    flags, p = r.unpack("H"), {}
    for name, kind, bit in PROPERTIES:
        if flags & 1 << bit:
            p[name] = r.short() if kind == "short" else r.table() if kind == "table" else r.unpack(kind)
    return p


# ---- the connection ----

DELIVER, GET_OK, GET_EMPTY, RETURN, ACK, NACK = (60, 60), (60, 71), (60, 72), (60, 50), (60, 80), (60, 120)


class AmqpClient:
    def __init__(self, port: int, user: str = "guest", password: str = "guest", vhost: str = "/", context: Any = None) -> None:
        self.sock: Any = socket.create_connection(("127.0.0.1", port), 30)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if context is not None:
            self.sock = context.wrap_socket(self.sock, server_hostname="localhost")
        self.file = self.sock.makefile("rb")
        self.published = 0
        self.outstanding: set[int] = set()
        self.refused: set[int] = set()
        self.returned: list[Message] = []
        self.delivered: list[Message] = []
        self.sock.sendall(b"AMQP\0\0\x09\x01")
        self.expect((10, 10))
        can = {"capabilities": {"authentication_failure_close": True, "basic.nack": True, "publisher_confirms": True}}
        login = f"\0{user}\0{password}".encode()
        self.send(0, (10, 11), table(can) + short("PLAIN") + struct.pack(">I", len(login)) + login + short("en_US"))
        self.expect((10, 30))
        self.send(0, (10, 31), struct.pack(">HIH", 8, 131072, 0))
        self.send(0, (10, 40), short(vhost) + short("") + b"\0")
        self.expect((10, 41))
        self.send(1, (20, 10), short(""))
        self.expect((20, 11))
        self.send(1, (85, 10), b"\0")
        self.expect((85, 11))

    def frame(self, type: int, channel: int, payload: bytes) -> bytes:
        return struct.pack(">BHI", type, channel, len(payload)) + payload + b"\xce"

    def send(self, channel: int, method: tuple[int, int], arguments: bytes = b"") -> None:
        self.sock.sendall(self.frame(1, channel, struct.pack(">HH", *method) + arguments))

    def read(self) -> tuple[int, int, bytes]:
        head = self.file.read(7)
        if len(head) < 7:
            raise ConnectionError("the server closed the connection")
        type, channel, size = struct.unpack(">BHI", head)
        payload = self.file.read(size + 1)
        assert payload[-1:] == b"\xce"
        return type, channel, payload[:-1]

    def content(self, tag: int, redelivered: bool, exchange: str, routing_key: str) -> Message:
        r = Reader(self.read()[2])
        r.take(4)
        size, body = r.unpack("Q"), b""
        properties = decode_properties(r)
        while len(body) < size:
            body += self.read()[2]
        return Message(tag, redelivered, exchange, routing_key, properties, body)

    def method(self) -> tuple[tuple[int, int], Reader]:
        """The next method; what comes by itself is put where it belongs first."""
        while True:
            type, channel, payload = self.read()
            if type == 8:
                self.sock.sendall(self.frame(8, 0, b""))
                continue
            assert type == 1, type
            r = Reader(payload)
            method = (r.unpack("H"), r.unpack("H"))
            if method in ((10, 50), (20, 40)):
                code, text = r.unpack("H"), r.short()
                self.send(channel, (method[0], method[1] + 1))
                raise AmqpError(code, text)
            if method in (ACK, NACK):
                tag, multiple = r.unpack("Q"), r.unpack("B") & 1
                done = {n for n in self.outstanding if n == tag or (multiple and n < tag)}
                self.outstanding -= done
                self.refused |= done if method == NACK else set()
            elif method == RETURN:
                r.take(2)
                r.short()
                self.returned.append(self.content(0, False, r.short(), r.short()))
                continue
            elif method == DELIVER:
                r.short()
                self.delivered.append(self.content(r.unpack("Q"), bool(r.unpack("B") & 1), r.short(), r.short()))
            return method, r

    def expect(self, *methods: tuple[int, int]) -> tuple[tuple[int, int], Reader]:
        while True:
            method, r = self.method()
            if method in methods:
                return method, r

    # ---- what tests want ----

    def declare(self, queue: str, arguments: Table | None = None, *, passive: bool = False, durable: bool = True) -> int:
        """Gives how many messages wait."""
        self.send(1, (50, 10), b"\0\0" + short(queue) + bytes([passive | durable << 1]) + table(arguments or {}))
        r = self.expect((50, 11))[1]
        r.short()
        return r.unpack("I")

    def exchange(self, name: str, type: str = "direct") -> None:
        self.send(1, (40, 10), b"\0\0" + short(name) + short(type) + b"\x02" + table({}))
        self.expect((40, 11))

    def bind(self, queue: str, exchange: str, routing_key: str = "") -> None:
        self.send(1, (50, 20), b"\0\0" + short(queue) + short(exchange) + short(routing_key) + b"\0" + table({}))
        self.expect((50, 21))

    def delete(self, queue: str) -> None:
        self.send(1, (50, 40), b"\0\0" + short(queue) + b"\0")
        self.expect((50, 41))

    def purge(self, queue: str) -> None:
        self.send(1, (50, 30), b"\0\0" + short(queue) + b"\0")
        self.expect((50, 31))

    def count(self, queue: str) -> int:
        return self.declare(queue, passive=True)

    def publish(self, queue: str, *bodies: bytes | str, exchange: str = "", **properties: Any) -> None:
        """To a queue, or with a routing key to an exchange; returns when the server has them all."""
        p = encode_properties({"delivery_mode": 2, **properties})
        for start in range(0, len(bodies), 1000):
            out = []
            for body in bodies[start:start + 1000]:
                raw = body.encode() if isinstance(body, str) else body
                out.append(self.frame(1, 1, struct.pack(">HH", 60, 40) + b"\0\0" + short(exchange) + short(queue) + b"\1"))
                out.append(self.frame(2, 1, struct.pack(">HHQ", 60, 0, len(raw)) + p))
                out += [self.frame(3, 1, raw[at:at + 131064]) for at in range(0, len(raw), 131064)]
                self.published += 1
                self.outstanding.add(self.published)
            self.sock.sendall(b"".join(out))
            while self.outstanding:
                self.method()
            if self.refused or self.returned:
                raise AmqpError(0, f"refused {sorted(self.refused)[:5]}, returned {self.returned[:5]}")

    def get(self, queue: str, ack: bool = True) -> Message | None:
        self.send(1, (60, 70), b"\0\0" + short(queue) + bytes([ack]))
        method, r = self.expect(GET_OK, GET_EMPTY)
        if method == GET_EMPTY:
            return None
        return self.content(r.unpack("Q"), bool(r.unpack("B") & 1), r.short(), r.short())

    def drain(self, queue: str) -> list[Message]:
        found = []
        while (m := self.get(queue)) is not None:
            found.append(m)
        return found

    def close(self) -> None:
        self.file.close()
        self.sock.close()
