"""What the events alone say about a job's end."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_ft_events.events import Event
from airflow_ft_events.jobs import JobError, JobOutcome, Outcome
from airflow_ft_events.vendors import VENDORS
from airflow_ft_events.waiting.evidence import Evidence, completed

SUCCESS = "The job has successfully completed"


def event(at: float | None, message: str = "Something", **fields: Any) -> Event:
    return Event({"created_at": at, "level": "info", "message": message} | fields, f"{at}-{message}")


def error(at: float, code: str | None = None) -> Event:
    return event(at, "It broke", level="error", data={"error_code": code} if code else None)


def step(at: float) -> Event:
    return event(at, "Step 1/2: training loss=1", type="metrics", data={"step": 1})


def verdicts(events: list[Event], *, vendor: str = "openai", at: list[float]) -> list[str | None]:
    evidence = Evidence(vendor=VENDORS[vendor])
    evidence.take(events, seen_at=0.0)
    found = [evidence.outcome(job_id="ftjob-1", server_now=now) for now in at]
    return [outcome.outcome.value if outcome else None for outcome in found]


@pytest.mark.parametrize(
    ("events", "vendor", "left", "outcome"),
    [
        pytest.param([event(100, SUCCESS)], "openai", 220, "succeeded", id="a-success"),
        pytest.param([event(100, SUCCESS), event(150)], "openai", 220, "succeeded", id="small-talk-after-it"),
        pytest.param([step(90), event(100, SUCCESS), step(95)], "openai", 220, "succeeded", id="a-late-step"),
        pytest.param(
            [event(100, SUCCESS), error(95)], "openai", 995, "failed", id="an-error-stamped-earlier"
        ),
        pytest.param(
            [event(100, SUCCESS), step(100)], "openai", 220, "succeeded", id="a-step-of-that-second"
        ),
        pytest.param([error(100, "bad")], "openai", 220, "failed", id="an-error-with-a-code"),
        pytest.param([error(100)], "openai", 1000, "failed", id="an-error-without-a-code"),
        pytest.param([error(50), error(100)], "openai", 1000, "failed", id="a-second-error"),
        pytest.param(
            [error(50), event(100, SUCCESS)], "openai", 220, "succeeded", id="a-success-after-an-error"
        ),
        pytest.param(
            [event(100, "Job succeeded."), event(140, "Training tokens billed: 4")],
            "azure",
            220,
            "succeeded",
            id="azures-bill",
        ),
        pytest.param(
            [error(100, "bad"), event(140, "Training tokens billed: 4")],
            "azure",
            220,
            "failed",
            id="a-bill-after-a-failure",
        ),
        pytest.param([event(100, "x", type="JOB_ERROR")], "together", 220, "failed", id="a-type"),
    ],
)
def test_a_claim_stands_exactly_when_its_time_is_up(
    events: list[Event], vendor: str, left: float, outcome: str
) -> None:
    assert verdicts(events, vendor=vendor, at=[left - 0.001, left, left + DAY]) == [None, outcome, outcome]


DAY = 86_400.0


@pytest.mark.parametrize(
    ("events", "vendor"),
    [
        pytest.param([], "openai", id="nothing"),
        pytest.param([event(100)], "openai", id="small-talk"),
        pytest.param(
            [event(100, "x", type="JOB_COMPLETE"), event(95, "x", type="JOB_RESTARTED")],
            "together",
            id="a-restart-stamped-earlier",
        ),
        pytest.param([event(100, SUCCESS), step(160)], "openai", id="a-later-step"),
        pytest.param([error(100), event(160)], "openai", id="something-after-an-error"),
        pytest.param([error(100, "bad"), event(160)], "openai", id="something-after-an-error-with-a-code"),
        pytest.param(
            [error(100), event(160, "Postprocessing started.")], "azure", id="azures-lines-after-a-bare-error"
        ),
        pytest.param([event(100, "Postprocessing started.")], "azure", id="azures-lines-alone"),
        pytest.param(
            [event(100, "x", type="JOB_ERROR"), event(160, "y", type="JOB_RESTARTED")],
            "together",
            id="a-restart",
        ),
    ],
)
def test_an_event_that_claims_no_end_or_was_taken_back_never_stands(events: list[Event], vendor: str) -> None:
    assert verdicts(events, vendor=vendor, at=[DAY * 365]) == [None]


@pytest.mark.parametrize("said", [{"type": "message"}, {"level": "warn"}, {}], ids=str)
def test_a_message_that_names_a_step_takes_no_success_back(said: dict[str, str]) -> None:
    later = event(160, "Checkpoint saved", data={"step": 900}, **said)
    assert verdicts([event(100, SUCCESS), later], vendor="openai", at=[DAY]) == [Outcome.SUCCEEDED]


def test_an_error_level_event_announces_nothing() -> None:
    evidence = Evidence(vendor=VENDORS["openai"])
    evidence.take([error(100, "bad")], seen_at=0)
    assert evidence.announced is None
    assert evidence.announced_outcome is None
    evidence.take([event(200, SUCCESS)], seen_at=0)
    assert evidence.announced is not None
    assert evidence.announced.message == SUCCESS
    assert evidence.announced_outcome is Outcome.SUCCEEDED


def test_an_event_without_a_time_counts_from_when_it_was_seen() -> None:
    evidence = Evidence(vendor=VENDORS["openai"])
    evidence.take([event(None, SUCCESS)], seen_at=500)
    assert evidence.seconds_left(server_now=500) == 120
    evidence.take([step(400)], seen_at=520)
    assert evidence.seconds_left(server_now=520) is None


def test_the_result_names_the_model_and_the_time_of_the_event() -> None:
    evidence = Evidence(vendor=VENDORS["openai"])
    evidence.take([event(90, "New fine-tuned model created: ft:gpt:acme::1"), event(100, SUCCESS)], seen_at=0)
    outcome = evidence.outcome(job_id="ftjob-1", server_now=1000)
    assert outcome is not None
    assert outcome.as_dict() | {"metrics": {}} == {
        "job_id": "ftjob-1",
        "vendor": "openai",
        "outcome": "succeeded",
        "decided_by": "event",
        "status": None,
        "fine_tuned_model": "ft:gpt:acme::1",
        "error": None,
        "finished_at": "1970-01-01T00:01:40+00:00",
        "trained_tokens": None,
        "last_event": None,
        "metrics": {},
    }


def test_a_failure_has_no_model() -> None:
    evidence = Evidence(vendor=VENDORS["openai"])
    evidence.take([event(90, "New fine-tuned model created: ft:gpt:acme::1"), error(100, "bad")], seen_at=0)
    outcome = evidence.outcome(job_id="ftjob-1", server_now=1000)
    assert outcome is not None
    assert outcome.fine_tuned_model is None
    assert outcome.error is not None
    assert (outcome.error.code, outcome.error.message) == ("bad", "It broke")


def test_it_does_not_matter_how_the_events_are_handed_over() -> None:
    events = [step(10), error(20, "bad"), step(30), event(100, SUCCESS), event(110)]
    together, apart = Evidence(vendor=VENDORS["openai"]), Evidence(vendor=VENDORS["openai"])
    together.take(events, seen_at=0)
    for one in events:
        apart.take([one], seen_at=0)
    for now in (100, 219, 220):
        assert together.outcome(job_id="a", server_now=now) == apart.outcome(job_id="a", server_now=now)


BROKE = JobError(message="It broke")
TELLS_NOTHING = JobError(message="JOB_USER_ERROR")


@pytest.mark.parametrize(
    ("events", "vendor", "reason"),
    [
        pytest.param([], "openai", None, id="no-events"),
        pytest.param([event(90), event(100)], "openai", None, id="small-talk"),
        pytest.param([error(100)], "openai", BROKE, id="an-error"),
        pytest.param(
            [error(100, "bad")], "openai", JobError(code="bad", message="It broke"), id="an-error-with-a-code"
        ),
        pytest.param(
            [event(100, "No", level="error", data={"error_code": "c", "error_param": "training_file"})],
            "openai",
            JobError(code="c", message="No", param="training_file"),
            id="an-error-with-a-param",
        ),
        pytest.param([error(100), event(110, "Cleaning up")], "openai", BROKE, id="small-talk-after-it"),
        pytest.param(
            [error(100), event(110, "Training tokens billed: 4")], "azure", BROKE, id="a-bill-after-it"
        ),
        pytest.param([error(100), step(110)], "openai", None, id="a-step-after-it"),
        pytest.param([error(100), event(110, SUCCESS)], "openai", None, id="a-success-after-it"),
        pytest.param(
            [event(90, "The first", level="error"), error(100)], "openai", BROKE, id="the-newest-of-two"
        ),
        pytest.param([event(100, "It broke", type="JOB_ERROR")], "together", BROKE, id="a-type"),
        pytest.param(
            [event(100, "", type="JOB_USER_ERROR")], "together", TELLS_NOTHING, id="a-type-without-a-word"
        ),
        pytest.param(
            [event(100, "x", type="JOB_ERROR"), event(110, "y", type="JOB_RESTARTED")],
            "together",
            None,
            id="a-restart-after-it",
        ),
    ],
)
def test_the_reason_of_a_failure_is_read_off_the_log_where_the_job_is_silent(
    events: list[Event], vendor: str, reason: JobError | None
) -> None:
    failed = JobOutcome("ftjob-1", vendor, Outcome.FAILED, "status")
    assert completed(failed, events, vendor=VENDORS[vendor]).error == reason


@pytest.mark.parametrize(
    "outcome",
    [
        JobOutcome("ftjob-1", "openai", Outcome.SUCCEEDED, "status"),
        JobOutcome("ftjob-1", "openai", Outcome.CANCELLED, "status"),
        JobOutcome("ftjob-1", "openai", Outcome.FAILED, "status", error=JobError(code="the_jobs_own")),
    ],
    ids=["succeeded", "cancelled", "told by the job"],
)
def test_no_other_outcome_gets_a_reason_from_the_log(outcome: JobOutcome) -> None:
    assert completed(outcome, [error(100, "bad")], vendor=VENDORS["openai"]) is outcome
