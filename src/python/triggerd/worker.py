"""Workers: what a `worker` step runs. A decorated function is the whole program:

    import triggerd

    model = load_model()  # what is costly is done once

    @triggerd.worker
    def classify(inputs):
        return {"label": model(inputs["text"])}

    if __name__ == "__main__":
        classify.serve()

What it returns is the step's output, any JSON value; an exception fails the step (or has it retried) with its text, and
its traceback goes to the step's standard error. So does what is printed while it serves: standard output belongs to the
protocol.

The function takes the inputs, or the inputs and the request; it may be `async`. A script that forgets serve() serves its
one worker when it has come to its end.
"""
from __future__ import annotations

import asyncio
import atexit
import contextlib
import contextvars
import inspect
import json
import os
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, Any, Callable, Generic, Optional, TypeVar, overload

Function = TypeVar("Function", bound=Callable[..., Any])


class WorkerError(Exception):
    """Fails the step with just this text: no traceback is printed."""


@dataclass(frozen=True)
class Request:
    """What is asked of a worker."""
    id: Any
    inputs: dict[str, Any]
    run_id: str = ""
    step: str = ""
    attempt: int = 1
    idempotency_key: str = ""
    """The same for every attempt of this step of this run."""
    raw: dict[str, Any] = field(default_factory=dict, repr=False)


_current: contextvars.ContextVar[Optional[Request]] = contextvars.ContextVar("triggerd_request", default=None)


def current_request() -> Optional[Request]:
    """The request that is being answered, None outside of a worker: a Client that is used meanwhile acts for its run."""
    return _current.get()


class Worker(Generic[Function]):
    """A decorated function. Calling it calls the function."""

    def __init__(self, function: Function) -> None:
        self.function = function
        self.__wrapped__ = function
        self.__doc__ = function.__doc__
        self.__name__ = getattr(function, "__name__", "worker")
        self._wants_request = _takes_two(function)
        self._served = False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)

    def handle(self, line: str) -> Optional[dict[str, Any]]:
        """The answer to one line; None to an empty one."""
        if not line.strip():
            return None
        try:
            raw = json.loads(line)
            if not isinstance(raw, dict) or "id" not in raw:
                raise ValueError("expected an object with an id")
        except ValueError as e:
            print(f"not a request: {e}", file=sys.stderr)
            return None
        answer: dict[str, Any] = {"id": raw["id"]}
        try:
            answer["output"] = _plain(self._call(_request(raw)))
        except WorkerError as e:
            answer["error"] = str(e) or type(e).__name__
        except Exception as e:
            traceback.print_exc()
            answer["error"] = "".join(traceback.format_exception_only(type(e), e)).strip()
        return answer

    def serve(self, lines: Optional[IO[str]] = None, answers: Optional[IO[str]] = None) -> None:
        """Answer requests until there are no more; by default on standard input and output."""
        self._served = True
        with contextlib.ExitStack() as stack:
            if answers is None:
                answers = stack.enter_context(_own_output())
            for line in lines if lines is not None else _own_input(stack):
                answer = self.handle(line)
                if answer is not None:
                    answers.write(json.dumps(answer, separators=(",", ":")) + "\n")
                    answers.flush()
                    with contextlib.suppress(OSError, ValueError):
                        sys.stderr.flush()

    def _call(self, request: Request) -> Any:
        token = _current.set(request)
        try:
            args = (request.inputs, request) if self._wants_request else (request.inputs,)
            result = self.function(*args)
            return asyncio.run(_await(result)) if inspect.isawaitable(result) else result
        finally:
            _current.reset(token)


async def _await(result: Any) -> Any:
    return await result


def _takes_two(function: Callable[..., Any]) -> bool:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return False
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return len(positional) > 1 or any(p.kind is p.VAR_POSITIONAL for p in parameters)


def _request(raw: dict[str, Any]) -> Request:
    inputs = raw.get("inputs")
    return Request(id=raw["id"], inputs=inputs if isinstance(inputs, dict) else {}, run_id=str(raw.get("run_id") or ""),
                   step=str(raw.get("step") or ""), attempt=int(raw.get("attempt") or 1),
                   idempotency_key=str(raw.get("idempotency_key") or ""), raw=raw)


def _plain(output: Any) -> Any:
    """As JSON can say it, or an error that names the function's output rather than a line of the encoder."""
    try:
        json.dumps(output, allow_nan=False)
    except (TypeError, ValueError) as e:
        raise WorkerError(f"the output is no JSON: {e}") from None
    return output


def _own_input(stack: contextlib.ExitStack) -> IO[str]:
    """Standard input as UTF-8, whatever the locale says; what a child of ours reads is /dev/null."""
    mine = os.dup(0)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    return stack.enter_context(open(mine, encoding="utf-8", errors="replace", newline="\n"))


@contextlib.contextmanager
def _own_output() -> Iterator[IO[str]]:
    """Standard output for answers alone: what others print, also children, goes to standard error meanwhile."""
    mine = os.dup(1)
    os.dup2(2, 1)
    sys.stdout.flush()  # what was printed before, as far as it is still here
    printed, sys.stdout = sys.stdout, sys.stderr
    try:
        with open(mine, "w", encoding="utf-8", errors="replace", newline="\n") as answers:
            yield answers
    finally:
        sys.stdout = printed


_of_the_script: list[Worker[Any]] = []


def _serve_at_exit() -> None:
    """The script has come to its end without an error, and nobody has served its one worker."""
    if len(_of_the_script) == 1 and not _of_the_script[0]._served and not hasattr(sys, "last_value"):
        _of_the_script[0].serve()


@overload
def worker(function: Function) -> Worker[Function]: ...
@overload
def worker() -> Callable[[Function], Worker[Function]]: ...


def worker(function: Optional[Function] = None) -> Any:
    """Make a function the worker of this program; see the module."""
    if function is None:
        return worker
    made = Worker(function)
    if getattr(function, "__module__", None) == "__main__" and not hasattr(sys, "ps1"):
        if not _of_the_script:
            atexit.register(_serve_at_exit)
        _of_the_script.append(made)
    return made
