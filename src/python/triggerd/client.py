"""The client: the API of one daemon."""
from __future__ import annotations

import hashlib
import json
import os
import random
import ssl
import threading
import time
import urllib.parse
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timezone
from typing import Any, Callable, Optional, Union, cast

from ._http import Answer, Http
from .errors import ConnectionFailed, Unavailable
from .model import DryRun, Emitted, Event, Page, Pipeline, Run, Stats, Trigger
from .worker import current_request

Query = Union[str, int, float, bool, None]
FINAL_RUN = ("completed", "failed", "cancelled", "timed_out")
TOLD_MAX = 4096  # changes that follow() remembers having told
FINAL_EVENT = ("completed", "failed", "skipped", "cancelled")


def find_socket() -> str:
    """Where the daemon of this user or machine listens: TRIGGERD_SOCKET, else its default place."""
    named = os.environ.get("TRIGGERD_SOCKET")
    if named:
        return named
    if os.geteuid() == 0:
        return "/run/triggerd/triggerd.sock"
    base = os.environ.get("XDG_RUNTIME_DIR")
    own = f"{base}/triggerd/triggerd.sock" if base else f"/tmp/triggerd-{os.getuid()}/triggerd.sock"
    system = "/run/triggerd/triggerd.sock"
    return system if not os.path.exists(own) and os.path.exists(system) else own


