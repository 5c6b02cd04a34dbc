"""A trigger that only waits until a moment: measures what Airflow itself takes to resume a task."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent


class MomentTrigger(BaseTrigger):
    """
    Wait until a moment, to the millisecond: Airflow's own DateTimeTrigger checks the clock once a second.

    :param moment: seconds since 1970.
    """

    def __init__(self, *, moment: float) -> None:
        super().__init__()
        self.moment = moment

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """:returns: the class path and the parameters."""
        return f"{type(self).__module__}.{type(self).__qualname__}", {"moment": self.moment}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """:returns: one event, at the moment."""
        await asyncio.sleep(max(0.0, self.moment - time.time()))
        yield TriggerEvent(None)
