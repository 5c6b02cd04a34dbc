"""Nebius Token Factory: OpenAI's paths, oldest events first, `after` leads to newer ones."""

from __future__ import annotations

from airflow_ft_events.events import Order
from airflow_ft_events.vendors.base import Meaning, Vendor, signal

NEBIUS = Vendor(
    name="nebius",
    base_url="https://api.tokenfactory.nebius.com/v1",
    hosts=("api.tokenfactory.nebius.com", ".nebius.com", ".nebius.ai"),
    order=Order.OLDEST_FIRST,
    signals=(signal(r"Training completed successfully\.?", Meaning.SUCCEEDED),),
)
