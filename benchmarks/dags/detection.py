"""Waits for jobs, and beside them deferred tasks that end at a given moment: what Airflow itself takes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from airflow.sdk import BaseOperator, Param, dag, get_current_context, task

from airflow_ft_events.sensors.fine_tuning import FineTuningEventsSensor
from benchmarks.moments import MomentTrigger


class WaitUntil(BaseOperator):
    """Deferred until a moment; it asks nobody."""

    def __init__(self, *, moment: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.moment = moment

    def execute(self, context: Any) -> None:
        self.defer(trigger=MomentTrigger(moment=self.moment), method_name="execute_complete")

    def execute_complete(self, context: Any, event: Any = None) -> None:
        return None


def params(name: str) -> list[Any]:
    """A list among the run's parameters."""
    return list(get_current_context()["params"][name])


@dag(
    dag_id="detection",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    params={
        "job_ids": Param([], type="array"),
        "moments": Param([], type="array"),
        "conn_id": Param("", type="string"),
    },
)
def detection() -> None:
    job_ids = task(task_id="job_ids")(lambda: params("job_ids"))()
    moments = task(task_id="moments")(lambda: params("moments"))()
    FineTuningEventsSensor.partial(
        task_id="wait", conn_id="{{ params.conn_id }}", deferrable=True, poke_interval=5, timeout=7200
    ).expand(job_id=job_ids)
    WaitUntil.partial(task_id="airflow").expand(moment=moments)


detection()
