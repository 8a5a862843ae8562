"""The http step: what is sent, what comes of the answer, and what cannot be made of it."""
from __future__ import annotations

import base64
import json
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from harness import Daemon, pipeline, step_of, wait_for
from test_pipelines import finished, run

Answer = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "Server"
    body: bytes

    def serve(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.requests.append(self)
        self.server.answer(self)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = serve

    def send(self, status: int = 200, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, answer: Answer, context: ssl.SSLContext | None = None) -> None:
        self.requests: list[Handler] = []
        self.answer = answer
        super().__init__(("127.0.0.1", 0), Handler)
        if context:
            self.socket = context.wrap_socket(self.socket, server_side=True)
        scheme = "https" if context else "http"
        self.url = f"{scheme}://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, *_: Any) -> None:
        pass  # clients that are gone


Serve = Callable[..., Server]


@pytest.fixture
def serve() -> Iterator[Serve]:
    made: list[Server] = []

    def make(answer: Answer = lambda h: h.send(body=b"{}"), context: ssl.SSLContext | None = None) -> Server:
        made.append(Server(answer, context))
        return made[-1]

    yield make
    for server in made:
        server.shutdown()
        server.server_close()


def http(url: str, **more: Any) -> dict[str, Any]:
    return {"id": "s", "http": {"url": url, **more}}


# ---- what is sent ----


def test_methods_and_bodies(daemon: Daemon, serve: Serve) -> None:
    server = serve()
    for config, method, kind, body in [
        ({}, "GET", None, b""),
        ({"body": "plain é"}, "POST", "text/plain; charset=utf-8", "plain é".encode()),
        ({"body": [1, "{{ $.inputs.o }}"]}, "POST", "application/json", b'[1,{"a":12345678901234567890}]'),
        ({"body": "{{ $.inputs.o }}"}, "POST", "application/json", b'{"a":12345678901234567890}'),
        ({"body": "{{ $.inputs.t }}"}, "POST", "text/plain; charset=utf-8", b"<x>"),
        ({"body": "<x/>", "headers": {"content-type": "text/xml"}, "method": "PUT"}, "PUT", "text/xml", b"<x/>"),
        ({"method": "POST"}, "POST", None, b""),
        ({"method": "DELETE"}, "DELETE", None, b""),
        ({"method": "HEAD"}, "HEAD", None, b""),
    ]:
        done = run(daemon, http(server.url, **config), inputs={"o": {"a": 12345678901234567890}, "t": "<x>"})
        assert done["status"] == "completed", done
        seen = server.requests[-1]
        assert (seen.command, seen.headers.get("Content-Type"), seen.body) == (method, kind, body)
        assert seen.headers["Idempotency-Key"] == f"{done['id']}/s"
        assert "Expect" not in seen.headers and seen.headers["User-Agent"].startswith("triggerd/")


@pytest.mark.parametrize("body, output", [
    (b'{"a": 1.50}', {"a": 1.5}), (b"[1, 2]", [1, 2]), (b"7", 7), (b"plain \xc3\xa9\n", "plain é\n"), (b"", ""),
    (b"\xff\x00", {"body_base64": base64.b64encode(b"\xff\x00").decode()}), (b"a\x00b", {"body_base64": "YQBi"}),
])
def test_the_output_is_the_body(daemon: Daemon, serve: Serve, body: bytes, output: Any) -> None:
    server = serve(lambda h: h.send(body=body))
    assert run(daemon, http(server.url))["outputs"]["out"] == output


def test_what_is_pasted_stays_in_its_place(daemon: Daemon, serve: Serve) -> None:
    server = serve()
    evil = "a/../b?c=d&e#f\r\nX-Evil: 1"
    done = run(daemon, http(server.url + "/u/{{ $.inputs.v }}?q={{ $.inputs.v }}"), inputs={"v": evil})
    assert done["status"] == "completed"
    quoted = "a%2F..%2Fb%3Fc%3Dd%26e%23f%0D%0AX-Evil%3A%201"
    assert server.requests[-1].path == f"/u/{quoted}?q={quoted}" and "X-Evil" not in server.requests[-1].headers
    n = len(server.requests)
    for config in [{"url": server.url, "headers": {"X-A": "{{ $.inputs.v }}"}},
                   {"url": "http://{{ $.inputs.v }}.example.org/"}, {"url": "{{ $.inputs.v }}"},
                   {"url": server.url + "/x/{{ $.inputs.dots }}/y"}, {"url": "{{ $.inputs.file }}"}]:
        done = run(daemon, {"id": "s", "http": config}, inputs={"v": evil, "dots": "..", "file": "file:///etc/passwd"})
        assert done["status"] == "failed" and "X-Evil" not in done["error_message"], done
    assert len(server.requests) == n


def test_validate(daemon: Daemon) -> None:
    def wrong(config: dict[str, Any]) -> str:
        path = daemon.write("bad.yaml", json.dumps(pipeline("bad", {"id": "s", "http": config})))
        done = daemon.ctl("validate", str(path))
        assert done.returncode == 1, config
        Path(path).unlink()
        return done.stdout

    good = {"url": "http://h/"}
    for config, words in [
        ({}, "url"), ({"url": "ftp://h/"}, "http.url: expected http:// or https://"),
        ({**good, "method": "get"}, "http.method"), ({**good, "method": "CONNECT"}, "http.method"),
        ({**good, "headers": {"a b": "x"}}, "not a header's name"), ({**good, "headers": {"a": "x\r\ny: z"}}, "control"),
        ({**good, "headers": {"content-length": "1"}}, "set by triggerd itself"),
        ({**good, "headers": {"X-A": "1", "x-a": "2"}}, "again"), ({**good, "method": "HEAD", "body": 1}, "HEAD"),
        ({**good, "proxy": "ftp://h"}, "proxy"), ({**good, "max_redirects": 51}, "max_redirects"),
        ({**good, "tls": {"ca_file": "a.pem"}}, "absolute path"), ({**good, "tls": {"key_file": "/k"}}, "cert_file"),
        ({**good, "body": "{{ }}"}, "http.body"), ({**good, "bdy": 1}, "body"),
    ]:
        assert words in wrong(config), config


# ---- what comes back ----


def test_big_answers(daemon: Daemon, serve: Serve) -> None:
    server = serve(lambda h: h.send(body=b'"' + b"x" * 98 + b'"'))
    assert run(daemon, http(server.url, max_output_bytes=100))["outputs"]["out"] == "x" * 98
    n = len(server.requests)
    done = run(daemon, {**http(server.url, max_output_bytes=99), "retry": {"max_attempts": 3, "initial_seconds": 0}})
    assert done["status"] == "failed" and "max_output_bytes" in done["error_message"]
    assert len(server.requests) == n + 1
    kept = daemon.http("GET", f"/api/v1/runs/{done['id']}/steps/s/stdout").body
    assert kept == b'"' + b"x" * 98 + b"\n[triggerd: more bytes were dropped]\n"

    def endless(h: Handler) -> None:
        h.send_response(200)
        h.send_header("Connection", "close")
        h.end_headers()
        try:
            while True:
                h.wfile.write(b"y" * 65536)
        except OSError:
            ended.set()

    ended = threading.Event()
    done = run(daemon, http(serve(endless).url))
    assert done["status"] == "failed" and "1048576 bytes" in done["error_message"]
    assert ended.wait(20)


def test_an_error_says_what_the_server_says(daemon: Daemon, serve: Serve) -> None:
    server = serve(lambda h: h.send(422, b'no such\r\n\trow ' + b"z" * 1000))
    message = run(daemon, http(server.url + "/x"))["error_message"]
    assert f'step "s": GET {server.url}/x: HTTP 422' in message and ": no such row zzz" in message
    assert len(message) < 700


def test_retry_after(daemon: Daemon, serve: Serve) -> None:
    def answer(h: Handler) -> None:
        times.append(time.monotonic())
        waits = {1: "1", 2: formatdate(time.time() + 2, usegmt=True), 3: "3600"}
        n = len(times)
        h.send(503 if n in waits else 200, b"{}", **({"Retry-After": waits[n]} if n in waits else {}))

    times: list[float] = []
    step = {**http(serve(answer).url), "retry": {"max_attempts": 4, "initial_seconds": 0, "jitter": 0, "max_seconds": 1}}
    assert run(daemon, step)["status"] == "completed"
    assert len(times) == 4 and times[1] - times[0] >= 0.99 and times[2] - times[1] >= 0.3


def test_connection_refused(daemon: Daemon) -> None:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    done = run(daemon, http(f"http://user:hidden@127.0.0.1:{port}/x"))
    assert done["status"] == "failed" and f"127.0.0.1 port {port}" in done["error_message"]
    assert "hidden" not in json.dumps(done) and "user:***@" in done["error_message"]


# ---- ends that come early ----


@pytest.fixture
def hung() -> Iterator[tuple[str, list[socket.socket]]]:
    """A server that takes connections and says nothing."""
    listener = socket.create_server(("127.0.0.1", 0))
    taken: list[socket.socket] = []

    def take() -> None:
        try:
            while True:
                taken.append(listener.accept()[0])
        except OSError:
            pass

    threading.Thread(target=take, daemon=True).start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}", taken
    listener.close()
    for s in taken:
        s.close()


