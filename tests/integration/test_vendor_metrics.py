"""Together keeps a job's numbers beside its events: table, gate, curves and archive read them there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from airflow_ft_events.archive import read_archive, read_archive_metrics
from airflow_ft_events.exceptions import (
    FineTuningApiError,
    FineTuningArchiveError,
    FineTuningAuthError,
    FineTuningGateViolated,
)
from airflow_ft_events.hooks.fine_tuning import FineTuningHook
from airflow_ft_events.operators.fine_tuning import FineTuningGateOperator
from airflow_ft_events.report import training_figure
from airflow_ft_events.simulator import Answer
from airflow_ft_events.transfers.fine_tuning_to_object_storage import FineTuningEventsToObjectStorageOperator

pytestmark = pytest.mark.parametrize("vendor", ["together"])
TABLE = [
    {"step": 1, "train_loss": 2.5, "train_learning_rate": 1e-5},
    {"step": 2, "train_loss": 2.0, "train_learning_rate": 9e-6},
    {"step": 3, "train_loss": 1.5, "train_learning_rate": 8e-6, "valid_loss": 1.75},
]


class Metrics:
    """What the metrics route answers; the other routes are the simulator's."""

    def __init__(self, sim: Any) -> None:
        start = int(sim.now - 3700)
        self.rows: list[dict[str, Any]] = [
            {
                "timestamp": (start + row["step"]) * 10**9,
                "train/global_step": row["step"],
                "train/loss": row["train_loss"],
                "train/learning_rate": row["train_learning_rate"],
            }
            for row in TABLE
        ]
        self.rows.append({"timestamp": (start + 4) * 10**9, "train/global_step": 3, "eval/loss": 1.75})
        self.answer: Answer | None = None
        self.asked: list[str] = []
        sim.fault = self

    def __call__(self, request: Any) -> Answer | None:
        if not request.path.endswith("/metrics"):
            return None
        self.asked.append(request.path)
        return self.answer or Answer(status=200, body={"metrics": self.rows})


@pytest.fixture
def sim(simulated: Any, connect: Any) -> Any:
    made = simulated(ended=True)
    connect(made)
    return made


@pytest.fixture
def metrics(sim: Any) -> Metrics:
    return Metrics(sim)


def table(hook: FineTuningHook, call: Any, job_id: str) -> list[dict[str, Any]]:
    return call(hook, "list_metrics", job_id)


def test_the_table_has_the_numbers(sim: Any, metrics: Metrics, call: Any) -> None:
    assert table(FineTuningHook(), call, sim.job_id) == TABLE
    assert metrics.asked == [f"/v1/fine-tunes/{sim.job_id}/metrics"]


def test_the_events_stay_the_servers_own(sim: Any, metrics: Metrics, call: Any) -> None:
    assert call(FineTuningHook(), "list_events", sim.job_id) == sim.list_events(sim.job_id)
    assert metrics.asked == []
    rows = [event["row"] for event in call(FineTuningHook(), "metrics_events", sim.job_id)]
    assert rows == metrics.rows


def test_a_log_that_has_numbers_itself_is_enough(sim: Any, metrics: Metrics, call: Any) -> None:
    job_id = sim.add_job(events=[{"message": "Step 1/2", "data": {"step": 1, "train_loss": 0.5}}])
    assert table(FineTuningHook(), call, job_id) == [{"step": 1, "train_loss": 0.5}]
    assert metrics.asked == []


def test_a_server_without_the_route_has_no_numbers_and_that_is_said_once(
    sim: Any, metrics: Metrics, call: Any, logs: Any
) -> None:
    metrics.answer = Answer(status=404)
    hook = FineTuningHook()
    assert [table(hook, call, sim.job_id) for _ in range(2)] == [[], []]
    assert len(metrics.asked) == 2
    assert logs.text.count("has no metrics of job") == 1


def test_a_key_that_may_not_read_the_numbers_is_an_error(sim: Any, metrics: Metrics, call: Any) -> None:
    metrics.answer = Answer(status=403)
    with pytest.raises(FineTuningAuthError, match="the metrics of job"):
        table(FineTuningHook(), call, sim.job_id)


