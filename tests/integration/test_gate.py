"""FineTuningGateOperator: outcome first, then conditions; and the hook's metrics and checkpoints."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowFailException

from airflow_ft_events.connection.carried import carried
from airflow_ft_events.events import metrics_table
from airflow_ft_events.exceptions import (
    FineTuningAnswerError,
    FineTuningApiError,
    FineTuningAuthError,
    FineTuningError,
    FineTuningGateViolated,
    FineTuningInputError,
    FineTuningJobNotFound,
    FineTuningPagingError,
)
from airflow_ft_events.gate.conditions import ConditionError
from airflow_ft_events.hooks.fine_tuning import FineTuningHook
from airflow_ft_events.operators.fine_tuning import FineTuningEventsOperator, FineTuningGateOperator
from airflow_ft_events.simulator import Simulator

try:
    from airflow.dag_processing.dagbag import DagBag
except ImportError:
    from airflow.models.dagbag import DagBag

VALIDATED = "openai_succeeded_2024-08_gpt4omini_valid_a.json"
pagers = pytest.mark.parametrize("vendor", ["openai", "azure", "azure-v1", "nebius"])
GOOD, BAD = "train_loss < 1", "train_loss > 1"


def training(*losses: Any, end: Mapping[str, str] | None = None, **data: Any) -> list[dict[str, Any]]:
    """A job's events: one step a loss, and the event that ends it, all ten minutes ago."""
    steps = [
        {"type": "metrics", "message": f"Step {step}", "data": {"step": step, "train_loss": loss, **data}}
        for step, loss in enumerate(losses, start=1)
    ]
    return [{**event, "offset": -600} for event in (*steps, *([end] if end else []))]


@pytest.fixture
def gate(task: Any, clock: Any) -> Any:
    """Run the gate; what it pushed is in ``task.pushed``."""

    def run(job_id: str, *conditions: Any, **options: Any) -> Any:
        operator = FineTuningGateOperator(
            task_id="gate", job_id=job_id, conditions=list(conditions) or [GOOD], **options
        )
        return operator.execute({"ti": task, "task": operator})

    return run


@pytest.fixture
def server(simulated: Any, connect: Any) -> Simulator:
    """A simulator without jobs, connected."""
    sim: Simulator = simulated([])
    connect(sim)
    return sim


def ended(sim: Simulator, *losses: Any, status: str = "succeeded", **data: Any) -> str:
    return sim.add_job(events=training(*losses, **data), status_timeline=[(-600, status)])


# the decision


def test_a_gate_whose_conditions_hold_returns_its_decision(
    shared_dir: Path, server: Simulator, gate: Any, task: Any, logs: Any
) -> None:
    job_id = server.add_job(log=shared_dir / "event_logs" / VALIDATED, ended=True)
    decision = gate(job_id, "full_valid_loss <= 1.2", "min(train_loss) < 0.9", "mean(train_loss) < 0.1")
    assert decision == task.pushed["decision"]
    assert json.loads(json.dumps(decision, allow_nan=False)) == decision
    assert decision["conditions"][0] == {
        "condition": "full_valid_loss <= 1.2",
        "value": 0.004403916553852115,
        "limit": 1.2,
        "step": 240,
        "passed": True,
        "reason": None,
    }
    assert [row["step"] for row in decision["conditions"]] == [240, 235, None]
    assert {name: decision[name] for name in ("job_id", "outcome", "passed")} == {
        "job_id": job_id,
        "outcome": "succeeded",
        "passed": True,
    }
    for said in ("3 of 3 conditions hold: the gate is open", "0.004403916553852115 at step 240"):
        assert said in logs.text


def test_a_violation_fails_without_a_retry_after_its_decision_was_pushed(
    server: Simulator, gate: Any, task: Any, logs: Any
) -> None:
    job_id = ended(server, 0.9, 0.5)
    with pytest.raises(FineTuningGateViolated) as closed:
        gate(job_id, "train_loss < 0.6", "min(train_loss) < 0.4", "train_los < 1")
    assert isinstance(closed.value, AirflowFailException)
    assert not isinstance(closed.value, FineTuningInputError)
    lines = str(closed.value).split("\n")
    assert f"gate for job {job_id} is closed (connection 'fine_tuning_default')" in lines[0]
    assert "2 of 3 conditions do not hold" in lines[0]
    assert lines[1:] == [
        "  holds     train_loss < 0.6       0.5 at step 2",
        "  VIOLATED  min(train_loss) < 0.4  0.5 at step 2; 0.5 < 0.4 is false",
        "  VIOLATED  train_los < 1          the job never reported train_los; it reported train_loss, step",
    ]
    decision = task.pushed["decision"]
    assert (decision["passed"], [row["passed"] for row in decision["conditions"]]) == (
        False,
        [True, False, False],
    )
    assert all(line.strip() in logs.text for line in lines[1:])


