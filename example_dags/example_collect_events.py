"""
Collect the events of a fine-tuning job and use them in the next task.

The operator returns the events as the server sent them, oldest first, each once. In addition, the XCom key
`summary` contains the counts by level and type, the first and last event, and the last metrics.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from airflow.providers.common.compat.sdk import Param, dag, task

from airflow_ft_events.operators.fine_tuning import FineTuningEventsOperator


@dag(
    dag_id="example_ft_collect_events",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    params={"job_id": Param("ftjob-abc123", type="string", description="The fine-tuning job to read.")},
    tags=["example", "fine-tuning"],
    doc_md=__doc__,
)
def example_ft_collect_events() -> None:
    collect = FineTuningEventsOperator(
        task_id="collect_events",
        job_id="{{ params.job_id }}",
        conn_id="fine_tuning_default",
    )

    @task
    def report(events: list[dict[str, Any]], summary: dict[str, Any]) -> dict[str, Any]:
        """Find the step with the lowest training loss."""
        steps = [event["data"] for event in events if event.get("type") == "metrics" and event.get("data")]
        losses = [step for step in steps if step.get("train_loss") is not None]
        best = min(losses, key=lambda step: step["train_loss"], default=None)
        print(f"{len(events)} events of job {summary['job_id']}; lowest training loss: {best}")
        return {"events": len(events), "steps": len(steps), "best": best}

    report(collect.output, collect.output["summary"])


example_ft_collect_events()
