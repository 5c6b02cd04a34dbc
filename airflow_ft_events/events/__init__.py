"""What a job's server says: events with a typed view, and the times and numbers in them."""

from __future__ import annotations

from airflow_ft_events.events.event import (
    Event,
    EventIds,
    EventPage,
    Order,
    are_plain,
    content_hash,
    identify,
    ids_of,
    last_metrics,
    level_of,
    metrics_table,
    one_line,
    order_of,
    place_of,
    server_id,
)
from airflow_ft_events.events.numbers import (
    flat_numbers,
    flat_values,
    is_number,
    number_of,
    whole_number,
)
from airflow_ft_events.events.steps import counts_steps
from airflow_ft_events.events.times import epoch_seconds, iso_utc, short_utc

__all__ = [
    "Event",
    "EventIds",
    "EventPage",
    "Order",
    "are_plain",
    "content_hash",
    "counts_steps",
    "epoch_seconds",
    "flat_numbers",
    "flat_values",
    "identify",
    "ids_of",
    "is_number",
    "iso_utc",
    "last_metrics",
    "level_of",
    "metrics_table",
    "number_of",
    "one_line",
    "order_of",
    "place_of",
    "server_id",
    "short_utc",
    "whole_number",
]
