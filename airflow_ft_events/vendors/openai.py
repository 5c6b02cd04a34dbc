"""OpenAI, and compatible servers that use its wording (recordings of 2023 to 2025, and the API reference)."""

from __future__ import annotations

from airflow_ft_events.vendors.base import Meaning, Vendor, signal

OPENAI = Vendor(
    name="openai",
    base_url="https://api.openai.com/v1",
    hosts=("api.openai.com", ".api.openai.com"),
    signals=(
        signal(r"The job has successfully completed\.?", Meaning.SUCCEEDED),
        signal(r"Fine[- ]tuning job successfully completed\.?", Meaning.SUCCEEDED),
        signal(r"The job was stopped due to a cancellation request\.?", Meaning.CANCELLED),
    ),
)
