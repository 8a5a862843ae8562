"""Real brokers for tests and benchmarks: each a process of its own on a free loopback port, in a directory of its own; and
a proxy between a broker and its clients that makes the faults of a network.

Standard library only. tests/install-brokers.sh brings the servers; what is not there skips its tests.
"""
from __future__ import annotations

import asyncio
import ctypes
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from amqp import AmqpClient, AmqpError
from harness import ROOT, free_port, wait_for

# Where the install script puts what Debian has no package of, a folder a broker.
BROKERS = Path(os.environ.get("TRIGGERD_BROKERS", ROOT / "build" / "brokers"))
START_TIMEOUT = 90.0

T = TypeVar("T", bound="Server")


def program(broker: str, name: str) -> str | None:
    """The path of a broker's program: below BROKERS/<broker>, else Debian's; None if it is not installed."""
    own = BROKERS / broker / name
    return str(own) if own.exists() else shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin")


# ---- servers ----


class Server:
    """A broker's process. Its data lie below `root`, its port stays the same over restarts.

    A subclass gives `name`, `command()`, `answers()` (it takes requests), and `installed()`; `prepare()` writes its config
    before each start, `environment()` is what it runs with."""

    name = ""

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        self.data = self.root / "data"
        self.log = self.root / f"{self.name}.log"
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self.root.mkdir(parents=True, exist_ok=True)

    @classmethod
    def installed(cls) -> bool:
        raise NotImplementedError

    def command(self) -> list[str]:
        raise NotImplementedError

    def answers(self) -> bool:
        raise NotImplementedError

    def prepare(self) -> None:
        pass

    def environment(self) -> dict[str, str]:
        return dict(os.environ)

    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def start(self: T, wait: bool = True) -> T:
        assert not self.running()
        self.data.mkdir(exist_ok=True)
        self.prepare()
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.command(), cwd=self.root, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            env=self.environment(), start_new_session=True)
        if wait:
            self.await_ready()
        return self

    def await_ready(self) -> None:
        def up() -> bool:
            assert self.running(), f"{self.name} ended:\n{self.log.read_text(errors='replace')[-4000:]}"
            return self.answers()

        wait_for(up, START_TIMEOUT, f"{self.name} ready")

    def stop(self, timeout: float = 30) -> None:
        """As an operator stops it; what does not end in time is killed."""
        if self.running():
            assert self.process is not None
            self.process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout)
        self.kill()

    def kill(self) -> None:
        """kill -9 of the server and of what it started (its session)."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def wipe(self) -> None:
        """Lose all data; not while it runs."""
        assert not self.running()
        shutil.rmtree(self.data, ignore_errors=True)

    def restart(self, *, kill: bool = False, wipe: bool = False) -> None:
        (self.kill if kill else self.stop)()
        if wipe:
            self.wipe()
        self.start()

    def freeze(self) -> None:
        """It keeps its connections and answers nothing more."""
        os.killpg(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.killpg(self.pid, signal.SIGCONT)

    def close(self) -> None:
        with suppress(ProcessLookupError, AssertionError):
            self.thaw()
        self.stop(5)


@contextmanager
def serve(type: type[T], root: Path, *args: Any, **options: Any) -> Iterator[T]:
    """A running server for the time of a with statement. Where it is not installed, the test is skipped."""
    if not type.installed():
        import pytest

        pytest.skip(f"{type.name} is not installed (tests/install-brokers.sh)")
    server = type(root, *args, **options)
    try:
        yield server.start()
    finally:
        server.close()


# ---- Amazon SQS, as moto has it ----


class Sqs(Server):
    """moto's server: its queues are in memory, so that a restart is one without data."""

    name = "sqs"
    region = "eu-south-1"

    @classmethod
    def installed(cls) -> bool:
        return program("sqs", "bin/moto_server") is not None

    def command(self) -> list[str]:
        path = program("sqs", "bin/moto_server")
        assert path
        return [path, "-H", "127.0.0.1", "-p", str(self.port)]

    def answers(self) -> bool:
        with suppress(OSError, ValueError):
            self.call("ListQueues")
            return True
        return False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def call(self, action: str, **body: Any) -> Any:
        headers = {"Content-Type": "application/x-amz-json-1.0", "X-Amz-Target": f"AmazonSQS.{action}",
                   "Authorization": f"AWS4-HMAC-SHA256 Credential=test/20260101/{self.region}/sqs/aws4_request, "
                                    "SignedHeaders=host, Signature=0"}
        request = urllib.request.Request(self.url + "/", json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read() or b"{}")

    def queue(self, name: str, **attributes: str) -> str:
        """Makes it; gives its URL."""
        url: str = self.call("CreateQueue", QueueName=name, Attributes=attributes)["QueueUrl"]
        return url

    def send(self, url: str, body: str, **more: Any) -> str:
        sent: str = self.call("SendMessage", QueueUrl=url, MessageBody=body, **more)["MessageId"]
        return sent

    def count(self, url: str) -> tuple[int, int]:
        """Those that wait, and those that somebody has."""
        a = self.call("GetQueueAttributes", QueueUrl=url, AttributeNames=["All"])["Attributes"]
        return int(a["ApproximateNumberOfMessages"]), int(a["ApproximateNumberOfMessagesNotVisible"])


