"""Reschedule mode: every poke is a new process that remembers nothing."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_ft_events.exceptions import FineTuningJobNotFound
from airflow_ft_events.hooks.fine_tuning import FineTuningHook


def test_a_stray_404_of_a_job_that_was_there_does_not_end_the_wait(
    simulated: Any, connect: Any, follow: Any, clock: Any
) -> None:
    sim = simulated()
    connect(sim)
    clock.at(100, lambda: sim.fail_next(2, status=404))
    assert follow("reschedule", sim.job_id, poke_interval=60)["outcome"] == "succeeded"


def test_a_job_that_stays_unknown_for_half_a_minute_at_the_first_poke_ends_the_wait(
    simulated: Any, connect: Any, follow: Any, clock: Any
) -> None:
    sim = simulated()
    connect(sim)
    with pytest.raises(FineTuningJobNotFound):
        follow("reschedule", "ftjob-nobody", poke_interval=60)
    assert clock.passed == 30


@pytest.mark.every_family
def test_later_pokes_log_what_is_new_and_not_the_whole_page_again(
    simulated: Any, connect: Any, follow: Any, mocker: Any
) -> None:
    sim = simulated(outcome="failed")
    connect(sim)
    said = mocker.patch("airflow_ft_events.waiting.task_log.TaskLog.lines", autospec=True, return_value=[])
    follow("reschedule", sim.job_id, poke_interval=50, raise_on_failure=False)
    shown = [[event.id for event in call.args[1]] for call in said.call_args_list]
    whole = [event.id for event in FineTuningHook().read_events(sim.job_id).collected_events()]
    assert len(shown) >= 6
    assert {given for page in shown for given in page} == set(whole)
    assert max(sum(given in page for page in shown) for given in whole) <= 2
