"""Status words: one table for every family, in which only whole words that say how a job ended are ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_ft_events.jobs import Job, JobState, Outcome
from airflow_ft_events.vendors import VENDORS, Vendor
from airflow_ft_events.vendors.words import WORDS, canonical, is_envelope, status_of

STATES = {
    "active": "created pending validating_files queued running in_progress validating training compressing "
    "uploading starting resuming pausing cancel_requested pending_cancel cancelling canceling stopping "
    "terminating failing_over deploying cancellation_requested writing_results",
    "paused": "paused suspended",
    "succeeded": "succeeded success completed complete successful",
    "failed": "failed failure error user_error failed_validation validation_failed expired timed_out timeout",
    "cancelled": "cancelled canceled stopped aborted",
    "unknown": "succeeded_partially partially_succeeded completed_with_errors completed_50 early_stopped "
    "training_completed run_completed phase_completed task_failed not_completed incomplete unsuccessful "
    "finished done ended terminated closed unspecified unknown status job_state splendid failed_over "
    "cancelled_requested",
}
TABLE = [(word, JobState(state)) for state, words in STATES.items() for word in words.split()]
PREFIXES = ("", "job_", "JOB_STATE_", "status_", "STATE_", "job_status_", "fine_tuning_job_status_")


def camel(word: str) -> str:
    return "".join(part.title() for part in word.split("_"))


WRITTEN: dict[str, Callable[[str], str]] = {
    "as-it-is": str,
    "upper": str.upper,
    "camel": camel,
    "hyphens": lambda word: word.replace("_", "-"),
    "spaces": lambda word: f" {word.replace('_', ' ').title()}\n",
    "enum": lambda word: f"FineTuningJobStatus.{word.upper()}",
    "joined": lambda word: f"JobState{camel(word)}",
}
EVERY_FAMILY = pytest.mark.parametrize("vendor", VENDORS.values(), ids=VENDORS)


@EVERY_FAMILY
@pytest.mark.parametrize("written", WRITTEN.values(), ids=WRITTEN)
def test_a_status_word_means_the_same_however_it_is_written(
    vendor: Vendor, written: Callable[[str], str]
) -> None:
    read = {word: vendor.state_of(written(word)) for word, _ in TABLE}
    assert read == dict(TABLE)


@EVERY_FAMILY
@pytest.mark.parametrize("prefix", PREFIXES)
def test_the_name_of_an_enumeration_before_a_word_changes_nothing(vendor: Vendor, prefix: str) -> None:
    assert {word: vendor.state_of(prefix + word) for word, _ in TABLE} == dict(TABLE)


def in_any_case(word: str) -> st.SearchStrategy[str]:
    return st.lists(st.booleans(), min_size=len(word), max_size=len(word)).map(
        lambda ups: "".join(
            letter.upper() if up else letter.lower() for letter, up in zip(word, ups, strict=True)
        )
    )


GOES_ON = sorted(word for word, state in WORDS.items() if state.outcome is None)
ENDS = sorted(set(WORDS) - set(GOES_ON))


@given(
    word=st.sampled_from(GOES_ON).flatmap(in_any_case),
    prefix=st.sampled_from((*PREFIXES, "run_", "task", "Pipeline", "model.")).flatmap(in_any_case),
    separator=st.sampled_from(["", "_", "-", " ", ".", ":", "__", "/", "\t"]),
    vendor=st.sampled_from(sorted(VENDORS)),
)
def test_no_word_for_going_on_is_ever_read_as_an_end(
    word: str, prefix: str, separator: str, vendor: str
) -> None:
    assert VENDORS[vendor].state_of(f"{prefix}{word}".replace("_", separator)).outcome is None


@given(
    end=st.sampled_from(ENDS),
    more=st.text("abcdefgINZ_- .0123456789%!?", min_size=1, max_size=12).filter(
        lambda text: any(letter.isalnum() or letter in "%!?" for letter in text)
    ),
    after=st.booleans(),
)
def test_a_word_that_only_contains_an_end_is_none_unless_the_table_has_it(
    end: str, more: str, after: bool
) -> None:
    status = end + more if after else more + end
    known = {canonical(word): state for word, state in WORDS.items()}
    assert VENDORS["openai"].state_of(status) is known.get(canonical(status), JobState.UNKNOWN)
    assert canonical(status) != canonical(end)


@given(st.text(max_size=200))
def test_every_text_has_a_canonical_form_which_is_its_own(text: str) -> None:
    assert isinstance(VENDORS["openai"].state_of(text), JobState)
    assert canonical(text.replace("_", "-")) == canonical(text.replace("-", "_"))


def test_a_word_of_the_table_stands_there_once() -> None:
    assert len({canonical(word) for word in WORDS}) >= len(WORDS) - len({"on_hold"})
    assert all(VENDORS["openai"].state_of(word) is state for word, state in WORDS.items())


def test_a_status_of_megabytes_is_no_word_and_costs_nothing() -> None:
    assert VENDORS["openai"].state_of("job_state_" * 1_000_000) is JobState.UNKNOWN


# what a connection teaches


@EVERY_FAMILY
def test_a_servers_own_words_count_more_than_any_table(vendor: Vendor) -> None:
    own = vendor.with_states(
        {"JOB_STATE_DONE": "Succeeded", "in error": "running", "error": "running", "stopped": "failed"}
    )
    read = [
        own.state_of(word) for word in ("done", "Job-Done", "InError", "ERROR", "Status.STOPPED", "failed")
    ]
    assert [state.value for state in read] == [
        "succeeded",
        "succeeded",
        "active",
        "active",
        "failed",
        "failed",
    ]
    assert own.name == vendor.name
    assert vendor.with_states({}) == vendor


@pytest.mark.parametrize(
    ("states", "says"),
    [
        (
            {"done": "finished"},
            "'done' to 'finished'; a status means one of succeeded, failed, cancelled, running",
        ),
        ({"done": "paused"}, "one of succeeded, failed, cancelled, running"),
        ({" _ ": "failed"}, "no status word"),
        ({"": "failed"}, "no status word"),
        ({"JOB_DONE": "failed", "done": "succeeded"}, "'done' two meanings"),
    ],
)
def test_what_cannot_be_taught_is_refused_by_its_name(states: dict[str, str], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        VENDORS["openai"].with_states(states)


# where the word stands


@pytest.mark.parametrize(
    ("job", "word"),
    [
        ({"status": "Running"}, "Running"),
        ({"state": "running"}, "running"),
        ({"status": "running", "state": "failed"}, "running"),
        ({"status": None, "state": "running"}, "running"),
        ({"status": " ", "state": "running"}, "running"),
        ({"status": 7, "state": {"name": "RUNNING", "value": 2}}, "RUNNING"),
        *(
            ({"status": {name: "running"}}, "running")
            for name in ("status", "state", "phase", "value", "name")
        ),
        ({"status": {"name": "my job", "state": "running"}}, "running"),
        ({"status": {"status": {"state": "running"}}}, "running"),
        ({"status": {"value": {"value": {"value": {"value": "running"}}}}}, None),
        ({"status": {"message": "failed"}}, None),
        ({"status": ["running"]}, None),
        ({"status": True}, None),
        ({}, None),
    ],
)
def test_the_word_of_a_status_is_found_where_servers_put_it(job: dict[str, Any], word: str | None) -> None:
    assert status_of(job) == word


def read(job: dict[str, Any], vendor: str = "openai") -> Job:
    return VENDORS[vendor].read_job(job, job_id="ftjob-1")


@EVERY_FAMILY
def test_a_job_whose_status_is_an_object_is_read_as_any_other(vendor: Vendor) -> None:
    raw = {
        "id": "ftjob-1",
        "status": {
            "status": "FAILED",
            "error": {"message": "No space"},
            "completionTime": "2026-01-02T03:04:05Z",
        },
        "error": None,
    }
    job = vendor.read_job(raw, job_id="ftjob-1")
    assert (job.status, job.ended, job.raw) == ("FAILED", Outcome.FAILED, raw)
    assert job.error is not None
    assert job.error.message == "No space"
    assert job.finished_at == 1767323045.0


# a success with an error

NO_ERROR = [
    None,
    {},
    [],
    "",
    "  ",
    False,
    0,
    "None",
    "null",
    [{}],
    {"code": None, "message": "", "param": None},
]
NO_ERROR += [{"code": None, "inner": {"list": []}}]
NO_ERROR += ["No error.", "N/A", {"code": 0, "message": "OK"}, {"code": "200", "message": "success"}, 200]
ERRORS = [
    "It broke",
    {"code": "oom"},
    {"detail": "No space"},
    [{"message": "It broke"}],
    True,
    7,
    {"a": [{"b": 1}]},
]


@pytest.mark.parametrize("error", NO_ERROR, ids=repr)
def test_an_error_that_says_nothing_takes_no_success_away(error: Any) -> None:
    job = read({"status": "completed", "error": error})
    assert (job.ended, job.error, job.contradicts_itself) == (Outcome.SUCCEEDED, None, False)


@EVERY_FAMILY
@pytest.mark.parametrize("error", ERRORS, ids=repr)
def test_a_success_with_an_error_is_neither_a_success_nor_a_failure(vendor: Vendor, error: Any) -> None:
    taught = vendor.with_states({"done": "succeeded"})
    jobs: list[dict[str, Any]] = [
        {"status": "completed", "error": error},
        {"status": {"state": "SUCCESS", "error": error}},
        {"status": "done", "error": error},
    ]
    for job in (taught.read_job(each, job_id="ftjob-1") for each in jobs):
        assert (job.state, job.ended, job.contradicts_itself) == (JobState.UNKNOWN, None, True)


@pytest.mark.parametrize(
    ("status", "state"), [("failed", "failed"), ("cancelled", "cancelled"), ("running", "active")]
)
def test_an_error_beside_any_other_word_changes_nothing(status: str, state: str) -> None:
    job = read({"status": status, "error": "It broke"})
    assert (job.state, job.contradicts_itself) == (JobState(state), False)


def test_an_error_of_any_depth_is_read() -> None:
    deep: Any = "It broke"
    for _ in range(5000):
        deep = [deep]
    assert read({"status": "completed", "error": deep}).contradicts_itself


# whose status it is


@pytest.mark.parametrize(
    "job",
    [
        {"status": "success", "id": "ftjob-1", "state": "RUNNING"},
        {"id": "ftjob-1", "status": "success", "data": {"status": "running"}},
        {"id": "ftjob-1", "status": {"value": "completed", "name": "training"}},
        {"id": "ftjob-1", "status": {"code": 200, "value": "success"}, "state": "running"},
        {"id": "ftjob-1", "status": "error", "state": "succeeded"},
    ],
    ids=repr,
)
def test_a_job_that_tells_two_states_is_no_verdict_unless_the_connection_teaches_the_word(
    job: dict[str, Any],
) -> None:
    assert read(job).state is JobState.UNKNOWN
    word = status_of(job)
    taught = VENDORS["openai"].with_states({str(word): "succeeded"})
    assert taught.read_job(job, job_id="ftjob-1").ended is Outcome.SUCCEEDED


def test_openais_own_words_and_words_for_the_same_state_stand() -> None:
    assert read({"id": "ftjob-1", "status": "succeeded", "state": "active"}).ended is Outcome.SUCCEEDED
    assert read({"id": "ftjob-1", "status": "success", "state": "COMPLETED"}).ended is Outcome.SUCCEEDED
    assert read({"id": "ftjob-1", "status": "success", "state": "archived"}).ended is Outcome.SUCCEEDED


@pytest.mark.parametrize("word", ["failed", "cancelled", "succeeded", "error", "success"])
@pytest.mark.parametrize(
    "beside", [{"message": "backend timeout"}, {"detail": "x", "id": None}, {"data": {"id": "ftjob-1"}}]
)
def test_an_end_beside_a_message_with_nothing_of_a_job_is_the_requests(
    word: str, beside: dict[str, Any]
) -> None:
    assert is_envelope({"status": word, **beside})
    assert not is_envelope({"status": word, **beside, "id": "ftjob-1"})