def test_a_wait_asks_for_no_numbers(sim: Any, metrics: Metrics, follow: Any, mode: str) -> None:
    job_id = sim.add_job()
    assert follow(mode, job_id)["outcome"] == "succeeded"
    assert metrics.asked == []


# the gate


@pytest.fixture
def judge(sim: Any, task: Any) -> Any:
    def run(conditions: list[str], **options: Any) -> Any:
        gate = FineTuningGateOperator(task_id="gate", job_id=sim.job_id, conditions=conditions, **options)
        return gate.execute({"ti": task, "task": gate, "dag_run": None})

    return run


HELD = ["valid_loss <= 1.8", "min(train_loss) == 1.5", "mean(train_loss) == 2", "train_loss < valid_loss"]


def test_the_gate_judges_by_the_numbers(judge: Any, metrics: Metrics) -> None:
    decision = judge(HELD)
    assert decision["passed"]
    assert (decision["conditions"][0]["value"], decision["conditions"][0]["step"]) == (1.75, 3)
    assert len(metrics.asked) == 1


def test_the_gate_judges_an_upstream_tasks_events_by_the_same_numbers(
    judge: Any, metrics: Metrics, sim: Any
) -> None:
    assert judge(HELD, events=sim.list_events(sim.job_id))["passed"]


def test_the_gate_closes_on_them(judge: Any, metrics: Metrics) -> None:
    with pytest.raises(FineTuningGateViolated, match=r"1\.75 <= 1 is false"):
        judge(["valid_loss <= 1"])


def test_the_gate_names_what_was_reported(judge: Any, metrics: Metrics) -> None:
    with pytest.raises(
        FineTuningGateViolated, match=r"never reported full_valid_loss; it reported valid_loss"
    ):
        judge(["full_valid_loss <= 1"])


def test_the_gate_decides_nothing_if_the_numbers_cannot_be_asked_for(judge: Any, metrics: Metrics) -> None:
    metrics.answer = Answer(status=503)
    with pytest.raises(FineTuningApiError, match="the metrics of job"):
        judge(HELD)


def test_the_gate_of_a_server_without_the_route_knows_of_no_metrics(judge: Any, metrics: Metrics) -> None:
    metrics.answer = Answer(status=404)
    with pytest.raises(FineTuningGateViolated, match="reported no metrics at all"):
        judge(HELD)


# the archive


@pytest.fixture
def archive(sim: Any, tmp_path: Path) -> Any:
    def run(name: str = "log.jsonl", *, job_id: str | None = None, **options: Any) -> dict[str, Any]:
        job_id = job_id or sim.job_id
        path = str(tmp_path / name)
        operator = FineTuningEventsToObjectStorageOperator(
            task_id="archive", job_id=job_id, path=path, **options
        )
        return operator.execute({})

    return run


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("log.jsonl", {}, "log.jsonl.metrics.jsonl"),
        ("log.jsonl.gz", {}, "log.jsonl.gz.metrics.jsonl.gz"),
        ("log.parquet", {"file_format": "parquet"}, "log.parquet.metrics.parquet"),
        ("log.jsonl", {"incremental": True}, "log.jsonl.metrics.jsonl"),
    ],
)
def test_the_archive_keeps_the_numbers_in_a_file_of_their_own(
    name: str,
    options: dict[str, Any],
    expected: str,
    archive: Any,
    metrics: Metrics,
    sim: Any,
    tmp_path: Path,
    judge: Any,
) -> None:
    manifest = archive(name, **options)
    listed = manifest["metrics"]
    assert (listed["name"], listed["count"]) == (expected, 4)
    assert (tmp_path / expected).stat().st_size == listed["bytes"]
    # the log's own files are the server's log, and nothing else
    assert manifest["count"] == len(sim.list_events(sim.job_id))
    assert read_archive(tmp_path / name) == sim.list_events(sim.job_id)
    assert [event["row"] for event in read_archive_metrics(tmp_path / name)] == metrics.rows
    metrics.asked.clear()
    assert judge(HELD, archive=str(tmp_path / name))["passed"]
    assert metrics.asked == []