# ---- a network with faults ----


class Proxy:
    """TCP between clients and 127.0.0.1:`target` (settable), on `port`, in a thread of its own.

    cut()       resets every connection         hold()/flow()      both ways stand still, nothing is lost: half-open
    refuse()    nobody connects any more        accept()           again, on the same port
    delay       seconds that each piece waits, each way
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.delay = 0.0
        self.accepted = 0  # connections, ever
        self.forwarded = 0  # bytes, both ways
        self._open: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.port = free_port()
        self.accept()

    def _call(self, what: Callable[[], Any]) -> Any:
        async def run() -> Any:
            found = what()
            return await found if asyncio.iscoroutine(found) else found

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(30)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        try:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            self._abort(writer)
            return
        pair = (writer, up_writer)
        self._open.add(pair)
        tasks = [self._loop.create_task(self._pump(reader, up_writer)),
                 self._loop.create_task(self._pump(up_reader, writer))]
        self._tasks.update(tasks)
        await asyncio.wait(tasks)
        self._tasks.difference_update(tasks)
        self._open.discard(pair)
        for end in pair:
            with suppress(Exception):
                end.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while True:
                await self._flowing.wait()
                piece = await reader.read(65536)
                if self.delay:
                    await asyncio.sleep(self.delay)
                await self._flowing.wait()
                if not piece:
                    break
                self.forwarded += len(piece)
                writer.write(piece)
                await writer.drain()
        # The other side is told of this one's end, however it came.
        with suppress(OSError, RuntimeError):
            if writer.can_write_eof():
                writer.write_eof()

    @staticmethod
    def _abort(writer: asyncio.StreamWriter) -> None:
        sock = writer.get_extra_info("socket")
        with suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    def connections(self) -> int:
        return len(self._open)

    def cut(self) -> int:
        """Gives how many there were."""

        def cut() -> int:
            pairs = list(self._open)
            for pair in pairs:
                for writer in pair:
                    self._abort(writer)
            return len(pairs)

        return self._call(cut)

    def hold(self) -> None:
        self._call(self._flowing.clear)

    def flow(self) -> None:
        self._call(self._flowing.set)

    def refuse(self) -> None:
        async def refuse() -> None:
            if self._server is not None:
                self._server.close()
                self._server = None

        self._call(refuse)
        self.cut()

    def accept(self) -> None:
        async def accept() -> None:
            if self._server is None:
                self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, reuse_address=True)

        self._call(accept)

    def close(self) -> None:
        if not self._thread.is_alive():
            return
        self.refuse()

        async def end() -> None:
            self._flowing.set()
            tasks = list(self._tasks)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.sleep(0)

        self._call(end)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


# ---- Redis ----


class RedisError(Exception):
    pass


class RedisClient:
    """Just enough of RESP to look at a server: `call()` gives ints, bytes, None and lists."""

    def __init__(self, address: int | Path, context: Any = None) -> None:
        if isinstance(address, int):
            self.sock = socket.create_connection(("127.0.0.1", address), 30)
        else:
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(30)
            self.sock.connect(str(address))
        if context is not None:
            self.sock = context.wrap_socket(self.sock, server_hostname="127.0.0.1")
        self.file = self.sock.makefile("rb")

    @staticmethod
    def encode(*words: Any) -> bytes:
        raw = [w if isinstance(w, bytes) else str(w).encode() for w in words]
        return b"*%d\r\n" % len(raw) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in raw)

    def read(self) -> Any:
        line = self.file.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("the server closed the connection")
        kind, rest = line[:1], line[1:-2]
        if kind == b"+":
            return rest
        if kind == b"-":
            raise RedisError(rest.decode())
        if kind == b":":
            return int(rest)
        if kind == b"$":
            if int(rest) < 0:
                return None
            data = self.file.read(int(rest) + 2)
            return data[:-2]
        assert kind == b"*", line
        return None if int(rest) < 0 else [self.read() for _ in range(int(rest))]

    def call(self, *words: Any) -> Any:
        self.sock.sendall(self.encode(*words))
        return self.read()

    def pipeline(self, *calls: tuple[Any, ...]) -> list[Any]:
        self.sock.sendall(b"".join(self.encode(*c) for c in calls))
        return [self.read() for _ in calls]

    def close(self) -> None:
        self.file.close()
        self.sock.close()


class Redis(Server):
    """redis-server; `args` are its options (`--requirepass`, …). Data survive every stop (appendonly, synced each time)."""

    name = "redis"

    def __init__(self, root: Path, *args: str, password: str | None = None, durable: bool = True) -> None:
        super().__init__(root)
        self.args = list(args)
        self.password = password
        self.durable = durable
        self._client: RedisClient | None = None

    @classmethod
    def installed(cls) -> bool:
        return program("redis", "redis-server") is not None

    def command(self) -> list[str]:
        durable = ["--appendonly", "yes", "--appendfsync", "always"] if self.durable else ["--appendonly", "no"]
        password = ["--requirepass", self.password] if self.password else []
        return [str(program("redis", "redis-server")), "--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.data),
                "--save", "", *durable, *password, *self.args]

    def client(self) -> RedisClient:
        c = RedisClient(self.port)
        if self.password:
            c.call("AUTH", self.password)
        return c

    def answers(self) -> bool:
        with suppress(OSError, RedisError):
            c = self.client()
            try:
                return c.call("PING") == b"PONG"
            finally:
                c.close()
        return False

    def call(self, *words: Any) -> Any:
        """One command, by a connection that is kept and made anew after a restart."""
        for fresh in (False, True):
            if self._client is None:
                self._client = self.client()
                fresh = True
            try:
                return self._client.call(*words)
            except OSError:
                self._client = None
                if fresh:
                    raise
        raise AssertionError("not reached")

    def lines(self, list: str) -> list[bytes]:
        return self.call("LRANGE", list, 0, -1)


# ---- RabbitMQ ----


def rabbitmq_folder() -> Path | None:
    """Where its scripts are: the newest of those that the install script unpacked, else Debian's own."""
    for root in (BROKERS / "rabbitmq", Path("/")):
        found = sorted(root.glob("usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin"))
        if found:
            return found[-1]
    return None


