"""The metrics of a triggerer's waits, through Airflow's own Stats."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

try:
    # the one that the triggerer sets up; the Task SDK's, which common-compat gives, stays idle there (3.3)
    from airflow.observability.stats import Stats
except ImportError:
    from airflow.providers.common.compat.sdk import Stats  # type: ignore[assignment]

if TYPE_CHECKING:
    from airflow_ft_events.triggers.shared_client import SharedClient
    from airflow_ft_events.waiting.state import PollResult

POLLS = "fine_tuning.polls"
POLL_FAULTS = "fine_tuning.poll_faults"
RATE_LIMITED = "fine_tuning.rate_limited"
WAITS = "fine_tuning.waits"
DETECTION_LAG = "fine_tuning.detection_lag"

_waits = 0


@contextmanager
def counted_wait() -> Iterator[None]:
    """Count a wait as in progress while the block runs."""
    _change_waits(1)
    try:
        yield
    finally:
        _change_waits(-1)


def _change_waits(by: int) -> None:
    global _waits
    _waits += by
    Stats.gauge(WAITS, _waits, tags={"hostname": socket.gethostname()})


def count_poll(result: PollResult, client: SharedClient) -> None:
    """
    Count a poll and its result.

    :param result: what the poll found.
    :param client: the client that it used.
    """
    Stats.incr(POLLS)
    if not result.asked and not result.paused:
        Stats.incr(POLL_FAULTS)
    if refusals := client.take_refusals():
        Stats.incr(RATE_LIMITED, refusals)
    if result.outcome is not None and result.outcome.finished_at:
        ended = datetime.fromisoformat(result.outcome.finished_at).timestamp()
        lag = max(0.0, client.server_now() - ended)
        Stats.timing(DETECTION_LAG, timedelta(seconds=lag))
