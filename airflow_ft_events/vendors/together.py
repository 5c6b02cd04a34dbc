"""Together: paths and types of its own; the whole log comes at once, without ids, oldest first."""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import Any

from airflow_ft_events.events import Order, epoch_seconds
from airflow_ft_events.vendors.base import Meaning, Vendor, signal

_STEPS = ("train/global_step", "eval/global_step", "global_step")


class _Together(Vendor):
    __slots__ = ()

    def metrics_event(self, row: dict[str, Any]) -> dict[str, Any]:
        """Turn ``train/loss`` into ``train_loss``, ``eval/loss`` into ``valid_loss``; find step and time."""
        own = (*_STEPS, "timestamp")
        data = {_name_of(name): value for name, value in row.items() if name not in own}
        steps = [row[name] for name in _STEPS if name in row]
        return {
            "type": "metrics",
            "created_at": epoch_seconds(row.get("timestamp")),
            "data": {"step": steps[0], **data} if steps else data,
            "row": row,
        }


def _name_of(name: str) -> str:
    kind, slash, rest = name.partition("/")
    return f"{'valid' if kind == 'eval' else kind}_{rest.replace('/', '_')}" if slash else name


TOGETHER = _Together(
    name="together",
    base_url="https://api.together.ai/v1",
    hosts=("api.together.ai", "api.together.xyz"),
    order=Order.OLDEST_FIRST,
    pages=False,
    jobs_path="/fine-tunes",
    metrics_path="/metrics",
    job_fields=MappingProxyType({"fine_tuned_model": "model_output_name", "trained_tokens": "token_count"}),
    signals=(
        signal(r"JOB_COMPLETE|Job finished at .*", Meaning.SUCCEEDED),
        signal(r"JOB_ERROR|JOB_USER_ERROR", Meaning.FAILED),
        signal(r"JOB_STOPPED", Meaning.CANCELLED),
        signal(r"JOB_RESTARTED", Meaning.RESTARTED),
    ),
    model_message=re.compile(r"(?!)"),
)