class RabbitMQ(Server):
    """rabbitmq-server with a small Erlang machine and a name service (epmd) of its own, in the same session.

    `settings` are lines of rabbitmq.conf. With `certificates` (a folder with ca.pem, server.pem, server.key) it also listens
    on `tls_port`, and a client must show a certificate of that authority where `client_certificates` is set."""

    name = "rabbitmq"

    def __init__(self, root: Path, *settings: str, user: str = "guest", password: str = "guest",
                 certificates: Path | None = None, client_certificates: bool = False, plugins: tuple[str, ...] = ()) -> None:
        super().__init__(root)
        self.settings = list(settings)
        self.user, self.password = user, password
        self.certificates, self.client_certificates = certificates, client_certificates
        self.plugins = plugins
        self.names_port, self.node_port, self.tls_port = free_port(), free_port(), free_port()
        self._client: AmqpClient | None = None

    @classmethod
    def installed(cls) -> bool:
        return rabbitmq_folder() is not None and shutil.which("epmd") is not None

    def command(self) -> list[str]:
        return ["sh", "-c", f"epmd & exec {rabbitmq_folder()}/rabbitmq-server"]

    def environment(self) -> dict[str, str]:
        quiet = "+S 1:1 +A 4 +sbwt none +sbwtdcpu none +sbwtdio none"
        return {**os.environ, "HOME": str(self.root), "ERL_EPMD_PORT": str(self.names_port), "ERL_EPMD_ADDRESS": "127.0.0.1",
                "RABBITMQ_NODENAME": f"test{self.port}@localhost", "RABBITMQ_NODE_PORT": str(self.port),
                "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1", "RABBITMQ_DIST_PORT": str(self.node_port),
                "RABBITMQ_MNESIA_BASE": str(self.data), "RABBITMQ_LOG_BASE": str(self.root), "RABBITMQ_LOGS": "-",
                "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.root / "plugins"),
                "RABBITMQ_CONFIG_FILE": str(self.root / "rabbitmq"), "RABBITMQ_CONF_ENV_FILE": str(self.root / "none"),
                "RABBITMQ_GENERATED_CONFIG_DIR": str(self.root / "generated"),
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": quiet}

    def prepare(self) -> None:
        lines = ["loopback_users = none", "log.console.level = warning", "disk_free_limit.absolute = 1MB",
                 f"default_user = {self.user}", f"default_pass = {self.password}", *self.settings]
        if self.certificates is not None:
            lines += [f"listeners.ssl.1 = 127.0.0.1:{self.tls_port}", f"ssl_options.cacertfile = {self.certificates}/ca.pem",
                      f"ssl_options.certfile = {self.certificates}/server.pem",
                      f"ssl_options.keyfile = {self.certificates}/server.key",
                      f"ssl_options.verify = {'verify_peer' if self.client_certificates else 'verify_none'}",
                      f"ssl_options.fail_if_no_peer_cert = {str(self.client_certificates).lower()}"]
        (self.root / "rabbitmq.conf").write_text("".join(line + "\n" for line in lines))
        (self.root / "plugins").write_text(f"[{','.join(self.plugins)}].\n")

    def ctl(self, *words: str) -> str:
        done = subprocess.run([f"{rabbitmq_folder()}/rabbitmqctl", "-q", *words], env=self.environment(), capture_output=True,
                              text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def client(self) -> AmqpClient:
        return AmqpClient(self.port, self.user, self.password)

    def answers(self) -> bool:
        with suppress(OSError, AmqpError):
            self.client().close()
            return True
        return False

    def call(self, what: str, *args: Any, **named: Any) -> Any:
        """A method of AmqpClient, by a connection that is kept and made anew after a restart or an error."""
        for fresh in (False, True):
            if self._client is None:
                self._client = self.client()
                fresh = True
            try:
                return getattr(self._client, what)(*args, **named)
            except (OSError, AmqpError) as error:
                self._client.close()
                self._client = None
                if fresh or isinstance(error, AmqpError):
                    raise
        raise AssertionError("not reached")


# ---- Kafka ----


class KafkaError(Exception):
    pass


class _Part(ctypes.Structure):
    _fields_ = [("topic", ctypes.c_char_p), ("partition", ctypes.c_int32), ("offset", ctypes.c_int64),
                ("metadata", ctypes.c_void_p), ("metadata_size", ctypes.c_size_t), ("opaque", ctypes.c_void_p),
                ("err", ctypes.c_int), ("private", ctypes.c_void_p)]


class _Parts(ctypes.Structure):
    _fields_ = [("cnt", ctypes.c_int), ("size", ctypes.c_int), ("elems", ctypes.POINTER(_Part))]


class _Message(ctypes.Structure):
    _fields_ = [("err", ctypes.c_int), ("rkt", ctypes.c_void_p), ("partition", ctypes.c_int32), ("payload", ctypes.c_void_p),
                ("len", ctypes.c_size_t), ("key", ctypes.c_void_p), ("key_len", ctypes.c_size_t), ("offset", ctypes.c_int64),
                ("private", ctypes.c_void_p)]


class _Member(ctypes.Structure):
    _fields_ = [("id", ctypes.c_char_p), ("client", ctypes.c_char_p), ("host", ctypes.c_char_p),
                ("metadata", ctypes.c_void_p), ("metadata_size", ctypes.c_int),
                ("assignment", ctypes.c_void_p), ("assignment_size", ctypes.c_int)]


class _Group(ctypes.Structure):
    _fields_ = [("broker", ctypes.c_int32), ("host", ctypes.c_char_p), ("port", ctypes.c_int), ("name", ctypes.c_char_p),
                ("err", ctypes.c_int), ("state", ctypes.c_char_p), ("protocol_type", ctypes.c_char_p),
                ("protocol", ctypes.c_char_p), ("members", ctypes.POINTER(_Member)), ("n", ctypes.c_int)]


class _Groups(ctypes.Structure):
    _fields_ = [("groups", ctypes.POINTER(_Group)), ("n", ctypes.c_int)]


class KafkaRecord(NamedTuple):
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]


class KafkaClient:
    """Just enough of librdkafka, by ctypes, to look at a cluster and to fill it."""

    def __init__(self, servers: str, **options: str) -> None:
        self.lib = lib = ctypes.CDLL("librdkafka.so.1")
        for name in ("rd_kafka_conf_new", "rd_kafka_new", "rd_kafka_topic_new", "rd_kafka_queue_new", "rd_kafka_queue_poll",
                     "rd_kafka_NewTopic_new", "rd_kafka_DeleteTopic_new", "rd_kafka_event_CreateTopics_result",
                     "rd_kafka_event_DeleteTopics_result", "rd_kafka_CreateTopics_result_topics",
                     "rd_kafka_DeleteTopics_result_topics", "rd_kafka_headers_new"):
            getattr(lib, name).restype = ctypes.c_void_p
        lib.rd_kafka_err2str.restype = ctypes.c_char_p
        lib.rd_kafka_consume.restype = ctypes.POINTER(_Message)
        lib.rd_kafka_topic_partition_list_new.restype = ctypes.POINTER(_Parts)
        self.options = {"bootstrap.servers": servers, "log_level": "0", "message.timeout.ms": "60000", "linger.ms": "2",
                        "topic.metadata.refresh.interval.ms": "1000", **options}
        self.handles: dict[int, ctypes.c_void_p] = {}
        self.topics: dict[tuple[int, str], ctypes.c_void_p] = {}

    def handle(self, kind: int) -> ctypes.c_void_p:
        """kind: 0 a producer, 1 a consumer."""
        if kind not in self.handles:
            why = ctypes.create_string_buffer(512)
            conf = ctypes.c_void_p(self.lib.rd_kafka_conf_new())
            for name, value in self.options.items():
                if self.lib.rd_kafka_conf_set(conf, name.encode(), value.encode(), why, 512) != 0:
                    raise KafkaError(why.value.decode())
            rk = self.lib.rd_kafka_new(kind, conf, why, 512)
            if not rk:
                raise KafkaError(why.value.decode())
            self.handles[kind] = ctypes.c_void_p(rk)
        return self.handles[kind]

    def topic(self, kind: int, name: str) -> ctypes.c_void_p:
        if (kind, name) not in self.topics:
            self.topics[kind, name] = ctypes.c_void_p(self.lib.rd_kafka_topic_new(self.handle(kind), name.encode(), None))
        return self.topics[kind, name]

    def check(self, err: int) -> None:
        if err:
            raise KafkaError(self.lib.rd_kafka_err2str(err).decode())

    def _admin(self, what: str, item: ctypes.c_void_p) -> None:
        queue = ctypes.c_void_p(self.lib.rd_kafka_queue_new(self.handle(0)))
        items = (ctypes.c_void_p * 1)(item)
        getattr(self.lib, f"rd_kafka_{what}Topics")(self.handle(0), items, ctypes.c_size_t(1), None, queue)
        event = self.lib.rd_kafka_queue_poll(queue, 60000)
        if not event:
            raise KafkaError("no answer")
        event = ctypes.c_void_p(event)
        self.check(self.lib.rd_kafka_event_error(event))
        n = ctypes.c_size_t()
        result = ctypes.c_void_p(getattr(self.lib, f"rd_kafka_event_{what}Topics_result")(event))
        results = getattr(self.lib, f"rd_kafka_{what}Topics_result_topics")(result, ctypes.byref(n))
        found = ctypes.cast(results, ctypes.POINTER(ctypes.c_void_p))
        err = self.lib.rd_kafka_topic_result_error(ctypes.c_void_p(found[0]))
        self.lib.rd_kafka_event_destroy(event)
        self.lib.rd_kafka_queue_destroy(queue)
        self.check(err)

    def create(self, topic: str, partitions: int = 1) -> None:
        why = ctypes.create_string_buffer(256)
        self._admin("Create", ctypes.c_void_p(self.lib.rd_kafka_NewTopic_new(topic.encode(), partitions, 1, why, 256)))

    def delete(self, topic: str) -> None:
        self._admin("Delete", ctypes.c_void_p(self.lib.rd_kafka_DeleteTopic_new(topic.encode())))

    def produce(self, topic: str, value: bytes | str | None, key: bytes | None = None, partition: int = -1,
                headers: dict[str, bytes] | None = None) -> None:
        value = value.encode() if isinstance(value, str) else value
        args: list[Any] = [1, topic.encode(), 3, ctypes.c_int32(partition), 7, 2,
                           4, value, ctypes.c_size_t(len(value or b"")), 5, key, ctypes.c_size_t(len(key or b""))]
        for name, content in (headers or {}).items():
            args += [9, name.encode(), content, ctypes.c_ssize_t(len(content))]
        for _ in range(600):
            err = self.lib.rd_kafka_producev(self.handle(0), *args, 0)
            if err not in (-184, -188):  # the queue is full; a topic that it does not know yet
                break
            self.lib.rd_kafka_poll(self.handle(0), 100)
        self.check(err)

    def flush(self, timeout: float = 60) -> None:
        self.check(self.lib.rd_kafka_flush(self.handle(0), int(timeout * 1000)))

    def ends(self, topic: str, partition: int) -> tuple[int, int]:
        low, high = ctypes.c_int64(), ctypes.c_int64()
        self.check(self.lib.rd_kafka_query_watermark_offsets(self.handle(0), topic.encode(), ctypes.c_int32(partition),
                                                             ctypes.byref(low), ctypes.byref(high), 30000))
        return low.value, high.value

    def committed(self, group: str, topic: str, partition: int = 0) -> int:
        """The group's offset of a partition; below zero where there is none. For a client that is only asked this."""
        self.options["group.id"] = group
        parts = self.lib.rd_kafka_topic_partition_list_new(1)
        try:
            self.lib.rd_kafka_topic_partition_list_add(parts, topic.encode(), ctypes.c_int32(partition))
            self.check(self.lib.rd_kafka_committed(self.handle(1), parts, 30000))
            self.check(parts.contents.elems[0].err)
            return int(parts.contents.elems[0].offset)
        finally:
            self.lib.rd_kafka_topic_partition_list_destroy(parts)

    def members(self, group: str) -> list[str]:
        """The ids that the members of a group have; who joins anew gets another."""
        found = ctypes.POINTER(_Groups)()
        self.check(self.lib.rd_kafka_list_groups(self.handle(0), group.encode(), ctypes.byref(found), 30000))
        try:
            one = found.contents.groups[0] if found.contents.n == 1 else None
            return sorted(one.members[i].id.decode() for i in range(one.n)) if one else []
        finally:
            self.lib.rd_kafka_group_list_destroy(found)

    def _headers(self, message: Any) -> list[tuple[str, bytes]]:
        found, headers = [], ctypes.c_void_p()
        name, value, size = ctypes.c_char_p(), ctypes.c_void_p(), ctypes.c_size_t()
        if self.lib.rd_kafka_message_headers(message, ctypes.byref(headers)) == 0:
            while self.lib.rd_kafka_header_get_all(headers, ctypes.c_size_t(len(found)), ctypes.byref(name),
                                                   ctypes.byref(value), ctypes.byref(size)) == 0:
                found.append(((name.value or b"").decode(), ctypes.string_at(value.value or 0, size.value)))
        return found

    def read(self, topic: str, partitions: int = 1) -> list[KafkaRecord]:
        """All that a topic holds now."""
        found, rkt = [], self.topic(1, topic)
        for partition in range(partitions):
            low, high = self.ends(topic, partition)
            if low == high:
                continue
            self.lib.rd_kafka_consume_start(rkt, ctypes.c_int32(partition), ctypes.c_int64(low))
            while True:
                m = self.lib.rd_kafka_consume(rkt, ctypes.c_int32(partition), 30000)
                assert m, f"{topic}/{partition} ends before {high}"
                got = m.contents
                if got.err == 0:
                    found.append(KafkaRecord(partition, got.offset,
                                             ctypes.string_at(got.key, got.key_len) if got.key else None,
                                             ctypes.string_at(got.payload, got.len) if got.payload else None,
                                             self._headers(m)))
                last = got.err == 0 and got.offset + 1 >= high
                self.lib.rd_kafka_message_destroy(m)
                if last:
                    break
            self.lib.rd_kafka_consume_stop(rkt, ctypes.c_int32(partition))
        return found

    def close(self) -> None:
        for rkt in self.topics.values():
            self.lib.rd_kafka_topic_destroy(rkt)
        for rk in self.handles.values():
            self.lib.rd_kafka_destroy(rk)
        self.topics.clear()
        self.handles.clear()


class Kafka(Server):
    """Apache Kafka, one node that is its own controller. `password`: of the user `app`, over SASL; `tls`: certificate and
    key in one PEM file."""

    name = "kafka"
    jars = BROKERS / "kafka" / "3.9.1"

    def __init__(self, root: Path, *, password: str | None = None, tls: Path | None = None, auto_create: bool = False) -> None:
        super().__init__(root)
        self.controller = free_port()
        self.password = password
        self.tls = tls
        self.auto_create = auto_create
        self.advertised = self.port  # that of a proxy, where one stands before it; set before start()
        self._client: KafkaClient | None = None

    @classmethod
    def installed(cls) -> bool:
        return (cls.jars / "complete").exists() and shutil.which("java") is not None

    def _java(self, *args: str) -> list[str]:
        return ["java", "-Xms48m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", f"{self.jars}/*", *args]

    def command(self) -> list[str]:
        return self._java("kafka.Kafka", str(self.root / "server.properties"))

    def protocol(self) -> str:
        return ("SASL_" if self.password else "") + ("SSL" if self.tls else "PLAINTEXT")

    def prepare(self) -> None:
        inner = self.port if self.advertised != self.port else None
        lines = {
            "process.roles": "broker,controller", "node.id": "1", "log.dirs": str(self.data),
            "controller.quorum.voters": f"1@127.0.0.1:{self.controller}", "controller.listener.names": "CONTROLLER",
            "listeners": f"MAIN://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{self.controller}",
            "advertised.listeners": f"MAIN://127.0.0.1:{self.advertised if inner else self.port}",
            "inter.broker.listener.name": "MAIN",
            "listener.security.protocol.map": f"CONTROLLER:PLAINTEXT,MAIN:{self.protocol()}",
            "offsets.topic.num.partitions": "1", "offsets.topic.replication.factor": "1",
            "transaction.state.log.replication.factor": "1", "transaction.state.log.min.isr": "1",
            "transaction.state.log.num.partitions": "1", "group.initial.rebalance.delay.ms": "0",
            "group.min.session.timeout.ms": "1000", "auto.create.topics.enable": str(self.auto_create).lower(),
            "log.cleaner.dedupe.buffer.size": "2097152", "log.segment.bytes": "67108864",
            "log.retention.check.interval.ms": "1000", "file.delete.delay.ms": "1000",
        }
        if self.password:
            login = "org.apache.kafka.common.security.plain.PlainLoginModule required"
            lines |= {"sasl.enabled.mechanisms": "PLAIN", "sasl.mechanism.inter.broker.protocol": "PLAIN",
                      "listener.name.main.plain.sasl.jaas.config":
                      f'{login} username="app" password="{self.password}" user_app="{self.password}";'}
        if self.tls:
            lines |= {"ssl.keystore.type": "PEM", "ssl.keystore.location": str(self.tls), "ssl.truststore.type": "PEM",
                      "ssl.truststore.location": str(self.tls)}
        config = self.root / "server.properties"
        config.write_text("".join(f"{key}={value}\n" for key, value in lines.items()))
        if not (self.data / "meta.properties").exists():
            subprocess.run(self._java("kafka.tools.StorageTool", "format", "-t", "dHJpZ2dlcmQtdGVzdHMtMQ", "-c", str(config)),
                           check=True, capture_output=True)

    def client(self) -> KafkaClient:
        """One that is kept; it connects by itself again."""
        if self._client is None:
            options = {}
            if self.password:
                options |= {"sasl.mechanisms": "PLAIN", "sasl.username": "app", "sasl.password": self.password}
            if self.tls:
                options |= {"enable.ssl.certificate.verification": "false"}
            self._client = KafkaClient(f"127.0.0.1:{self.port}", **{"security.protocol": self.protocol(), **options})
        return self._client

    def answers(self) -> bool:
        with suppress(KafkaError):
            c = self.client()
            meta = ctypes.c_void_p()
            if c.lib.rd_kafka_metadata(c.handle(0), 0, None, ctypes.byref(meta), 2000) == 0:
                c.lib.rd_kafka_metadata_destroy(meta)
                return True
        return False

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
        super().close()
