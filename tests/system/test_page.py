"""The page at `/`: what it may do, and, where there is a browser, what it shows."""
from __future__ import annotations

import base64
import hashlib
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from harness import ECHO, Daemon, custom, wait_for

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def policy(answer: Any) -> dict[str, str]:
    parts = (p.strip().partition(" ") for p in answer.headers["Content-Security-Policy"].split(";"))
    return {name: value for name, _, value in parts}


def test_it_may_do_nothing_but_ask_us(daemon: Daemon) -> None:
    answer = daemon.http("GET", "/")
    assert answer.status == 200 and answer.headers.get_content_type() == "text/html"
    text = answer.body.decode()
    rules = policy(answer)
    assert rules["default-src"] == "'none'" and rules["connect-src"] == "'self'" and rules["frame-ancestors"] == "'none'"
    for tag in ("script", "style"):
        inner = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        assert len(inner) == 1
        digest = base64.b64encode(hashlib.sha256(inner[0].encode()).digest()).decode()
        assert rules[f"{tag}-src"] == f"'sha256-{digest}'"
    assert not re.search(r"https?://|//[a-z]|\bsrc=|innerHTML|\bstyle=|\bon[a-z]+=", text), "no outside, no inline handlers"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_it_needs_no_token_and_shows_nothing_by_itself(make_daemon: Any) -> None:
    d: Daemon = make_daemon(listen=True)
    (d.root / "token").write_text("token-0123456789\n")
    (d.root / "triggerd.yaml").write_text(f"api: {{token_file: {d.root}/token}}\n")
    d.args += ["--config", str(d.root / "triggerd.yaml")]
    d.start()
    d.put("m.yaml", ECHO, custom("very-secret-name"))
    answer = d.http("GET", "/", tcp=True)
    assert answer.status == 200 and b"very-secret-name" not in answer.body
    assert d.http("GET", "/openapi.json", tcp=True).status == 200
    assert d.http("GET", "/api/v1/triggers", tcp=True).status == 401
    assert d.http("POST", "/", {}, tcp=True).status == 405 or d.http("POST", "/", {}, tcp=True).status == 401


@pytest.mark.skipif(BROWSER is None, reason="no chromium")
def test_in_a_browser(make_daemon: Any, tmp_path: Path) -> None:
    d: Daemon = make_daemon(listen=True).start()
    d.put("m.yaml", ECHO, custom("orders"))
    d.write("bad.yaml", "name: x\npipeline_id: p\ntrigger_type: custom\nconfig: {}\n")
    wait_for(d.errors)
    d.wait_event(d.emit1("orders")["id"])

    def shown() -> str:
        assert BROWSER is not None
        done = subprocess.run([BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}",
                               "--virtual-time-budget=3000", "--dump-dom", f"http://127.0.0.1:{d.port}/"],
                              capture_output=True, text=True, timeout=60)
        return done.stdout

    text = shown()
    for word in ("orders", "custom_orders", "fired", "completed", "bad.yaml:4:", "active", "live", "manifest errors"):
        assert f"{word}" in text, text[-3000:]
    assert not re.search(r'id="wrong"[^>]*hidden', text)
    (d.manifests / "bad.yaml").unlink()
    d.put("q.yaml", custom("lost", pipeline="nowhere"))
    wait_for(lambda: not d.errors())
    text = shown()
    assert re.search(r'id="wrong"[^>]*hidden', text), "no errors: no place for them"
    assert 'pipeline "nowhere" not found' in text
    assert text.index(">lost<") < text.index(">orders<"), "what asks for attention comes first"