@pytest.mark.parametrize("value", [math.nan, math.inf, None, "NaN"])
def test_a_last_loss_that_is_not_a_number_closes_the_gate(value: Any, server: Simulator, gate: Any) -> None:
    job_id = ended(server, 0.9, 0.5, value)
    with pytest.raises(FineTuningGateViolated, match=r"train_loss is .* at step 3"):
        gate(job_id)


def test_a_nan_that_came_through_xcom_as_null_closes_the_gate(server: Simulator, gate: Any) -> None:
    job_id = ended(server, 0.9, math.nan)
    events = [carried(event) for event in FineTuningHook().list_events(job_id)]
    with pytest.raises(FineTuningGateViolated, match="train_loss is null"):
        gate(job_id, events=events)


# the outcome


@pytest.mark.every_family
@pytest.mark.parametrize(("status", "said"), [("failed", "the job failed"), ("cancelled", "was cancelled")])
def test_a_job_that_did_not_succeed_closes_the_gate_whatever_its_metrics(
    status: str, said: str, server: Simulator, gate: Any, task: Any, logs: Any
) -> None:
    job_id = ended(server, 0.1, status=status)
    with pytest.raises(FineTuningGateViolated, match=said) as closed:
        gate(job_id)
    assert str(closed.value).split("\n")[1:] == [f"  not evaluated  {GOOD}"]
    assert "(decided by its status); no condition was evaluated; the gate is closed." in logs.text
    assert "VIOLATED" not in logs.text
    assert task.pushed["decision"] == {
        "job_id": job_id,
        "outcome": status,
        "passed": False,
        "conditions": [
            {
                "condition": GOOD,
                "value": None,
                "limit": None,
                "step": None,
                "passed": False,
                "reason": f"not evaluated: the job {'was ' * (status == 'cancelled')}{status}",
            }
        ],
    }


@pytest.mark.every_family
def test_the_reason_of_a_failed_job_is_told(simulated: Any, connect: Any, gate: Any) -> None:
    sim = simulated(outcome="failed", ended=True)
    connect(sim)
    error = FineTuningHook().get_job(sim.job_id).get("error") or sim.list_events(sim.job_id)[-1]
    with pytest.raises(FineTuningGateViolated) as closed:
        gate(sim.job_id)
    assert error["message"].rstrip(".") in str(closed.value)


@pytest.mark.parametrize("status", ["running", "queued", "paused", "unheard_of"])
@pytest.mark.parametrize("on_violation", ["fail", "skip"])
def test_a_job_that_has_not_ended_is_an_error_that_names_the_sensor(
    status: str, on_violation: str, server: Simulator, gate: Any, task: Any
) -> None:
    job_id = ended(server, 0.1, status=status)
    with pytest.raises(FineTuningError, match="FineTuningEventsSensor in front of it") as early:
        gate(job_id, on_violation=on_violation)
    assert not isinstance(early.value, AirflowFailException)
    assert status in str(early.value)
    assert task.pushed == {}


@pytest.mark.every_family
def test_without_a_job_route_the_events_decide(
    family: Any, simulated: Any, connect: Any, gate: Any, clock: Any, task: Any
) -> None:
    sim = simulated([], job_route=False)
    connect(sim)
    assert gate(ended(sim, 0.9, 0.5, end=family.success))["outcome"] == "succeeded"
    if family.cancellation:
        with pytest.raises(FineTuningGateViolated, match="was cancelled"):
            gate(ended(sim, 0.5, end=family.cancellation))
    task.pushed.clear()
    with pytest.raises(FineTuningError, match="announce no end, so it is unknown whether it has ended"):
        gate(ended(sim, 0.5))
    fresh = [event | {"offset": 0} for event in training(0.5, end=family.success)]
    job_id = sim.add_job(events=fresh)
    with pytest.raises(FineTuningError, match=r"too recent: it may still be taken back for another \d+ s"):
        gate(job_id)
    assert task.pushed == {}
    clock.sleep(121)
    assert gate(job_id)["passed"]


def test_without_a_job_route_given_events_do_not_decide_the_outcome(
    simulated: Any, connect: Any, gate: Any
) -> None:
    sim = simulated([], job_route=False)
    connect(sim)
    with pytest.raises(FineTuningError, match="unknown whether it has ended"):
        gate(ended(sim, 0.5), events=training(0.5))


