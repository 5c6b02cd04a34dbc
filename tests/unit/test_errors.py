"""Typed errors travel: through pickle between processes, and as plain data from a trigger to the worker."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import pytest

from airflow_ft_events.errors import (
    FineTuningAnswerError,
    FineTuningApiError,
    FineTuningAuthError,
    FineTuningError,
    FineTuningInputError,
    FineTuningJobNotFound,
    FineTuningPagingError,
    FineTuningRateLimited,
    FineTuningStatusUnknown,
    error_from_dict,
)

PLAIN = [FineTuningError, FineTuningInputError, FineTuningPagingError, FineTuningAnswerError]
PLAIN += [FineTuningStatusUnknown]
OF_THE_API = [FineTuningApiError, FineTuningAuthError, FineTuningJobNotFound, FineTuningRateLimited]
FACTS: dict[str, Any] = {"job_id": "ftjob-1", "conn_id": "tuning"}
API_FACTS: dict[str, Any] = {**FACTS, "status": 404, "code": "not_found", "request_id": "req-1"}
ERRORS = [
    *[kind("It went wrong.", **FACTS) for kind in PLAIN],
    *[kind("It went wrong.", **API_FACTS) for kind in OF_THE_API],
    FineTuningStatusUnknown(
        "It went wrong.", **FACTS, job_status="ended", finished_at="2026-01-02T03:04:05Z"
    ),
    *[kind("It went wrong.") for kind in (*PLAIN, *OF_THE_API)],
]
EACH = pytest.mark.parametrize("error", ERRORS, ids=[f"{type(e).__name__}-{len(vars(e))}" for e in ERRORS])


def facts(error: FineTuningError) -> tuple[Any, ...]:
    return type(error), str(error), error.args, vars(error)


@EACH
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_an_error_survives_pickling_with_all_its_facts(error: FineTuningError, protocol: int) -> None:
    assert facts(pickle.loads(pickle.dumps(error, protocol))) == facts(error)


@EACH
def test_an_error_survives_copying(error: FineTuningError) -> None:
    assert facts(copy.deepcopy(error)) == facts(error)


@EACH
def test_an_error_survives_the_way_from_the_trigger_to_the_worker(error: FineTuningError) -> None:
    travelled = json.loads(json.dumps(error.as_dict()))
    assert facts(error_from_dict(travelled)) == facts(error)


@EACH
def test_an_error_is_its_text(error: FineTuningError) -> None:
    assert str(error) == error.message == "It went wrong."


@pytest.mark.parametrize(
    "given",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"kind": "FromAnotherVersion", "message": "Said"}, id="an-unknown-kind"),
        pytest.param({"kind": "FineTuningError", "message": "Said", "status": 1}, id="facts-that-it-has-not"),
        pytest.param({"kind": "FineTuningApiError", "message": "Said", "colour": "red"}, id="unknown-facts"),
        pytest.param({"kind": None, "message": "Said"}, id="no-kind"),
        pytest.param({"kind": ["x"], "message": "Said"}, id="a-kind-that-is-no-text"),
        pytest.param({"kind": "SystemExit", "message": "Said"}, id="somebody-elses-class"),
    ],
)
def test_data_from_another_version_still_becomes_an_error_with_its_text(given: dict[str, Any]) -> None:
    error = error_from_dict(given)
    assert isinstance(error, FineTuningError)
    assert str(error) == given.get("message", "no message")


def test_no_error_of_the_api_is_one_that_airflow_would_skip() -> None:
    from airflow.providers.common.compat.sdk import AirflowException

    assert not [kind for kind in (*PLAIN, *OF_THE_API) if issubclass(kind, AirflowException)]


def test_the_ends_of_a_job_are_failures_that_airflow_does_not_retry() -> None:
    from airflow.providers.common.compat.sdk import AirflowFailException

    from airflow_ft_events.exceptions import FineTuningJobCancelled, FineTuningJobFailed

    for kind in (FineTuningJobFailed, FineTuningJobCancelled):
        error = kind("It ended.", job_id="ftjob-1", conn_id="tuning")
        assert isinstance(error, AirflowFailException)
        assert isinstance(error, FineTuningError)
        again = pickle.loads(pickle.dumps(error))
        assert facts(again) == facts(error)


def test_an_input_error_is_a_value_error() -> None:
    assert issubclass(FineTuningInputError, ValueError)


def test_the_public_errors_are_those_of_the_api_and_those_that_airflow_must_recognise() -> None:
    from airflow_ft_events import exceptions

    assert {kind.__name__ for kind in (*PLAIN, *OF_THE_API)} | {
        "FineTuningJobFailed",
        "FineTuningJobCancelled",
        "FineTuningGateViolated",
        "FineTuningArchiveError",
        "ConditionError",
    } == set(exceptions.__all__)