def closed(s: socket.socket) -> bool:
    s.settimeout(20)
    while True:
        try:
            if not s.recv(65536):
                return True
        except ConnectionError:
            return True


def test_a_slow_server(daemon: Daemon, hung: tuple[str, list[socket.socket]]) -> None:
    url, taken = hung
    done = run(daemon, {**http(url), "timeout_seconds": 0.2})
    assert (done["status"], step_of(done, "s")["status"]) == ("timed_out", "timed_out")
    wait_for(lambda: taken and closed(taken[0]), what="the connection is closed")


def test_cancel(daemon: Daemon, hung: tuple[str, list[socket.socket]]) -> None:
    url, taken = hung
    daemon.put("p.yaml", pipeline("p", http(url)))
    id = daemon.post("/api/v1/pipelines/p/run", {})["id"]
    wait_for(lambda: taken)
    daemon.post(f"/api/v1/runs/{id}/cancel", {})
    assert finished(daemon, id)["status"] == "cancelled"
    assert closed(taken[0])


def test_a_stop_while_it_waits(daemon: Daemon, hung: tuple[str, list[socket.socket]]) -> None:
    url, taken = hung
    daemon.put("p.yaml", pipeline("p", http(url)))
    id = daemon.post("/api/v1/pipelines/p/run", {})["id"]
    wait_for(lambda: taken)
    daemon.kill9()
    daemon.start()
    wait_for(lambda: len(taken) == 2, what="it is sent again")
    daemon.post(f"/api/v1/runs/{id}/cancel", {})
    finished(daemon, id)