def test_a_server_that_cannot_be_asked_is_an_error_and_never_a_skip(
    server: Simulator, gate: Any, connect: Any, task: Any
) -> None:
    job_id = ended(server, 0.5)
    with pytest.raises(FineTuningJobNotFound):
        gate("ftjob-unknown", on_violation="skip")
    connect(server, key="sk-wrong-key-9876", conn_id="wrong")
    with pytest.raises(FineTuningAuthError):
        gate(job_id, on_violation="skip", conn_id="wrong")
    server.events_route = False
    with pytest.raises(FineTuningApiError):
        gate(job_id, on_violation="skip")
    assert task.pushed == {}


# events from upstream


def test_given_events_are_evaluated_and_not_read(server: Simulator, gate: Any) -> None:
    job_id = ended(server, 0.5)
    given = training(3.0, 2.0)
    assert gate(job_id, BAD, events=given)["conditions"][0]["value"] == 2.0
    assert not any("/events" in request.path for request in server.requests)
    for place, event in enumerate(given):
        event["created_at"] = 1_700_000_000 + place
    assert gate(job_id, BAD, events=given[::-1])["conditions"][0]["value"] == 2.0


@pytest.mark.parametrize("given", ["None", "[{}]", {"id": "x"}, 3, [None], ["ftevent-1"], [{}, 7]])
def test_events_that_are_no_list_of_events_are_refused(given: Any, server: Simulator, gate: Any) -> None:
    with pytest.raises(FineTuningInputError, match=r"events (is|contains)"):
        gate(ended(server, 0.5), events=given)
    assert server.requests == []


def test_an_empty_list_of_events_closes_the_gate(server: Simulator, gate: Any) -> None:
    with pytest.raises(FineTuningGateViolated, match="it reported no metrics at all"):
        gate(ended(server, 0.5), events=[])


# what a Dag's author gives


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"conditions": ["loss <"]}, ConditionError),
        ({"conditions": ["loss < {{ 1 }}", "loss"]}, ConditionError),
        ({"conditions": []}, ConditionError),
        ({"conditions": "loss < 1"}, ConditionError),
        ({"on_violation": "ignore"}, FineTuningInputError),
        ({"job_id": ""}, FineTuningInputError),
        ({"conn_id": " "}, FineTuningInputError),
    ],
)
def test_what_cannot_work_is_refused_when_the_dag_is_parsed(options: dict[str, Any], error: Any) -> None:
    with pytest.raises(error):
        FineTuningGateOperator(**{"task_id": "gate", "job_id": "ftjob-1", "conditions": [GOOD], **options})


def test_templates_are_checked_once_they_are_rendered(server: Simulator, gate: Any, task: Any) -> None:
    operator = FineTuningGateOperator(
        task_id="gate", job_id="{{ job }}", conditions=["loss < {{ most }}"], conn_id="{{ conn }}"
    )
    operator.job_id, operator.conditions = "ftjob-1", ["loss <"]
    with pytest.raises(ConditionError, match="position 7"):
        operator.execute({"ti": task, "task": operator})
    operator.job_id, operator.conditions = "None", [GOOD]
    with pytest.raises(FineTuningInputError, match="job_id"):
        operator.execute({"ti": task, "task": operator})
    assert server.requests == []


def test_xcom_arguments_are_left_for_the_run_and_make_the_gate_follow_their_task() -> None:
    with DAG("ft_gate_arguments", schedule=None, start_date=datetime(2024, 1, 1, tzinfo=UTC)):
        collect = FineTuningEventsOperator(task_id="collect", job_id="ftjob-1")
        whole = FineTuningGateOperator(
            task_id="whole", job_id=collect.output["job_id"], conditions=collect.output["conditions"]
        )
        inner = FineTuningGateOperator(
            task_id="inner", job_id="ftjob-1", conditions=[GOOD, collect.output["one"]], events=collect.output
        )
    assert whole.upstream_task_ids == inner.upstream_task_ids == {"collect"}


def test_no_secret_of_the_connection_reaches_the_decision(
    server: Simulator, gate: Any, connect: Any, task: Any, logs: Any
) -> None:
    job_id = ended(server, 0.5, **{server.api_key: 1})
    with pytest.raises(FineTuningGateViolated) as closed:
        gate(job_id, "loss < 1")
    assert "***" in str(closed.value)
    for text in (str(closed.value), json.dumps(task.pushed)):
        assert server.api_key not in text


# in a Dag

