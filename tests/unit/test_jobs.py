"""A job's end as every mode returns it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_ft_events.jobs import Job, JobError, JobOutcome, JobState, Outcome, status_unknown

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


def unknown(job: dict[str, Any], *, contradicts_itself: bool = False) -> Job:
    return Job(
        raw=job,
        id="ftjob-1",
        vendor="openai",
        state=JobState.UNKNOWN,
        fields=job,
        contradicts_itself=contradicts_itself,
    )


@pytest.mark.parametrize(
    "name",
    [
        *(
            "finished_at",
            "completed_at",
            "ended_at",
            "end_time",
            "finish_time",
            "completionTime",
            "finishedAt",
        ),
        *("failed_at", "cancelled_at", "canceled_at", "End-Time"),
    ],
)
def test_a_job_says_that_it_has_finished_under_any_name_of_that_time(name: str) -> None:
    assert unknown({name: "2026-01-02T03:04:05Z"}).finished_at == 1767323045.0
    assert unknown({name: 1767323045}).finished_at == 1767323045.0


def test_openais_name_of_the_time_of_the_end_counts_most_if_it_has_one() -> None:
    assert unknown({"completed_at": 7, "finished_at": 5}).finished_at == 5
    assert unknown({"completed_at": 7, "finished_at": None}).finished_at == 7
    assert unknown({"completed_at": 7, "finishedAt": 5, "finished_at": 0}).finished_at == 5


@pytest.mark.parametrize(
    "job",
    [
        {"estimated_finish": 5, "created_at": 5, "started_at": 5, "updated_at": 5, "expires_at": 5},
        {"finished_at": None, "completed_at": 0, "end_time": "soon", "ended_at": [5], "failed_at": True},
        {},
    ],
)
def test_a_job_that_has_not_finished_has_no_such_time(job: dict[str, Any]) -> None:
    assert unknown(job).finished_at is None


def test_a_word_that_nobody_knows_is_no_verdict_and_can_be_taught() -> None:
    job = unknown({"status": "archived\n", "finished_at": 1767323045})
    error = status_unknown(job, conn_id="tuning")
    assert str(error) == (
        "The state of job ftjob-1 is unknown (connection 'tuning'): its status 'archived' is a word that is "
        "not known here. It says that it finished at 2026-01-02T03:04:05Z. That is no verdict: the job may "
        "have succeeded or failed. Look at the job on its server. Then write into the connection's extra "
        'what the word means there, such as {"states": {"archived": "succeeded"}} (or failed, cancelled, '
        "running), and clear the task."
    )
    assert (error.job_id, error.conn_id) == ("ftjob-1", "tuning")
    assert (error.job_status, error.finished_at) == ("archived", "2026-01-02T03:04:05Z")


def test_an_end_that_only_the_log_announces_is_quoted() -> None:
    error = status_unknown(unknown({"status": "archived"}), conn_id="tuning", announced="Training done")
    assert "known here. Its log says 'Training done'. That is no verdict" in str(error)
    assert error.finished_at is None


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        ({"code": "oom", "message": "No space", "param": None}, "'oom: No space'"),
        ("It broke", "'It broke'"),
        ({"detail": "No space"}, "No space"),
    ],
)
def test_a_success_that_reports_an_error_is_no_verdict_and_nothing_to_teach(told: Any, shown: str) -> None:
    job = unknown({"status": "completed", "error": told, "finished_at": 5}, contradicts_itself=True)
    text = str(status_unknown(job, conn_id="tuning"))
    assert "its status 'completed' means success, and it reports an error as well, " in text
    assert shown in text
    assert "states" not in text


def test_what_a_server_wrote_is_masked_in_the_error_for_an_unknown_status() -> None:
    job = unknown({"status": "s3cret", "error": "s3cret"})
    for each in (job, unknown(dict(job.fields), contradicts_itself=True)):
        error = status_unknown(
            each,
            conn_id="tuning",
            line=lambda text, *, limit: str(text).replace("s3cret", "***"),
            announced="s3cret",
        )
        assert "s3cret" not in json.dumps(error.as_dict())