# ---- redirects ----


def test_redirects(daemon: Daemon, serve: Serve) -> None:
    def answer(h: Handler) -> None:
        status, _, to = h.path[1:].partition("/")
        if status.isdigit():
            h.send(int(status), b"gone there", Location="/" + to)
        else:
            h.send(body=json.dumps({"m": h.command, "b": h.body.decode(), "a": h.headers.get("X-A")}).encode())

    server = serve(answer)
    for path, method, body in [("301/x", "GET", ""), ("302/x", "GET", ""), ("303/x", "GET", ""), ("307/x", "POST", "b"),
                               ("308/307/x", "POST", "b"), ("307/303/308/x", "GET", "")]:
        done = run(daemon, http(f"{server.url}/{path}", body="b", headers={"X-A": "1"}))
        assert done["outputs"]["out"] == {"m": method, "b": body, "a": "1"}, path
    assert "Content-Type" not in server.requests[-1].headers
    done = run(daemon, http(server.url + "/302" * 3 + "/x", max_redirects=2))
    assert done["status"] == "failed" and "more than 2 redirects" in done["error_message"]
    assert run(daemon, http(server.url + "/302/x", max_redirects=0))["outputs"]["out"] == "gone there"


def test_nothing_secret_goes_to_another_origin(daemon: Daemon, serve: Serve) -> None:
    other = serve()
    first = serve(lambda h: h.send(307, Location=h.server.to))  # type: ignore[attr-defined]
    headers = {"Authorization": "Bearer x", "Cookie": "a=b", "X-Mine": "1", "Content-Type": "text/csv"}
    for back in [other.url + "/x", other.url.replace("http://", "http://u:p@")]:
        first.to = back  # type: ignore[attr-defined]
        assert run(daemon, http(first.url.replace("//", "//u:p@"), body="1,2", headers={**headers, "X-To": back}))["status"] == "completed"
        assert first.requests[-1].headers["X-Mine"] == "1"
        seen = other.requests[-1]
        assert not {"authorization", "cookie", "x-mine", "x-to"} & {k.lower() for k in seen.headers}
        assert seen.headers["Content-Type"] == "text/csv" and seen.body == b"1,2" and seen.headers["Idempotency-Key"]
    for scheme in ("file:///etc/passwd", "ftp://127.0.0.1/x"):
        first.to = scheme  # type: ignore[attr-defined]
        assert run(daemon, http(first.url, headers={"X-To": scheme}))["status"] == "failed"


# ---- TLS ----


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    at = tmp_path_factory.mktemp("pki")

    def openssl(*args: str) -> None:
        subprocess.run(["openssl", *args], cwd=at, check=True, capture_output=True)

    for name, subject in [("ca", "/CN=Test CA"), ("other", "/CN=Other CA")]:
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj",
                subject, "-keyout", f"{name}.key", "-out", f"{name}.pem")
    (at / "ext").write_text("subjectAltName=IP:127.0.0.1\n")
    for name in ("server", "client"):
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}", "-keyout",
                f"{name}.key", "-out", f"{name}.csr")
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
                "-extfile", "ext", "-out", f"{name}.pem")
    return at


