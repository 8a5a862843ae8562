"""TLS over TCP: certificates of an authority made for the test."""
from __future__ import annotations

import http.client
import signal
import socket
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest
from harness import ECHO, Daemon, custom, wait_for

T = "/api/v1/triggers"


class Authority:
    """An authority that signs, by openssl."""

    def __init__(self, dir: Path, name: str = "ca") -> None:
        self.dir = dir
        self.cert, self.key = dir / f"{name}.crt", dir / f"{name}.key"
        self._run("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj",
                  f"/CN={name}", "-keyout", self.key, "-out", self.cert)

    @staticmethod
    def _run(*args: str | Path) -> None:
        subprocess.run(["openssl", *args], check=True, capture_output=True, timeout=60)

    def sign(self, name: str) -> tuple[Path, Path]:
        """A certificate for 127.0.0.1 and its key."""
        request, cert, key, more = (self.dir / f"{name}.{e}" for e in ("csr", "crt", "key", "ext"))
        more.write_text("subjectAltName=IP:127.0.0.1\n")
        self._run("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}",
                  "-keyout", key, "-out", request)
        self._run("x509", "-req", "-in", request, "-CA", self.cert, "-CAkey", self.key, "-CAcreateserial", "-days", "2",
                  "-extfile", more, "-out", cert)
        return cert, key


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    (tmp_path / "pki").mkdir()
    return Authority(tmp_path / "pki")


def secured(d: Daemon, cert: Path, key: Path, more: str = "") -> Daemon:
    (d.root / "triggerd.yaml").write_text(f"api: {{tls: {{cert_file: {cert}, key_file: {key}{more}}}}}\n")
    d.args += ["--config", str(d.root / "triggerd.yaml")]
    return d


def connect(d: Daemon, authority: Authority, client: tuple[Path, Path] | None = None) -> http.client.HTTPSConnection:
    context = ssl.create_default_context(cafile=str(authority.cert))
    if client:
        context.load_cert_chain(*client)
    return http.client.HTTPSConnection("127.0.0.1", d.port, timeout=10, context=context)


def ask(connection: http.client.HTTPConnection, method: str = "GET", path: str = T, body: str | None = None) -> tuple[int, bytes]:
    connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
    answer = connection.getresponse()
    return answer.status, answer.read()


def name_of(connection: http.client.HTTPSConnection) -> str:
    return dict(pair[0] for pair in connection.sock.getpeercert()["subject"])["commonName"]


def test_it_serves_tls(make_daemon: Any, authority: Authority) -> None:
    d = secured(make_daemon(listen=True), *authority.sign("one")).start()
    d.put("m.yaml", ECHO, custom("t"))
    c = connect(d, authority)
    for i in range(3):  # one connection, small and large
        status, body = ask(c, "POST", f"{T}/emit", '{"endpoint": "t", "data": "%s"}' % ("x" * 200000 * i))
        assert status == 200 and len(body) > 200000 * i
    with pytest.raises((OSError, http.client.HTTPException)):
        ask(http.client.HTTPConnection("127.0.0.1", d.port, timeout=5))
    # What libmicrohttpd says by itself comes encrypted too.
    raw = ssl.create_default_context(cafile=str(authority.cert)).wrap_socket(
        socket.create_connection(("127.0.0.1", d.port), 5), server_hostname="127.0.0.1")
    raw.sendall(b"GET /x HTTP/7.1\r\nHost: x\r\n\r\n")
    assert raw.recv(65536).startswith(b"HTTP/1.1 505 ")
    raw.close()


def test_streams_over_tls(make_daemon: Any, authority: Authority) -> None:
    d = secured(make_daemon(listen=True), *authority.sign("one")).start()
    d.put("m.yaml", ECHO, custom("t"))
    c = connect(d, authority)
    c.request("GET", "/api/v1/events/stream")
    answer = c.getresponse()
    event = d.emit1("t")
    assert event["id"] in answer.read1(65536).decode() + answer.read1(65536).decode()
    c.sock.close()


def test_another_certificate_at_sighup(make_daemon: Any, authority: Authority) -> None:
    cert, key = authority.sign("one")
    d = secured(make_daemon(listen=True), cert, key).start()
    d.put("m.yaml", ECHO, custom("t"))
    old, stream = connect(d, authority), connect(d, authority)
    assert ask(old)[0] == 200 and name_of(old) == "one"
    stream.request("GET", "/api/v1/events/stream")
    answer = stream.getresponse()
    before = len(list(Path(f"/proc/{d.pid}/fd").iterdir()))
    for name in ("two", "three"):
        fresh = authority.sign(name)
        fresh[0].replace(cert)
        fresh[1].replace(key)
        d.signal(signal.SIGHUP)

        def now() -> str:
            c = connect(d, authority)
            assert ask(c)[0] == 200
            found = name_of(c)
            c.close()
            return found

        wait_for(lambda name=name: now() == name)
    assert ask(old)[0] == 200 and name_of(old) == "one", "a connection that was there goes on"
    event = d.emit1("t")
    assert event["id"].encode() in answer.read1(65536)
    # One that is no certificate changes nothing.
    cert.write_text("no certificate\n")
    d.signal(signal.SIGHUP)
    wait_for(lambda: "the certificate of before stays" in d.output())
    assert now() == "three"
    old.close()
    stream.sock.close()
    answer.close()
    wait_for(lambda: len(list(Path(f"/proc/{d.pid}/fd").iterdir())) <= before, what="nothing of the old ones is left")


def test_certificates_of_clients(make_daemon: Any, authority: Authority, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = Authority(tmp_path / "other")
    server, client, stranger = authority.sign("server"), authority.sign("client"), other.sign("stranger")
    d = secured(make_daemon(listen=True), *server, f", client_ca_file: {authority.cert}").start()
    assert ask(connect(d, authority, client))[0] == 200
    for wrong in (None, stranger):
        with pytest.raises((OSError, http.client.HTTPException)):
            ask(connect(d, authority, wrong))
    assert d.http("GET", T).status == 200, "the unix socket asks for none"


def test_files_that_are_none(make_daemon: Any, authority: Authority) -> None:
    cert, key = authority.sign("one")
    _, other = authority.sign("other")
    (authority.dir / "empty").touch()
    for a, b in ((cert, authority.dir / "missing"), (authority.dir / "empty", key), (key, key), (cert, other)):
        d = secured(make_daemon(listen=True), a, b)
        d.spawn()
        assert d.wait(20) == 1, (a, b)
        assert "TLS: " in d.output()
