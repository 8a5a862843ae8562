"""Triggers as they are stored: in triggerd, each is a manifest."""
from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, Optional, Union

import triggerd

from ..models.triggers import EventTrigger, TriggerEvent, TriggerEventStatus, TriggerStatus, TriggerType


class TriggerStorage:
    def __init__(self, client: Optional[triggerd.Client] = None) -> None:
        self.client = client or triggerd.Client()

    def create_trigger(self, name: str, pipeline_id: str, trigger_type: Union[TriggerType, str],
                       config: Mapping[str, Any], description: Optional[str] = None, enabled: bool = True,
                       max_concurrent: int = 1, cooldown_seconds: float = 0,
                       default_inputs: Optional[Mapping[str, Any]] = None, **more: Any) -> EventTrigger:
        """In force when this returns. `more`: whatever else a trigger of triggerd has, its id among it."""
        return EventTrigger.of(self.client.create_trigger(
            name, pipeline_id, str(TriggerType(trigger_type)), config, description=description, enabled=enabled,
            max_concurrent=max_concurrent, cooldown_seconds=cooldown_seconds,
            default_inputs=dict(default_inputs) if default_inputs else None, **more))

    def get_trigger(self, trigger_id: str) -> Optional[EventTrigger]:
        try:
            return EventTrigger.of(self.client.trigger(trigger_id))
        except triggerd.NotFound:
            return None

    def list_triggers(self, pipeline_id: Optional[str] = None,
                      trigger_type: Union[TriggerType, str, None] = None, enabled_only: bool = False,
                      status: Union[TriggerStatus, str, None] = None) -> list[EventTrigger]:
        found: list[EventTrigger] = []
        page = 1
        while True:
            part = self.client.triggers(pipeline_id=pipeline_id, trigger_type=_word(trigger_type),
                                        enabled_only=enabled_only, status=_word(status), page=page, page_size=100)
            found += [EventTrigger.of(t) for t in part]
            if not part or len(found) >= part.total:
                return found
            page += 1

    def update_trigger(self, trigger_id: str, **changes: Any) -> Optional[EventTrigger]:
        try:
            return EventTrigger.of(self.client.update_trigger(trigger_id, **changes))
        except triggerd.NotFound:
            return None

    def delete_trigger(self, trigger_id: str) -> bool:
        try:
            self.client.delete_trigger(trigger_id)
        except triggerd.NotFound:
            return False
        return True

    def get_event(self, event_id: str) -> Optional[TriggerEvent]:
        try:
            return TriggerEvent.of(self.client.event(event_id))
        except triggerd.NotFound:
            return None

    def list_events(self, trigger_id: Optional[str] = None, pipeline_id: Optional[str] = None,
                    status: Union[TriggerEventStatus, str, None] = None, since: Optional[datetime] = None,
                    limit: int = 50) -> list[TriggerEvent]:
        """The newest first."""
        found: list[TriggerEvent] = []
        page = 1
        while len(found) < limit:
            part = self.client.events(trigger_id=trigger_id, pipeline_id=pipeline_id, status=_word(status),
                                      since=_instant(since), page=page, page_size=100)
            found += [TriggerEvent.of(e) for e in part]
            if not part or len(found) >= part.total:
                break
            page += 1
        return found[:limit]

    def get_stats(self) -> triggerd.Stats:
        return self.client.stats()


def _word(word: Union[TriggerType, TriggerStatus, TriggerEventStatus, str, None]) -> Optional[str]:
    return None if word is None else str(word)


def _instant(at: Optional[datetime]) -> Optional[str]:
    return None if at is None else at.astimezone().isoformat()


@lru_cache(maxsize=1)
def get_trigger_storage() -> TriggerStorage:
    """The one of this process."""
    return TriggerStorage()
