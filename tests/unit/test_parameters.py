"""What counts as a template: one answer for every check that a Dag's parsing makes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from airflow_ft_events.errors import FineTuningInputError
from airflow_ft_events.gate.conditions import check_conditions_early
from airflow_ft_events.parameters import check_conn_id, check_early, check_job_id, is_template
from airflow_ft_events.transfers.fine_tuning_to_object_storage import FineTuningEventsToObjectStorageOperator


class XComArg:
    """Something that Airflow resolves when the task runs."""

    def iter_references(self) -> tuple[()]:
        return ()

    def __repr__(self) -> str:
        return "XComArg()"


LATER = ["{{ params.x }}", "{% if x %}a{% endif %}", "{# c #}x", "a{# c #}", XComArg()]


@pytest.mark.parametrize("given", LATER, ids=repr)
def test_every_check_at_parse_time_has_one_answer_for_what_a_template_is(given: Any) -> None:
    assert is_template(given)
    check_early(given)
    check_conditions_early([given])
    check_conditions_early(given)
    assert FineTuningEventsToObjectStorageOperator(task_id="t", job_id=given, path=given).path is given
    with pytest.raises(FineTuningInputError):
        check_job_id(given)


@pytest.mark.parametrize(
    "given", ["{x}", "{ {x} }", "a%}b", "ftjob-1", 7, None, Path("/logs/a.jsonl")], ids=repr
)
def test_what_airflow_will_not_render_is_checked_when_the_dag_is_parsed(given: Any) -> None:
    assert not is_template(given)


def test_a_job_id_that_is_not_text_is_refused_when_the_dag_is_parsed() -> None:
    with pytest.raises(FineTuningInputError, match="job_id is 7"):
        check_early(7)


@pytest.mark.parametrize("conn_id", [None, "", "  ", 5, 1.5, True, b"tuning", ["tuning"]])
def test_a_connection_id_that_is_empty_or_no_text_is_refused(conn_id: object) -> None:
    with pytest.raises(FineTuningInputError, match=r"The conn_id is .*such as fine_tuning_default"):
        check_conn_id(conn_id)


@pytest.mark.parametrize("given", [*LATER, "tuning"], ids=repr)
def test_a_connection_id_that_is_known_later_is_checked_later(given: Any) -> None:
    check_conn_id(given)
