"""A secrets backend that is away: the verdict stands, and errors are typed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowNotFoundException

from airflow_ft_events.exceptions import FineTuningError, FineTuningInputError
from airflow_ft_events.hooks.client import ClientHook
from airflow_ft_events.hooks.fine_tuning import FineTuningHook

SECRET = "hvs.of-the-vault-itself"
RAISED = {
    "ConnectionError": ConnectionError(f"no answer from vault with {SECRET}"),
    "AirflowException": AirflowException(f"API_SERVER_ERROR {SECRET}"),
}
FLAGS = ("none", "soft_fail", "never_fail", "silent_fail")
RUNNING = {"events": [{"message": "Created", "offset": 0}], "status_timeline": [(0, "running")]}


class Backend:
    """Airflow's connections, in front of which a secrets backend may be away."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.raises: Exception | None = None
        read = ClientHook.get_connection

        def get_connection(conn_id: str) -> Any:
            if self.raises is not None:
                raise self.raises
            return read(conn_id)

        async def get_async_connection(conn_id: str) -> Any:
            return get_connection(conn_id)

        monkeypatch.setattr(ClientHook, "get_connection", staticmethod(get_connection))
        monkeypatch.setattr(
            "airflow.providers.common.compat.connection.get_async_connection", get_async_connection
        )

    def goes(self, raises: Exception) -> None:
        """Be away from now on."""
        self.raises = raises

    def comes_back(self) -> None:
        """Answer again."""
        self.raises = None


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> Backend:
    return Backend(monkeypatch)


@pytest.mark.parametrize("raised", RAISED.values(), ids=RAISED)
def test_a_hook_says_that_the_connection_cannot_be_read_now(
    raised: Exception, simulated: Any, connect: Any, backend: Backend, call: Any
) -> None:
    sim = simulated()
    connect(sim)
    backend.goes(raised)
    hook = FineTuningHook()
    with pytest.raises(FineTuningError, match="'fine_tuning_default' cannot be read now") as failed:
        call(hook, "get_job", sim.job_id)
    assert not isinstance(failed.value, FineTuningInputError)
    assert failed.value.conn_id == "fine_tuning_default"
    assert SECRET not in str(failed.value)
    assert failed.value.__suppress_context__
    backend.comes_back()
    assert call(hook, "get_job", sim.job_id)["id"] == sim.job_id


def test_a_connection_that_does_not_exist_stays_an_input_error(backend: Backend, call: Any) -> None:
    backend.goes(AirflowNotFoundException("no such connection"))
    with pytest.raises(FineTuningInputError, match="is not defined"):
        call(FineTuningHook(), "get_job", "ftjob-1")


@pytest.mark.parametrize("raised", RAISED.values(), ids=RAISED)
@pytest.mark.parametrize("flag", FLAGS)
@pytest.mark.parametrize(
    ("status", "ends"),
    [
        (
            "succeeded",
            dict.fromkeys(FLAGS, "returned succeeded"),
        ),
        (
            "failed",
            {
                "none": "FineTuningJobFailed",
                "soft_fail": "AirflowSkipException",
                "never_fail": "AirflowSkipException",
                "silent_fail": "FineTuningJobFailed",
            },
        ),
    ],
    ids=["succeeded", "failed"],
)
def test_the_verdict_stands_if_the_backend_is_away_when_the_task_resumes(
    raised: Exception,
    flag: str,
    status: str,
    ends: dict[str, str],
    simulated: Any,
    connect: Any,
    backend: Backend,
    follow: Any,
    clock: Any,
    end_of: Any,
    logs: Any,
) -> None:
    sim = simulated([RUNNING])
    connect(sim)
    clock.at(299, lambda: backend.goes(raised))
    clock.at(299, lambda: sim.set_status(sim.job_id, status))
    flags = {} if flag == "none" else {flag: True}
    assert end_of(follow, "deferrable", sim.job_id, timeout=3600, **flags) == ends[flag]
    assert logs.text.count("its last events could not be read") == 1
    assert SECRET not in logs.text


def test_a_trigger_names_a_backend_that_is_away_once_in_a_line(
    simulated: Any, connect: Any, backend: Backend, clock: Any, payload_of: Any, logs: Any
) -> None:
    from airflow_ft_events.triggers.fine_tuning import FineTuningEventsTrigger

    sim = simulated(outcome="succeeded", ended=True)
    connect(sim)
    backend.goes(RAISED["ConnectionError"])
    clock.at(100, backend.comes_back)

    async def run() -> Any:
        return await payload_of(FineTuningEventsTrigger(job_id=sim.job_id))

    assert asyncio.run(run())["outcome"]["outcome"] == "succeeded"
    assert "Connection 'fine_tuning_default' cannot be read now: ConnectionError." in logs.text
    assert SECRET not in logs.text


@pytest.mark.parametrize("raised", RAISED.values(), ids=RAISED)
@pytest.mark.parametrize("mode", ["poke", "deferrable"])
@pytest.mark.parametrize(
    ("flag", "end"),
    [
        ("none", "ConnectionNotRead"),
        ("soft_fail", "ConnectionNotRead"),
        ("never_fail", "AirflowSkipException"),
        ("silent_fail", "returned succeeded"),
    ],
)
def test_a_backend_that_is_away_at_the_first_look_ends_the_task_alike_in_every_mode(
    raised: Exception,
    mode: str,
    flag: str,
    end: str,
    simulated: Any,
    connect: Any,
    backend: Backend,
    follow: Any,
    clock: Any,
    end_of: Any,
    logs: Any,
) -> None:
    sim = simulated([RUNNING])
    connect(sim)
    backend.goes(raised)
    clock.at(100, backend.comes_back)
    clock.at(300, lambda: sim.set_status(sim.job_id, "succeeded"))
    flags = {} if flag == "none" else {flag: True}
    assert end_of(follow, mode, sim.job_id, timeout=3600, poke_interval=60, **flags) == end
    assert ("cannot be read now" in logs.text) == (flag in ("never_fail", "silent_fail"))
    assert SECRET not in logs.text
