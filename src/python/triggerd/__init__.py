"""triggerd from Python: a client of its API, and workers for its `worker` steps. Standard library only.

    from triggerd import Client

    client = Client()  # the daemon of this machine; Client("https://host:8443", token=...) for another
    client.emit("user_events", {"action": "signup"})

    import triggerd

    @triggerd.worker
    def count(inputs):
        return {"words": len(inputs["text"].split())}
"""
from .client import Client, find_socket
from .errors import (BadRequest, Conflict, ConnectionFailed, FieldError, Forbidden, NotFound, PreconditionFailed,
                     Problem, QueueFull, StorageFull, TooLarge, TriggerdError, Unauthorized, Unavailable,
                     ValidationFailed)
from .model import (Condition, DryRun, Emitted, Event, Page, Pipeline, Run, Source, Stats, Step, Trigger)
from .worker import Request, Worker, WorkerError, current_request, worker

__version__ = "0.1.0"
__all__ = [
    "BadRequest", "Client", "Condition", "Conflict", "ConnectionFailed", "DryRun", "Emitted", "Event", "FieldError",
    "Forbidden", "NotFound", "Page", "Pipeline", "PreconditionFailed", "Problem", "QueueFull", "Request", "Run",
    "Source", "Stats", "Step", "StorageFull", "TooLarge", "Trigger", "TriggerdError", "Unauthorized", "Unavailable",
    "ValidationFailed", "Worker", "WorkerError", "current_request", "find_socket", "worker",
]