GATES = """
from __future__ import annotations

import datetime
import os

from airflow.providers.common.compat.sdk import DAG, BaseOperator

from airflow_ft_events.operators.fine_tuning import FineTuningEventsOperator, FineTuningGateOperator


class Deploy(BaseOperator):
    def execute(self, context):
        return "deployed"


with DAG("ft_gates", schedule=None, start_date=datetime.datetime(2024, 1, 1), params={"most": 0.6}) as dag:
    collect = FineTuningEventsOperator(task_id="collect", job_id="{{ dag_run.conf['job_id'] }}", settle=0)
    for name, options in {
        "fails": {},
        "skips": {"on_violation": "skip"},
        "skips_next": {"on_violation": "skip", "ignore_downstream_trigger_rules": False},
    }.items():
        gate = FineTuningGateOperator(
            task_id=name,
            job_id="{{ dag_run.conf['job_id'] }}",
            conditions=["train_loss < {{ params.most }}"],
            events=collect.output,
            **options,
        )
        gate >> Deploy(task_id=f"{name}_deploy") >> Deploy(task_id=f"{name}_tell", trigger_rule="all_done")
    alone = FineTuningGateOperator(
        task_id="alone",
        job_id="{{ dag_run.conf['job_id'] }}",
        conditions=["train_loss < 0.6"],
        on_violation="skip",
    )
"""


@pytest.fixture(scope="module")
def dag_bag(airflow_db: Path) -> DagBag:
    """The Dag, in the configured folder: Airflow 3 runs nothing else."""
    folder = airflow_db / "dags" / "gates"
    folder.mkdir(exist_ok=True)
    (folder / "gates.py").write_text(GATES)
    return DagBag(dag_folder=str(folder))


@pytest.fixture
def live(monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulator]:
    with Simulator([]) as sim:
        monkeypatch.setenv("AIRFLOW_CONN_FINE_TUNING_DEFAULT", sim.connection_json())
        yield sim


def tasks_of(run: Any) -> dict[str, Any]:
    return {task.task_id: task for task in run.get_task_instances()}


def test_a_closed_gate_fails_or_skips_what_is_downstream(dag_bag: DagBag, live: Simulator) -> None:
    assert dag_bag.import_errors == {}
    run = dag_bag.dags["ft_gates"].test(run_conf={"job_id": ended(live, 0.9, 0.7)})
    tasks = tasks_of(run)
    assert {name: str(task.state) for name, task in tasks.items()} == {
        "collect": "success",
        "fails": "failed",
        "fails_deploy": "upstream_failed",
        "fails_tell": "success",
        "skips": "success",
        "skips_deploy": "skipped",
        "skips_tell": "skipped",
        "skips_next": "success",
        "skips_next_deploy": "skipped",
        "skips_next_tell": "success",
        "alone": "success",
    }
    for name in ("fails", "skips", "skips_next", "alone"):
        decision = tasks[name].xcom_pull(task_ids=name, key="decision")
        assert decision["passed"] is False
        assert decision["conditions"][0]["value"] == 0.7
        returned = tasks[name].xcom_pull(task_ids=name)
        assert returned == (None if name == "fails" else decision)


def test_an_open_gate_lets_everything_through(dag_bag: DagBag, live: Simulator) -> None:
    run = dag_bag.dags["ft_gates"].test(run_conf={"job_id": ended(live, 0.9, 0.5)})
    tasks = tasks_of(run)
    assert {str(task.state) for task in tasks.values()} == {"success"}
    assert tasks["skips"].xcom_pull(task_ids="skips")["passed"] is True


# the hook's tables


def test_metrics_are_the_table_of_the_whole_log(simulated: Any, connect: Any, call: Any) -> None:
    sim = simulated([])
    ended(sim, *(1 / step for step in range(1, 101)))
    connect(sim, page_size=7)
    table = call(FineTuningHook(), "list_metrics", sim.job_id)
    assert table == metrics_table(sim.list_events(sim.job_id))
    assert [row["step"] for row in table] == list(range(1, 101))


def checkpoint(number: int, **fields: Any) -> dict[str, Any]:
    """A checkpoint as the specification has it."""
    return {
        "object": "fine_tuning.job.checkpoint",
        "id": f"ftckpt-{number}",
        "created_at": 1_700_000_000 + number,
        "fine_tuned_model_checkpoint": f"ft:gpt-4o-mini-2024-07-18:x::abc:ckpt-step-{number}",
        "fine_tuning_job_id": "ftjob-1",
        "step_number": number,
        "metrics": {"step": number, "full_valid_loss": 1 / number},
    } | fields


