"""What happens to triggers: events told to them, pauses and tests. The daemon does it; these calls ask it to."""
from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Optional

import triggerd

from ..models.triggers import EventTrigger, TriggerEvent

_ENDS = {"completed": "success", "timeout": "timed_out", "canceled": "cancelled"}  # other words for the same


class TriggerService:
    def __init__(self, client: Optional[triggerd.Client] = None) -> None:
        self.client = client or triggerd.Client()

    async def emit_custom_event(self, endpoint: str, event_data: Optional[Mapping[str, Any]] = None, *,
                                idempotency_key: Optional[str] = None) -> list[TriggerEvent]:
        """Recorded when this returns: what fired, waits, or was held back."""
        answer = await asyncio.to_thread(self.client.emit, endpoint, dict(event_data or {}),
                                         idempotency_key=idempotency_key)
        return [TriggerEvent.of(e) for e in answer["events"]]

    async def notify_pipeline_completed(self, pipeline_id: str, run_id: str, status: str = "success",
                                        outputs: Optional[Mapping[str, Any]] = None,
                                        error: Optional[str] = None) -> list[TriggerEvent]:
        """A run that ended outside of triggerd: success, failed, timed_out or cancelled."""
        answer = await asyncio.to_thread(self.client.pipeline_completed, pipeline_id, run_id,
                                         _ENDS.get(status, status), None if outputs is None else dict(outputs), error)
        return [TriggerEvent.of(e) for e in answer["events"]]

    async def notify_mcp_event(self, server_name: str, event_type: str,
                               event_data: Optional[Mapping[str, Any]] = None) -> list[TriggerEvent]:
        """An event of an MCP server whose connection is the caller's."""
        answer = await asyncio.to_thread(self.client.emit_mcp, server_name, event_type, dict(event_data or {}))
        return [TriggerEvent.of(e) for e in answer["events"]]

    async def pause_trigger(self, trigger_id: str) -> EventTrigger:
        return EventTrigger.of(await asyncio.to_thread(self.client.pause_trigger, trigger_id))

    async def resume_trigger(self, trigger_id: str) -> EventTrigger:
        return EventTrigger.of(await asyncio.to_thread(self.client.resume_trigger, trigger_id))

    async def test_trigger(self, trigger_id: str, event_data: Optional[Mapping[str, Any]] = None) -> TriggerEvent:
        """Runs its pipeline for real."""
        return TriggerEvent.of(await asyncio.to_thread(self.client.test_trigger, trigger_id, dict(event_data or {})))


@lru_cache(maxsize=1)
def get_trigger_service() -> TriggerService:
    """The one of this process."""
    return TriggerService()
