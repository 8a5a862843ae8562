"""The objects of the API, as the daemon gives them: plain dictionaries with these members."""
from __future__ import annotations

from typing import Any, Generic, Optional, TypedDict, TypeVar


class Condition(TypedDict):
    type: str
    status: str  # True, False, Unknown
    reason: str
    message: str
    last_transition_time: str
    observed_generation: int


class Source(TypedDict):
    """Where a resource comes from."""
    file: Optional[str]
    line: int
    commit: Optional[str]
    commit_subject: Optional[str]
    commit_authored_at: Optional[str]
    dirty: Optional[bool]


class Trigger(TypedDict):
    id: str
    name: str
    description: Optional[str]
    pipeline_id: str
    trigger_type: str
    config: dict[str, Any]
    enabled: bool
    max_concurrent: int
    cooldown_seconds: float
    default_inputs: dict[str, Any]
    status: str  # active, paused, error, disabled
    last_triggered_at: Optional[str]
    trigger_count: int
    error_message: Optional[str]
    created_by: Optional[str]
    created_at: str
    updated_at: str
    conditions: list[Condition]
    generation: int
    observed_generation: int
    source: Source


class Event(TypedDict):
    id: str
    trigger_id: str
    pipeline_id: str
    run_id: Optional[str]
    event_type: str
    event_data: Any
    resolved_inputs: Optional[dict[str, Any]]
    status: str  # pending, executing, completed, failed, skipped, cancelled
    decision: str
    reason: Optional[str]
    error_message: Optional[str]
    attempt: int
    occurred_at: Optional[str]
    started_at: Optional[str]
    completed_at: Optional[str]
    root_event_id: str
    replay_of: Optional[str]


class Step(TypedDict):
    id: str
    status: str
    attempt: int
    exit_code: Optional[int]
    signal: Optional[int]
    output: Any  # not in lists of runs
    error_message: Optional[str]
    started_at: Optional[str]
    completed_at: Optional[str]


class Run(TypedDict):
    id: str
    pipeline_id: str
    event_id: Optional[str]
    trigger_id: Optional[str]
    status: str  # pending, running, completed, failed, cancelled, timed_out
    inputs: Optional[dict[str, Any]]
    outputs: Any
    error_message: Optional[str]
    steps: list[Step]
    attempt: int
    created_at: Optional[str]
    started_at: Optional[str]
    completed_at: Optional[str]


class Pipeline(TypedDict):
    id: str
    name: Optional[str]
    description: Optional[str]
    inputs: Optional[dict[str, Any]]
    steps: list[dict[str, Any]]
    outputs: Optional[dict[str, Any]]
    timeout_seconds: Optional[float]
    max_concurrent: Optional[int]
    running: int
    created_at: Optional[str]
    updated_at: Optional[str]
    conditions: list[Condition]
    generation: int
    observed_generation: int
    source: Source


class Emitted(TypedDict):
    triggered_count: int  # fired or queued
    events: list[Event]  # also those that were held back, and the first of a duplicate


class DryRun(TypedDict):
    decision: str
    reason: Optional[str]
    resolved_inputs: Optional[dict[str, Any]]


class Stats(TypedDict):
    total_triggers: int
    active_triggers: int
    paused_triggers: int
    error_triggers: int
    total_events_24h: int
    successful_events_24h: int
    failed_events_24h: int
    skipped_events_24h: int
    triggers_by_type: dict[str, int]


Item = TypeVar("Item")


class Page(list[Item], Generic[Item]):
    """A page of a list, newest first."""

    def __init__(self, items: list[Item], total: int, page: int, page_size: int) -> None:
        super().__init__(items)
        self.total = total
        self.page = page
        self.page_size = page_size
