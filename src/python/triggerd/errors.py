"""What can go wrong. Everything is a TriggerdError; an answer of the daemon that is an error is a Problem (RFC 9457)."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Optional


class TriggerdError(Exception):
    """The base of all errors of this package."""


class ConnectionFailed(TriggerdError):
    """There is no daemon, or it went away before its answer."""


class FieldError(NamedTuple):
    """What is wrong with one field of what was sent; an empty path is the whole."""
    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class Problem(TriggerdError):
    """An answer with a status of 400 or more."""

    def __init__(self, status: int, detail: str, *, title: str = "", type: str = "about:blank",
                 errors: tuple[FieldError, ...] = (), retry_after: Optional[float] = None) -> None:
        self.status = status
        self.title = title
        self.detail = detail
        self.type = type
        self.errors = errors
        self.retry_after = retry_after
        """Seconds after which it may be tried again; None where the daemon does not say."""
        lines = [detail or title or f"HTTP status {status}"]
        lines += [f"  {e}" for e in errors if str(e) != detail]
        super().__init__("\n".join(lines))

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.__dict__.copy())


def _rebuild(kind: type[Problem], members: dict[str, Any]) -> Problem:
    return kind(members["status"], members["detail"], title=members["title"], type=members["type"],
                errors=members["errors"], retry_after=members["retry_after"])


class BadRequest(Problem):
    """400: it does not parse."""


class Unauthorized(Problem):
    """401: no token, or a wrong one."""


class Forbidden(Problem):
    """403: the token's scope is too small."""


class NotFound(Problem):
    """404: there is none of that name."""


class Conflict(Problem):
    """409: the id is taken, or its manifest cannot be written."""


class PreconditionFailed(Problem):
    """412: somebody else has changed it."""


class TooLarge(Problem):
    """413: more than the daemon takes."""


class ValidationFailed(Problem):
    """422: it parses, but it is not valid; `errors` has every field."""


class QueueFull(Problem):
    """429: too many events wait already."""


class Unavailable(Problem):
    """503: the daemon starts, ends, or is disabled."""


class StorageFull(Problem):
    """507: the daemon's disk is full; nothing was recorded."""


_KINDS: dict[int, type[Problem]] = {
    400: BadRequest, 401: Unauthorized, 403: Forbidden, 404: NotFound, 409: Conflict, 412: PreconditionFailed,
    413: TooLarge, 422: ValidationFailed, 429: QueueFull, 503: Unavailable, 507: StorageFull,
}


def problem_of(status: int, body: Any, headers: Mapping[str, str]) -> Problem:
    """The error that an answer tells; `body` is its JSON, or its text where it is none."""
    members = body if isinstance(body, dict) else {"detail": str(body or "").strip()}
    found = members.get("errors")
    errors = tuple(FieldError(str(e.get("path") or ""), str(e.get("message") or ""))
                   for e in (found if isinstance(found, list) else []) if isinstance(e, dict))
    wait = headers.get("Retry-After", "")
    return _KINDS.get(status, Problem)(
        status, str(members.get("detail") or ""), title=str(members.get("title") or ""),
        type=str(members.get("type") or "about:blank"), errors=errors,
        retry_after=float(wait) if wait.isdigit() else None)