class TestCheckpoints:
    """GET …/checkpoints, page by page."""

    @pagers
    @pytest.mark.parametrize(("size", "page_size"), [(0, 10), (1, 10), (7, 3), (9, 3), (25, 10)])
    @pytest.mark.parametrize("newest_first", [True, False])
    def test_every_page_is_read_and_each_checkpoint_comes_once_sorted_by_step(
        self,
        size: int,
        page_size: int,
        newest_first: bool,
        family: Any,
        odd_server: Any,
        answer_bytes: Any,
        connect: Any,
        call: Any,
    ) -> None:
        by_step = [checkpoint(number) for number in range(1, size + 1)]
        shown = by_step[::-1] if newest_first else by_step
        paths: list[str] = []

        def answer(request: Any) -> bytes:
            target = urlsplit(request.target)
            asked = {name: values[0] for name, values in parse_qs(target.query).items()}
            paths.append(target.path)
            ids = [each["id"] for each in shown]
            start = ids.index(asked["after"]) + 1 if "after" in asked else 0
            page = shown[start : start + int(asked["limit"])]
            more = start + len(page) < len(shown)
            return answer_bytes({"object": "list", "data": page, "has_more": more})

        server = odd_server(answer)
        connect(server, page_size=page_size)
        assert call(FineTuningHook(), "list_checkpoints", "ftjob-1") == by_step
        assert len(server.requests) == max(1, math.ceil(size / page_size))
        assert {request.method for request in server.requests} == {"GET"}
        assert set(paths) == {f"{family.base_path}/fine_tuning/jobs/ftjob-1/checkpoints"}

    @pagers
    def test_a_server_without_has_more_is_read_to_an_empty_page(
        self, odd_server: Any, answer_bytes: Any, connect: Any, call: Any
    ) -> None:
        def answer(request: Any) -> bytes:
            data = [] if "after=" in request.target else [checkpoint(2), checkpoint(1)]
            return answer_bytes({"data": data})

        connect(odd_server(answer))
        assert call(FineTuningHook(), "list_checkpoints", "ftjob-1") == [checkpoint(1), checkpoint(2)]

    def test_checkpoints_without_steps_stay_in_the_servers_order(
        self, odd_server: Any, answer_bytes: Any, connect: Any, call: Any
    ) -> None:
        data = [checkpoint(2), checkpoint(3, step_number=None), checkpoint(1)]
        connect(odd_server(lambda _: answer_bytes({"data": data, "has_more": False})))
        assert call(FineTuningHook(), "list_checkpoints", "ftjob-1") == data

    @pagers
    def test_a_cursor_that_leads_nowhere_ends_in_an_error_and_not_in_a_loop(
        self, odd_server: Any, answer_bytes: Any, connect: Any, call: Any
    ) -> None:
        server = odd_server(lambda _: answer_bytes({"data": [checkpoint(1)], "has_more": True}))
        connect(server)
        with pytest.raises(FineTuningPagingError, match="more checkpoints of job ftjob-1") as lost:
            call(FineTuningHook(), "list_checkpoints", "ftjob-1")
        assert lost.value.job_id == "ftjob-1"
        assert len(server.requests) == 2

    @pytest.mark.parametrize("vendor", ["together"])
    def test_together_is_asked_once_on_its_own_path(
        self, odd_server: Any, answer_bytes: Any, connect: Any, call: Any
    ) -> None:
        data = [{"step": 20, "path": "b"}, {"step": 10, "path": "a"}]
        server = odd_server(lambda _: answer_bytes({"data": data}))
        connect(server)
        assert call(FineTuningHook(), "list_checkpoints", "ft-1") == data[::-1]
        assert [request.target for request in server.requests] == ["/v1/fine-tunes/ft-1/checkpoints"]

    @pytest.mark.parametrize("body", [{}, {"data": None}, {"data": [1]}, [], "text"])
    def test_an_answer_without_a_list_is_an_error_that_says_so(
        self, body: Any, odd_server: Any, answer_bytes: Any, connect: Any, call: Any
    ) -> None:
        connect(odd_server(lambda _: answer_bytes(body)))
        with pytest.raises(FineTuningAnswerError, match="the checkpoints of job ftjob-1"):
            call(FineTuningHook(), "list_checkpoints", "ftjob-1")

    def test_an_unknown_job_and_a_bad_id_are_errors(
        self, odd_server: Any, answer_bytes: Any, connect: Any, call: Any
    ) -> None:
        server = odd_server(lambda _: answer_bytes({"error": {"message": "No."}}, status="404 Not Found"))
        connect(server)
        with pytest.raises(FineTuningJobNotFound):
            call(FineTuningHook(), "list_checkpoints", "ftjob-1")
        server.requests.clear()
        with pytest.raises(FineTuningInputError):
            call(FineTuningHook(), "list_checkpoints", "../x")
        assert server.requests == []