def context(pki: Path, client: bool = False) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(pki / "server.pem", pki / "server.key")
    if client:
        made.load_verify_locations(pki / "ca.pem")
        made.verify_mode = ssl.CERT_REQUIRED
    return made


def test_tls(daemon: Daemon, serve: Serve, pki: Path) -> None:
    server = serve(context=context(pki))
    for tls, ok in [(None, False), ({"ca_file": str(pki / "ca.pem")}, True), ({"ca_file": str(pki / "other.pem")}, False),
                    ({"verify": False}, True)]:
        done = run(daemon, http(server.url, **({"tls": tls} if tls else {})))
        assert done["status"] == ("completed" if ok else "failed"), (tls, done)
        assert ok or "certificate" in done["error_message"]
    wrong_name = server.url.replace("127.0.0.1", "localhost")
    assert run(daemon, http(wrong_name, tls={"ca_file": str(pki / "ca.pem")}))["status"] == "failed"
    done = run(daemon, http(server.url, tls={"ca_file": str(pki / "none.pem")}))
    assert "tls.ca_file" in done["error_message"] and "none.pem" in done["error_message"]
    plain = serve()
    server.answer = lambda h: h.send(302, Location=plain.url)
    done = run(daemon, http(server.url, tls={"verify": False}))
    assert done["status"] == "failed" and "https to http" in done["error_message"] and not plain.requests


def test_client_certificates(daemon: Daemon, serve: Serve, pki: Path) -> None:
    server = serve(context=context(pki, client=True))
    tls = {"ca_file": str(pki / "ca.pem")}
    assert run(daemon, http(server.url, tls=tls))["status"] == "failed"
    tls |= {"cert_file": str(pki / "client.pem"), "key_file": str(pki / "client.key")}
    assert run(daemon, http(server.url, tls=tls))["status"] == "completed"


# ---- proxies, secrets, many ----


def test_proxies_only_when_asked(make_daemon: Callable[..., Daemon], serve: Serve) -> None:
    proxy, server = serve(lambda h: h.send(body=b'"by proxy"')), serve(lambda h: h.send(body=b'"direct"'))
    d = make_daemon("d", env={"http_proxy": proxy.url, "HTTP_PROXY": proxy.url, "no_proxy": ""})
    d.start()
    for asked, expected in [(None, "direct"), (False, "direct"), (True, "by proxy"), (proxy.url, "by proxy")]:
        done = run(d, http(server.url + "/x", **({} if asked is None else {"proxy": asked})))
        assert done["outputs"]["out"] == expected, asked
    assert proxy.requests[-1].path == server.url + "/x"


def test_secrets(make_daemon: Callable[..., Daemon], serve: Serve) -> None:
    secret = "s3cr/t +&wörd"
    server = serve(lambda h: h.send(500 if h.path.startswith("/fail") else 200, json.dumps({
        "path": h.path, "body": h.body.decode(), "auth": h.headers.get("X-Auth", "").encode("latin-1").decode()}).encode()))
    d = make_daemon("d", env={"WORD": secret})
    d.start()
    config = {"headers": {"X-Auth": "Bearer ${env:WORD}"}, "body": {"word": "${env:WORD}", "n": "{{ $.inputs.n }}"}}
    done = run(d, http(server.url + "/ok?w=${env:WORD}", **config), inputs={"n": 1})
    assert done["status"] == "completed", done
    seen = server.requests[-1]
    assert json.loads(seen.body) == {"word": secret, "n": 1}
    assert seen.path == "/ok?w=s3cr%2Ft%20%2B%26w%C3%B6rd"
    assert seen.headers["X-Auth"].encode("latin-1").decode() == f"Bearer {secret}"
    failed = run(d, http(server.url + "/fail?w=${env:WORD}", **config), inputs={"n": 1})
    assert failed["status"] == "failed" and "${env:WORD}" in failed["error_message"]
    for shown in (json.dumps(done, ensure_ascii=False), json.dumps(failed, ensure_ascii=False)):
        assert secret not in shown and "***" in shown
    missing = run(d, http(server.url, headers={"X-Auth": "${env:NOWHERE}"}))
    assert "NOWHERE" in missing["error_message"]


def test_many_side_by_side(daemon: Daemon, serve: Serve) -> None:
    together = threading.Barrier(64, timeout=60)

    def answer(h: Handler) -> None:
        together.wait()
        h.send(body=h.path[1:].encode())

    server = serve(answer)
    done = run(daemon, *({"id": f"s{n}", "http": {"url": f"{server.url}/{n}"}} for n in range(64)),
               outputs={f"o{n}": f"$.steps.s{n}.output" for n in range(64)})
    assert done["status"] == "completed"
    assert done["outputs"] == {f"o{n}": n for n in range(64)}
