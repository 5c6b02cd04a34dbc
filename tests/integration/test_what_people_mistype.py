"""What people mistype, and what they are told: found by trying the package from its README alone."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_ft_events.exceptions import FineTuningApiError, FineTuningInputError, FineTuningJobNotFound
from airflow_ft_events.hooks.fine_tuning import FineTuningHook
from airflow_ft_events.operators.fine_tuning import FineTuningEventsOperator
from airflow_ft_events.transfers.fine_tuning_to_object_storage import (
    FineTuningEventsToObjectStorageOperator,
)


@pytest.mark.parametrize(
    "written",
    ["fine-tuning://:sk@http://127.0.0.1:1/v1", "{'conn_type': 'fine_tuning'}"],
    ids=["URI", "JSON"],
)
def test_a_connection_that_is_set_and_cannot_be_read_is_not_called_undefined(
    written: str, monkeypatch: pytest.MonkeyPatch, both: Any
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_MISTYPED", written)
    for error in both(FineTuningHook("mistyped"), "get_job", "ftjob-1"):
        assert isinstance(error, FineTuningInputError | ValueError)
        assert "not defined" not in str(error)


@pytest.mark.parametrize("key", ["sk/1", "s@k/1"])
def test_what_to_encode_in_a_uri_includes_the_key(
    key: str, monkeypatch: pytest.MonkeyPatch, both: Any
) -> None:
    def written(key: str) -> None:
        uri = f"fine-tuning://:{key}@http%3A%2F%2F127.0.0.1%3A1%2Fv1"
        monkeypatch.setenv("AIRFLOW_CONN_MISTYPED", uri)

    written(key)
    for error in both(FineTuningHook("mistyped"), "get_job", "ftjob-1"):
        assert isinstance(error, FineTuningInputError)
        assert "each / (%2F) and @ (%40) in the key" in str(error)
    written(key.replace("/", "%2F").replace("@", "%40"))
    assert FineTuningHook("mistyped").settings.credential.current() == key


@pytest.mark.parametrize("conn_id", [None, 5], ids=repr)
def test_a_connection_id_that_was_rendered_to_no_text_is_refused_when_the_hook_is_made(conn_id: Any) -> None:
    with pytest.raises(FineTuningInputError, match="The conn_id is"):
        FineTuningHook(conn_id)


def test_a_whole_url_of_the_job_list_fails_the_connection_test_and_is_told_its_root(
    simulated: Any, connect: Any
) -> None:
    simulator = simulated()
    connect(f"{simulator.base_url}/fine_tuning/jobs", key=simulator.api_key)
    works, said = FineTuningHook().test_connection()
    assert not works
    assert f"put {simulator.base_url} into 'Host'" in said


def test_an_extra_that_is_no_json_is_refused_and_not_left_out(
    monkeypatch: pytest.MonkeyPatch, both: Any
) -> None:
    told = {"conn_type": "fine_tuning", "host": "https://x.example/v1", "password": "k", "extra": "timeout=3"}
    monkeypatch.setenv("AIRFLOW_CONN_MISTYPED", json.dumps(told))
    for error in both(FineTuningHook("mistyped"), "get_job", "ftjob-1"):
        assert isinstance(error, FineTuningInputError)
        assert "'mistyped': its extra is not JSON" in str(error)


def test_a_setting_that_means_nothing_is_named_beside_a_404(simulated: Any, connect: Any, both: Any) -> None:
    sim = simulated([{}], vendor="azure")
    extra = {"vendor": "azure", "api-version": sim.connection_extra["api_version"]}
    connect(sim.base_url, key=sim.api_key, **extra)
    for error in both(FineTuningHook(), "get_job", sim.job_id):
        assert isinstance(error, FineTuningJobNotFound)
        assert "as unknown: 'api-version'" in str(error)


def test_a_base_url_without_its_path_is_among_the_reasons_of_a_404(
    simulated: Any, connect: Any, both: Any
) -> None:
    sim = simulated(ended=True)
    connect(sim.base_url.removesuffix("/v1"), key=sim.api_key)
    for error in both(FineTuningHook(), "get_job", sim.job_id):
        assert isinstance(error, FineTuningJobNotFound)
        assert "'Host' (" in str(error)
        assert "such as /v1" in str(error)


def test_a_job_that_has_ended_cannot_be_cancelled_and_that_is_said(
    simulated: Any, connect: Any, both: Any
) -> None:
    sim = simulated(ended=True)
    connect(sim)
    for error in both(FineTuningHook(), "cancel_job", sim.job_id):
        assert isinstance(error, FineTuningApiError)
        assert "has ended can no longer be cancelled" in str(error)


def test_a_filter_that_lets_nothing_through_is_told_what_there_was(
    simulated: Any, connect: Any, task: Any, logs: Any
) -> None:
    sim = simulated(ended=True)
    connect(sim)
    collect = FineTuningEventsOperator(task_id="collect", job_id=sim.job_id, types=["metric"])
    assert collect.execute({"ti": task}) == []
    assert "types message, metrics and the levels info" in logs.text


def test_a_path_is_shown_as_it_was_written() -> None:
    with pytest.raises(FineTuningInputError, match=r"/data/MyJob\.jsonl"):
        FineTuningEventsToObjectStorageOperator(
            task_id="archive", job_id="ftjob-1", path="/data/MyJob.jsonl", file_format="parquet"
        )
