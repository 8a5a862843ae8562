"""HTTP to the daemon: over its unix socket or TCP, connections kept, one user of each at a time."""
from __future__ import annotations

import contextlib
import http.client
import json
import random
import socket
import ssl
import threading
import time
import urllib.parse
from collections.abc import Iterator, Mapping
from typing import Any, Optional

from .errors import ConnectionFailed, Problem, TriggerdError, problem_of

KEPT = 4  # idle connections
RETRIES = 4  # of what may be sent again
RETRY_FIRST_SECONDS = 0.1
RETRY_MAX_SECONDS = 5.0


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: Optional[float]) -> None:
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Answer:
    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    def json(self) -> Any:
        return json.loads(self.body) if self.body else None


class Http:
    def __init__(self, socket_path: Optional[str], url: Optional[str], token: Optional[str],
                 ssl_context: Optional[ssl.SSLContext], timeout: Optional[float]) -> None:
        self.socket_path = socket_path
        self.timeout = timeout
        self._ssl = ssl_context
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._idle: list[http.client.HTTPConnection] = []
        self._lock = threading.Lock()
        self._prefix = ""
        if url is not None:
            parts = urllib.parse.urlsplit(url)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ValueError(f"expected http://HOST[:PORT] or https://HOST[:PORT], got {url!r}")
            self._secure, self._host, self._port = parts.scheme == "https", parts.hostname, parts.port
            self._prefix = parts.path.rstrip("/")
        self.where = url if url is not None else f"{socket_path}"

    def connection(self, timeout: Optional[float]) -> http.client.HTTPConnection:
        """A new one, not yet connected."""
        if self.socket_path is not None:
            return UnixConnection(self.socket_path, timeout)
        if self._secure:
            return http.client.HTTPSConnection(self._host, self._port, timeout=timeout, context=self._ssl)
        return http.client.HTTPConnection(self._host, self._port, timeout=timeout)

    def close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for c in idle:
            c.close()

    def request(self, method: str, path: str, body: Optional[bytes], headers: Mapping[str, str],
                again: bool) -> Answer:
        """`again`: it may be sent a second time where it is not known whether the first had an effect."""
        for attempt in range(RETRIES + 1):
            wait = min(RETRY_FIRST_SECONDS * 2 ** attempt, RETRY_MAX_SECONDS) * random.uniform(0.8, 1.2)
            try:
                answer = self._once(method, path, body, headers)
                if answer.status < 400:
                    return answer
                raise _problem(answer)
            except Problem as e:
                if e.status not in (429, 503) or not again or attempt == RETRIES:
                    raise
                wait = max(wait, min(e.retry_after or 0, RETRY_MAX_SECONDS))
            except _NotSent as e:
                if attempt == RETRIES or not e.was_kept:
                    raise self._failed(e.__cause__) from e.__cause__
                wait = 0  # the daemon had closed a kept connection: another is tried at once
            except (OSError, http.client.HTTPException) as e:
                if not again or attempt == RETRIES or isinstance(e, (FileNotFoundError, PermissionError)):
                    raise self._failed(e) from e
            if wait:
                time.sleep(wait)
        raise TriggerdError("not reached")

    def _failed(self, e: Optional[BaseException]) -> ConnectionFailed:
        return ConnectionFailed(f"no answer from triggerd at {self.where}: {e or 'the connection was lost'}")

    def _once(self, method: str, path: str, body: Optional[bytes], headers: Mapping[str, str]) -> Answer:
        with self._lock:
            kept = self._idle.pop() if self._idle else None
        c = kept or self.connection(self.timeout)
        try:
            try:
                c.request(method, self._prefix + path, body=body, headers={**self._headers, **headers})
                r = c.getresponse()
            except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError) as e:
                if kept is not None:
                    raise _NotSent(True) from e
                raise
            except (ConnectionRefusedError, FileNotFoundError, PermissionError, socket.gaierror) as e:
                raise _NotSent(False) from e
            answer = Answer(r.status, dict(r.headers), r.read())
        except BaseException:
            c.close()
            raise
        with self._lock:
            if len(self._idle) < KEPT and c.sock is not None:
                self._idle.append(c)
                return answer
        c.close()
        return answer

    @contextlib.contextmanager
    def stream(self, path: str, headers: Mapping[str, str],
               timeout: Optional[float]) -> Iterator[http.client.HTTPResponse]:
        """A response that is read as it comes, on a connection of its own."""
        c = self.connection(timeout)
        try:
            try:
                c.request("GET", self._prefix + path, headers={**self._headers, **headers})
                r = c.getresponse()
            except (OSError, http.client.HTTPException) as e:
                raise self._failed(e) from e
            if r.status >= 400:
                raise _problem(Answer(r.status, dict(r.headers), r.read()))
            yield r
        finally:
            c.close()


class _NotSent(Exception):
    """The daemon has not taken the request, or closed the kept connection that it went to."""

    def __init__(self, was_kept: bool) -> None:
        self.was_kept = was_kept


def _problem(answer: Answer) -> Problem:
    try:
        body: Any = answer.json()
    except ValueError:
        body = answer.body.decode("utf-8", "replace")
    return problem_of(answer.status, body, answer.headers)