class Client:
    """A daemon, by its unix socket (found by find_socket() unless it is given) or by its URL with a token.

    Of use to several threads at once. Reads, and what carries an idempotency key, are sent again where the connection
    fails or the daemon asks for patience (429, 503), a few times within some seconds; all else is sent once.

    Used in a step of a run (or while a worker answers), what it emits and runs belongs to that run's chain and trace, and
    emits made again by another attempt of the step are one event.
    """

    def __init__(self, url: Optional[str] = None, *, socket: Union[str, os.PathLike[str], None] = None,
                 token: Optional[str] = None, timeout: Optional[float] = 30.0,
                 ssl_context: Optional[ssl.SSLContext] = None) -> None:
        if url is not None and socket is not None:
            raise ValueError("expected a URL or a socket, got both")
        if url is not None and url.startswith("unix://"):
            socket, url = url[len("unix://"):], None
        path = None if url is not None else os.fspath(socket) if socket is not None else find_socket()
        self._http = Http(path, url, token, ssl_context, timeout)
        self._emitted: Counter[str] = Counter()
        self._emitted_lock = threading.Lock()

    def close(self) -> None:
        """Close the connections that are kept; it may be used again."""
        self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client({self._http.where!r})"

    # -- triggers --

    def triggers(self, *, pipeline_id: Optional[str] = None, trigger_type: Optional[str] = None,
                 enabled_only: bool = False, status: Optional[str] = None, page: int = 1,
                 page_size: int = 50) -> Page[Trigger]:
        return self._page("/api/v1/triggers", "triggers", pipeline_id=pipeline_id, trigger_type=trigger_type,
                          enabled_only=enabled_only or None, status=status, page=page, page_size=page_size)

    def trigger(self, trigger_id: str) -> Trigger:
        return cast(Trigger, self._get(f"/api/v1/triggers/{_quote(trigger_id)}"))

    def describe_trigger(self, trigger_id: str) -> dict[str, Any]:
        """The trigger with its counts by decision, last events, and what only its filter turned away."""
        return cast("dict[str, Any]", self._get(f"/api/v1/triggers/{_quote(trigger_id)}/describe"))

    def create_trigger(self, name: str, pipeline_id: str, trigger_type: str, config: Mapping[str, Any],
                       **more: Any) -> Trigger:
        """Write a manifest; `more` is what else a trigger has: id, description, enabled, max_concurrent, …"""
        given = {"name": name, "pipeline_id": pipeline_id, "trigger_type": str(getattr(trigger_type, "value", trigger_type)),
                 "config": dict(config), **_given(more)}
        return cast(Trigger, self._send("POST", "/api/v1/triggers", given))

    def update_trigger(self, trigger_id: str, *, if_match: Optional[str] = None, **changes: Any) -> Trigger:
        """Change what is named. `if_match`: only if it is still the one with this ETag (trigger_etag())."""
        return cast(Trigger, self._send("PUT", f"/api/v1/triggers/{_quote(trigger_id)}", _given(changes), if_match))

    def trigger_etag(self, trigger_id: str) -> str:
        return self._request("GET", f"/api/v1/triggers/{_quote(trigger_id)}", again=True).headers.get("ETag", "")

    def delete_trigger(self, trigger_id: str, *, if_match: Optional[str] = None) -> None:
        self._send("DELETE", f"/api/v1/triggers/{_quote(trigger_id)}", None, if_match)

    def pause_trigger(self, trigger_id: str) -> Trigger:
        return cast(Trigger, self._send("POST", f"/api/v1/triggers/{_quote(trigger_id)}/pause")["trigger"])

    def resume_trigger(self, trigger_id: str, *, discard: bool = False) -> Trigger:
        """Also clears an error. `discard`: events that were held go as skipped instead of running."""
        path = f"/api/v1/triggers/{_quote(trigger_id)}/resume" + ("?discard=true" if discard else "")
        return cast(Trigger, self._send("POST", path)["trigger"])

    def test_trigger(self, trigger_id: str, data: Any = None) -> Event:
        """Run its pipeline for real with this as event data."""
        return cast(Event, self._send("POST", f"/api/v1/triggers/{_quote(trigger_id)}/test",
                                      {} if data is None else data))

    def dry_run(self, trigger_id: str, data: Any = None) -> DryRun:
        """What an event with this data would meet; nothing happens."""
        return cast(DryRun, self._send("POST", f"/api/v1/triggers/{_quote(trigger_id)}/test?dry_run=true",
                                       {} if data is None else data))

    # -- events --

    def events(self, *, trigger_id: Optional[str] = None, pipeline_id: Optional[str] = None,
               event_type: Optional[str] = None, status: Optional[str] = None, decision: Optional[str] = None,
               since: Optional[str] = None, until: Optional[str] = None, page: int = 1,
               page_size: int = 50) -> Page[Event]:
        return self._page("/api/v1/triggers/events", "events", trigger_id=trigger_id, pipeline_id=pipeline_id,
                          event_type=event_type, status=status, decision=decision, since=since, until=until, page=page,
                          page_size=page_size)

    def event(self, event_id: str) -> Event:
        return cast(Event, self._get(f"/api/v1/triggers/events/{_quote(event_id)}"))

    def wait_event(self, event_id: str, timeout: Optional[float] = None) -> Event:
        """The event once it has ended. TimeoutError when that takes longer."""
        return cast(Event, _wait(lambda: self.event(event_id), FINAL_EVENT, event_id, timeout))

    def emit(self, endpoint: str, data: Any = None, *, idempotency_key: Optional[str] = None) -> Emitted:
        """Send a custom event. It is recorded when this returns. The key makes it one event however often it is sent; one
        is made where none is given."""
        body = _json({"endpoint": endpoint, "data": {} if data is None else data})
        key = idempotency_key or self._emit_key(endpoint, body)
        return cast(Emitted, self._request("POST", "/api/v1/triggers/emit", body, {"Idempotency-Key": key},
                                           again=True).json())

    def emit_mcp(self, server_name: str, event_type: str, data: Any = None) -> Emitted:
        """Send an event of an MCP server whose connection is the caller's."""
        path = "/api/v1/triggers/emit/mcp" + _query(server_name=server_name, event_type=event_type)
        return cast(Emitted, self._send("POST", path, {} if data is None else data))

    def replay(self, *event_ids: str, dry_run: bool = False, **by: Any) -> dict[str, Any]:
        """Make events anew from stored ones: by their ids, or by trigger_id, pipeline_id, event_type, status, decision,
        since, until. `dry_run`: only tell which."""
        if event_ids and by:
            raise ValueError("expected ids or a filter, got both")
        if not event_ids:
            return cast("dict[str, Any]", self._send("POST", "/api/v1/events/replay", {**by, "dry_run": dry_run}))
        if dry_run:
            raise ValueError("dry_run tells what a filter finds; ids are known")
        events = [self._send("POST", "/api/v1/events/replay", {"event_id": i}) for i in event_ids]
        return {"matched": len(events), "replayed": len(events), "events": events}

    def follow(self, *, trigger_id: Optional[str] = None, pipeline_id: Optional[str] = None,
               event_type: Optional[str] = None, status: Optional[str] = None, decision: Optional[str] = None,
               last_event_id: Optional[str] = None) -> Iterator[Event]:
        """Every change of an event's status as it happens, for as long as it is iterated. When the connection or the daemon
        has come back it goes on where it was; of events from a time that the stream does not remember, the last status is
        told."""
        by: dict[str, Any] = {"trigger_id": trigger_id, "pipeline_id": pipeline_id, "event_type": event_type,
                              "status": status, "decision": decision}
        path = "/api/v1/events/stream" + _query(**by)
        told: dict[tuple[str, str], None] = {}
        position, wait, since = last_event_id, 0.1, _now()
        while True:
            try:
                for kind, position, text in self._messages(path, position):
                    wait = 0.1
                    missed = self._missed(by, since) if kind == "gap" else []
                    for event in [*missed, *([cast(Event, json.loads(text))] if kind == "message" else [])]:
                        change = (event["id"], event["status"])
                        if change not in told:
                            told[change] = None
                            since = event["occurred_at"] or since
                            yield event
                    while len(told) > TOLD_MAX:
                        del told[next(iter(told))]
            except Unavailable as e:
                wait = max(wait, min(e.retry_after or 0, 5))
            except (ConnectionFailed, OSError):
                pass
            time.sleep(wait * random.uniform(0.8, 1.2))
            wait = min(wait * 2, 5.0)

    # -- pipelines and runs --

    def pipelines(self, *, page: int = 1, page_size: int = 50) -> Page[Pipeline]:
        return self._page("/api/v1/pipelines", "pipelines", page=page, page_size=page_size)

    def pipeline(self, pipeline_id: str) -> Pipeline:
        return cast(Pipeline, self._get(f"/api/v1/pipelines/{_quote(pipeline_id)}"))

    def create_pipeline(self, id: str, steps: Iterable[Mapping[str, Any]], **more: Any) -> Pipeline:
        return cast(Pipeline, self._send("POST", "/api/v1/pipelines",
                                         {"id": id, "steps": [dict(s) for s in steps], **_given(more)}))

    def update_pipeline(self, pipeline_id: str, *, if_match: Optional[str] = None, **changes: Any) -> Pipeline:
        return cast(Pipeline, self._send("PUT", f"/api/v1/pipelines/{_quote(pipeline_id)}", _given(changes), if_match))

    def delete_pipeline(self, pipeline_id: str, *, if_match: Optional[str] = None) -> None:
        self._send("DELETE", f"/api/v1/pipelines/{_quote(pipeline_id)}", None, if_match)

    def run_pipeline(self, pipeline_id: str, inputs: Optional[Mapping[str, Any]] = None, *, wait: bool = False,
                     timeout: Optional[float] = None) -> Run:
        """Start a run; `wait`: until it has ended, however it did."""
        run = cast(Run, self._send("POST", f"/api/v1/pipelines/{_quote(pipeline_id)}/run",
                                   {"inputs": dict(inputs or {})}))
        return self.wait_run(run["id"], timeout) if wait else run

    def pipeline_completed(self, pipeline_id: str, run_id: str, status: str = "success", outputs: Any = None,
                           error: Optional[str] = None) -> Emitted:
        """Tell of a run that ended elsewhere: its pipeline_completed triggers fire. The same run twice is one event."""
        body = _given({"run_id": run_id, "status": status, "outputs": outputs, "error": error})
        return cast(Emitted, self._send("POST", f"/api/v1/pipelines/{_quote(pipeline_id)}/completed", body, again=True))

    def runs(self, *, pipeline_id: Optional[str] = None, trigger_id: Optional[str] = None, status: Optional[str] = None,
             since: Optional[str] = None, until: Optional[str] = None, page: int = 1, page_size: int = 50) -> Page[Run]:
        return self._page("/api/v1/runs", "runs", pipeline_id=pipeline_id, trigger_id=trigger_id, status=status,
                          since=since, until=until, page=page, page_size=page_size)

    def run(self, run_id: str) -> Run:
        return cast(Run, self._get(f"/api/v1/runs/{_quote(run_id)}"))

    def wait_run(self, run_id: str, timeout: Optional[float] = None) -> Run:
        """The run once it has ended. TimeoutError when that takes longer."""
        return cast(Run, _wait(lambda: self.run(run_id), FINAL_RUN, run_id, timeout))

    def cancel_run(self, run_id: str) -> Run:
        return cast(Run, self._send("POST", f"/api/v1/runs/{_quote(run_id)}/cancel"))

    def step_output(self, run_id: str, step_id: str, *, stderr: bool = False) -> bytes:
        """What a step printed so far, as far as it is kept."""
        name = "stderr" if stderr else "stdout"
        return self._request("GET", f"/api/v1/runs/{_quote(run_id)}/steps/{_quote(step_id)}/{name}", again=True).body

    # -- manifests and the daemon --

    def manifests(self) -> list[dict[str, Any]]:
        """Every file with its resources and errors."""
        return cast("list[dict[str, Any]]", self._get("/api/v1/manifests")["manifests"])

    def manifest_text(self, kind: str, id: str) -> str:
        return cast(str, self._get(f"/api/v1/manifests/{_quote(kind)}/{_quote(id)}")["text"])

    def stats(self) -> Stats:
        return cast(Stats, self._get("/api/v1/triggers/stats"))

    def status(self) -> dict[str, Any]:
        return cast("dict[str, Any]", self._get("/api/v1/status"))

    def ready(self) -> bool:
        """Has the daemon done its first reconcile, and its mount and file watches stand? False also where there is none."""
        try:
            return self._request("GET", "/readyz").status == 200
        except (ConnectionFailed, Unavailable):
            return False

    def metrics(self) -> str:
        return self._request("GET", "/metrics", again=True).body.decode()

    # -- how --

    def _context(self) -> dict[str, str]:
        """Where a step of a run, or a worker for one, is the caller."""
        headers = {}
        request = current_request()
        run = request.run_id if request else os.environ.get("TRIGGERD_RUN_ID")
        trace = request.raw.get("traceparent") if request else os.environ.get("TRACEPARENT")
        if run:
            headers["Triggerd-Parent-Run"] = run
        if isinstance(trace, str) and trace:
            headers["traceparent"] = trace
        return headers

    def _emit_key(self, endpoint: str, body: bytes) -> str:
        """In a step: the same for the same emit of another attempt, told apart from equal ones of this attempt by number."""
        request = current_request()
        step = request.idempotency_key if request else os.environ.get("TRIGGERD_IDEMPOTENCY_KEY", "")
        if not step:
            return str(uuid.uuid4())
        attempt = request.attempt if request else os.environ.get("TRIGGERD_ATTEMPT", "")
        digest = hashlib.sha256(step.encode() + b"\0" + endpoint.encode() + b"\0" + body).hexdigest()[:32]
        with self._emitted_lock:
            number = self._emitted[f"{attempt}/{digest}"]
            self._emitted[f"{attempt}/{digest}"] += 1
        return f"{digest}-{number}"

    def _request(self, method: str, path: str, body: Optional[bytes] = None, headers: Optional[Mapping[str, str]] = None,
                 again: bool = False) -> Answer:
        all_headers = {"Accept": "application/json, */*;q=0.5", **self._context(), **(headers or {})}
        if body is not None:
            all_headers["Content-Type"] = "application/json"
        return self._http.request(method, path, body, all_headers, again)

    def _get(self, path: str) -> Any:
        return self._request("GET", path, again=True).json()

    def _send(self, method: str, path: str, body: Any = None, if_match: Optional[str] = None, again: bool = False) -> Any:
        headers = {"If-Match": if_match} if if_match else {}
        return self._request(method, path, None if body is None else _json(body), headers, again).json()

    def _page(self, path: str, name: str, **query: Query) -> Page[Any]:
        found = self._get(path + _query(**query))
        return Page(found[name], int(found["total"]), int(found.get("page", 1)),
                    int(found.get("page_size", len(found[name]))))

    def _missed(self, by: Mapping[str, Any], since: str) -> list[Event]:
        """Oldest first."""
        found: list[Event] = []
        page = 1
        while True:
            part = self.events(**by, since=since, page=page, page_size=100)
            found += part
            if not part or len(found) >= part.total:
                return found[::-1]
            page += 1

    def _messages(self, path: str, position: Optional[str]) -> Iterator[tuple[str, Optional[str], str]]:
        """The messages of an event stream: type, id and data."""
        headers = {"Accept": "text/event-stream", **({"Last-Event-ID": position} if position else {})}
        with self._http.stream(path, headers, None) as response:
            kind = "message"
            data: list[str] = []
            for raw in response:
                name, _, value = raw.decode("utf-8").rstrip("\r\n").partition(":")
                value = value[1:] if value.startswith(" ") else value
                if name == "data":
                    data.append(value)
                elif name == "id":
                    position = value
                elif name == "event":
                    kind = value
                elif not name and not value:
                    if data:
                        yield kind, position, "\n".join(data)
                    kind, data = "message", []


def _wait(look: Callable[[], Any], final: tuple[str, ...], id: str, timeout: Optional[float]) -> Any:
    deadline = None if timeout is None else time.monotonic() + timeout
    pause = 0.01
    while True:
        found = look()
        if found["status"] in final:
            return found
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            raise TimeoutError(f"{id} is still {found['status']} after {timeout} s")
        time.sleep(pause if left is None else min(pause, left))
        pause = min(pause * 1.5, 1.0)


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8", "strict")


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _given(members: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in members.items() if v is not None}


def _quote(part: str) -> str:
    return urllib.parse.quote(str(part), safe="")


def _query(**query: Query) -> str:
    given = {k: str(v).lower() if isinstance(v, bool) else str(v) for k, v in query.items() if v is not None}
    return "?" + urllib.parse.urlencode(given) if given else ""
