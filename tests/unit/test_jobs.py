"""A job's end as every mode returns it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_ft_events.jobs import Job, JobError, JobOutcome, JobState, Outcome

KEYS = [
    "job_id",
    "vendor",
    "outcome",
    "decided_by",
    "status",
    "fine_tuned_model",
    "error",
    "finished_at",
    "trained_tokens",
    "last_event",
    "metrics",
]


def outcome_of(job: dict[str, Any], outcome: Outcome = Outcome.SUCCEEDED) -> JobOutcome:
    found = JobOutcome.of_job(
        Job(raw=job, id="ftjob-1", vendor="openai", state=JobState(outcome.value), fields=job)
    )
    assert found is not None
    return found


def test_a_job_that_succeeded_gives_all_its_facts() -> None:
    job = {
        "id": "ftjob-1",
        "status": "succeeded",
        "fine_tuned_model": "ft:gpt:acme::1",
        "trained_tokens": 5768,
        "finished_at": 1_700_000_000,
        "error": {},
    }
    found = outcome_of(job).as_dict()
    assert list(found) == KEYS
    assert found == {
        "job_id": "ftjob-1",
        "vendor": "openai",
        "outcome": "succeeded",
        "decided_by": "status",
        "status": "succeeded",
        "fine_tuned_model": "ft:gpt:acme::1",
        "error": None,
        "finished_at": "2023-11-14T22:13:20+00:00",
        "trained_tokens": 5768,
        "last_event": None,
        "metrics": {},
    }
    assert type(found["outcome"]) is str


@pytest.mark.parametrize(
    ("given", "error"),
    [
        (None, None),
        ({}, None),
        ({"code": None, "message": None, "param": None}, None),
        ({"code": "", "message": ""}, None),
        ([], None),
        (7, None),
        ("", None),
        ("  ", None),
        ("It broke", JobError(message="It broke")),
        ({"message": "It broke"}, JobError(message="It broke")),
        ({"code": 400, "message": ["a"]}, JobError(code="400", message="['a']")),
        ({"code": "bad", "message": "two\nlines", "param": "file"}, JobError("bad", "two lines", "file")),
        ({"code": "bad", "inner": 1}, JobError(code="bad")),
    ],
)
def test_an_error_counts_only_if_it_says_something(given: Any, error: JobError | None) -> None:
    assert outcome_of({"status": "failed", "error": given}, Outcome.FAILED).error == error


@pytest.mark.parametrize("name", ["fine_tuned_model", "trained_tokens", "finished_at", "error"])
@pytest.mark.parametrize("value", [None, [], {}, True, float("nan"), 10**400, "\ud800", ""], ids=range(8))
def test_a_fact_of_any_kind_never_breaks_the_outcome(name: str, value: Any) -> None:
    found = outcome_of({"status": "succeeded", name: value})
    assert JobOutcome.from_dict(json.loads(json.dumps(found.as_dict()))) == found


def test_numbers_and_times_that_are_written_as_text_are_read() -> None:
    found = outcome_of({"status": "succeeded", "trained_tokens": "5768", "finished_at": "1700000000000"})
    assert (found.trained_tokens, found.finished_at) == (5768, "2023-11-14T22:13:20+00:00")


def test_an_outcome_survives_the_way_from_the_trigger_to_the_worker() -> None:
    found = outcome_of(
        {"status": "failed", "error": {"code": "bad", "message": "m"}, "finished_at": 5}, Outcome.FAILED
    )
    again = JobOutcome.from_dict(json.loads(json.dumps(found.as_dict())))
    assert again == found
    assert again.outcome is Outcome.FAILED


@pytest.mark.parametrize(
    "given",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"job_id": "a", "vendor": "b", "decided_by": "status"}, id="no-outcome"),
        pytest.param(
            {"job_id": "a", "vendor": "b", "decided_by": "status", "outcome": "exploded"},
            id="an-unknown-outcome",
        ),
        pytest.param(
            {"job_id": "a", "vendor": "b", "decided_by": "s", "outcome": "failed", "error": "no"},
            id="an-error-that-is-a-text",
        ),
        pytest.param(
            {
                "job_id": "a",
                "vendor": "b",
                "decided_by": "s",
                "outcome": "failed",
                "error": {"colour": "red"},
            },
            id="an-error-of-other-parts",
        ),
        pytest.param(
            {"job_id": "a", "vendor": "b", "decided_by": "s", "outcome": "failed", "metrics": 7},
            id="metrics-that-are-a-number",
        ),
    ],
)
def test_an_invalid_outcome_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="not the outcome of a job"):
        JobOutcome.from_dict(given)


def test_only_the_three_final_states_are_outcomes() -> None:
    assert {state: state.outcome for state in JobState if state.outcome} == {
        JobState.SUCCEEDED: Outcome.SUCCEEDED,
        JobState.FAILED: Outcome.FAILED,
        JobState.CANCELLED: Outcome.CANCELLED,
    }
