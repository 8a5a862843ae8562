"""Real brokers for tests and benchmarks: each a process of its own on a free loopback port, in a directory of its own; and
a proxy between a broker and its clients that makes the faults of a network.

Standard library only. tests/install-brokers.sh brings the servers; what is not there skips its tests.
"""
from __future__ import annotations

import asyncio
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
from typing import Any, TypeVar

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
