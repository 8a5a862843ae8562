"""Triggers and their events."""
from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any, Optional

import triggerd


class TriggerType(str, Enum):
    FILE_WATCH = "file_watch"
    PIPELINE_COMPLETED = "pipeline_completed"
    MCP_EVENT = "mcp_event"
    MESSAGE_QUEUE = "message_queue"
    CUSTOM = "custom"
    SCHEDULE = "schedule"
    WEBHOOK = "webhook"

    def __str__(self) -> str:
        return str(self.value)


class TriggerStatus(str, Enum):
    ACTIVE = "active"
    PAUSED = "paused"
    ERROR = "error"
    DISABLED = "disabled"

    def __str__(self) -> str:
        return str(self.value)


class TriggerEventStatus(str, Enum):
    PENDING = "pending"
    EXECUTING = "executing"
    COMPLETED = "completed"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"

    def __str__(self) -> str:
        return str(self.value)


def _time(text: Optional[str]) -> Optional[datetime]:
    return datetime.fromisoformat(text.replace("Z", "+00:00")) if text else None


@dataclass
class EventTrigger:
    id: str
    name: str
    pipeline_id: str
    trigger_type: TriggerType
    config: dict[str, Any]
    description: Optional[str] = None
    enabled: bool = True
    max_concurrent: int = 1
    cooldown_seconds: float = 0
    default_inputs: dict[str, Any] = field(default_factory=dict)
    status: TriggerStatus = TriggerStatus.ACTIVE
    last_triggered_at: Optional[datetime] = None
    trigger_count: int = 0
    error_message: Optional[str] = None
    created_by: Optional[str] = None
    created_at: Optional[datetime] = None
    updated_at: Optional[datetime] = None

    @classmethod
    def of(cls, t: triggerd.Trigger) -> EventTrigger:
        return cls(id=t["id"], name=t["name"], pipeline_id=t["pipeline_id"],
                   trigger_type=TriggerType(t["trigger_type"]), config=t["config"], description=t["description"],
                   enabled=t["enabled"], max_concurrent=t["max_concurrent"], cooldown_seconds=t["cooldown_seconds"],
                   default_inputs=t["default_inputs"] or {}, status=TriggerStatus(t["status"]),
                   last_triggered_at=_time(t["last_triggered_at"]), trigger_count=t["trigger_count"],
                   error_message=t["error_message"], created_by=t["created_by"], created_at=_time(t["created_at"]),
                   updated_at=_time(t["updated_at"]))

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass
class TriggerEvent:
    id: str
    trigger_id: str
    pipeline_id: str
    event_type: str
    event_data: Any
    status: TriggerEventStatus
    decision: str
    run_id: Optional[str] = None
    reason: Optional[str] = None
    resolved_inputs: Optional[dict[str, Any]] = None
    error_message: Optional[str] = None
    attempt: int = 1
    occurred_at: Optional[datetime] = None
    started_at: Optional[datetime] = None
    completed_at: Optional[datetime] = None

    @classmethod
    def of(cls, e: triggerd.Event) -> TriggerEvent:
        return cls(id=e["id"], trigger_id=e["trigger_id"], pipeline_id=e["pipeline_id"], event_type=e["event_type"],
                   event_data=e["event_data"], status=TriggerEventStatus(e["status"]), decision=e["decision"],
                   run_id=e["run_id"], reason=e["reason"], resolved_inputs=e["resolved_inputs"],
                   error_message=e["error_message"], attempt=e["attempt"], occurred_at=_time(e["occurred_at"]),
                   started_at=_time(e["started_at"]), completed_at=_time(e["completed_at"]))

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)