def test_the_archives_columns_have_the_numbers(archive: Any, metrics: Metrics, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    manifest = archive("log.parquet", file_format="parquet")
    found = parquet.read_table(tmp_path / manifest["metrics"]["name"]).to_pylist()
    assert [row["step"] for row in found] == [1, 2, 3, 3]
    assert [row["train_loss"] for row in found] == [2.5, 2.0, 1.5, None]
    assert [row["valid_loss"] for row in found] == [None, None, None, 1.75]
    assert [json.loads(row["event"])["row"] for row in found] == metrics.rows
    assert all(row["created_at"] is not None for row in found)


def test_archiving_again_gives_the_same_bytes(archive: Any, metrics: Metrics, tmp_path: Path) -> None:
    first = archive()
    content = {name: (tmp_path / name).read_bytes() for name in files(tmp_path)}
    assert archive() == first
    assert {name: (tmp_path / name).read_bytes() for name in files(tmp_path)} == content


def test_numbers_that_the_server_has_forgotten_stay(archive: Any, metrics: Metrics, tmp_path: Path) -> None:
    first = archive()
    metrics.answer = Answer(status=404)
    assert archive() == first
    assert len(read_archive_metrics(tmp_path / "log.jsonl")) == 4


def test_new_numbers_replace_the_file(archive: Any, metrics: Metrics, tmp_path: Path) -> None:
    first = archive()
    metrics.rows.append({"timestamp": metrics.rows[-1]["timestamp"] + 10**9, "train/global_step": 4})
    second = archive()
    assert second["metrics"]["count"] == 5
    assert second["sha256"] == first["sha256"]
    assert len(read_archive_metrics(tmp_path / "log.jsonl")) == 5


def test_another_jobs_numbers_do_not_stay(archive: Any, metrics: Metrics, sim: Any, tmp_path: Path) -> None:
    archive()
    metrics.answer = Answer(status=404)
    assert "metrics" not in archive(job_id=sim.add_job(ended=True))
    assert files(tmp_path) == {"log.jsonl", "log.jsonl.manifest.json"}


def test_a_file_of_numbers_that_does_not_fit_its_manifest_is_not_believed(
    archive: Any, metrics: Metrics, tmp_path: Path, judge: Any, clock: Any
) -> None:
    archive()
    changed = tmp_path / "log.jsonl.metrics.jsonl"
    changed.write_text(changed.read_text().replace("1.75", "0.75"))
    with pytest.raises(FineTuningArchiveError, match="does not match its manifest"):
        judge(HELD, archive=str(tmp_path / "log.jsonl"))
    assert archive(overwrite="replace")["metrics"]["count"] == 4


def test_a_lost_file_of_numbers_is_written_again(archive: Any, metrics: Metrics, tmp_path: Path) -> None:
    first = archive()
    (tmp_path / "log.jsonl.metrics.jsonl").unlink()
    assert archive(overwrite="keep") == first
    assert len(read_archive_metrics(tmp_path / "log.jsonl")) == 4


def test_a_lost_file_that_the_server_has_forgotten_too_is_left_out(
    archive: Any, metrics: Metrics, tmp_path: Path
) -> None:
    archive()
    (tmp_path / "log.jsonl.metrics.jsonl").unlink()
    metrics.answer = Answer(status=404)
    assert "metrics" not in archive()


def test_an_archive_of_a_server_without_the_route_lists_no_such_file(
    archive: Any, sim: Any, tmp_path: Path
) -> None:
    sim.fault = lambda request: Answer(status=404) if request.path.endswith("/metrics") else None
    assert "metrics" not in archive()
    assert files(tmp_path) == {"log.jsonl", "log.jsonl.manifest.json"}
    assert read_archive_metrics(tmp_path / "log.jsonl") == []


# the curves


def test_the_curves_have_the_numbers_and_the_end_stays_the_end(
    sim: Any, metrics: Metrics, archive: Any, tmp_path: Path
) -> None:
    pytest.importorskip("plotly")
    hook = FineTuningHook()
    log = hook.with_metrics(sim.job_id, hook.read_events(sim.job_id).collected_events())
    figure = training_figure(log)
    losses = {trace.name: list(trace.y) for trace in figure.data if "loss" in str(trace.name)}
    assert losses["train_loss"] == [2.5, 2.0, 1.5]
    assert losses["valid_loss"] == [1.75]
    archive(report=True)
    page = (tmp_path / "log.jsonl.report.html").read_text()
    assert "train_loss" in page
    assert "Job finished at" in page
