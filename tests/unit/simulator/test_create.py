"""What a body that creates a job asks for, and which bodies are refused."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_ft_events.simulator.create import InvalidRequestError, read_order

GOOD = {"model": "gpt-4o-mini", "training_file": "file-1"}
GRADER = {"type": "string_check", "name": "same", "input": "a", "reference": "b", "operation": "eq"}


def test_what_is_asked_for_is_kept() -> None:
    wandb = {"type": "wandb", "wandb": {"project": "p", "name": None, "entity": None, "tags": ["x"]}}
    told: dict[str, Any] = {
        **GOOD,
        "validation_file": "file-2",
        "suffix": "mine",
        "seed": 42,
        "metadata": {"team": "search"},
        "integrations": [wandb],
        "method": {"type": "dpo", "dpo": {"hyperparameters": {"n_epochs": 2, "beta": 0.1}}},
    }
    order = read_order(told)
    assert (order.training_file, order.validation_file, order.epochs) == ("file-1", "file-2", 2)
    kept = {name: order.details[name] for name in ("model", "seed", "metadata", "integrations")}
    assert kept == {
        "model": "gpt-4o-mini",
        "seed": 42,
        "metadata": {"team": "search"},
        "integrations": [wandb],
    }
    numbers = {"n_epochs": 2, "beta": 0.1, "batch_size": 1, "learning_rate_multiplier": 1.8}
    assert order.details["method"] == {"type": "dpo", "dpo": {"hyperparameters": numbers}}
    assert order.details["user_provided_suffix"] == "mine"


def test_what_is_left_out_is_the_servers_choice() -> None:
    order = read_order({**GOOD, "suffix": None, "metadata": None, "method": None, "unknown": 1})
    assert (order.validation_file, order.epochs, order.details["metadata"]) == (None, 3, None)
    assert order.details["method"]["type"] == "supervised"
    assert "seed" not in order.details


def test_hyperparameters_in_their_old_place_count_where_the_method_has_none() -> None:
    order = read_order({**GOOD, "hyperparameters": {"n_epochs": 5, "batch_size": "auto"}})
    assert order.epochs == order.details["hyperparameters"]["n_epochs"] == 5


def test_a_reinforcement_job_keeps_its_grader() -> None:
    order = read_order({**GOOD, "method": {"type": "reinforcement", "reinforcement": {"grader": GRADER}}})
    assert order.details["method"]["reinforcement"]["grader"] == GRADER


@pytest.mark.parametrize(
    ("changed", "param", "code"),
    [
        ({"model": ...}, "model", "missing_required_parameter"),
        ({"training_file": ...}, "training_file", "missing_required_parameter"),
        ({"model": 7}, "model", "invalid_type"),
        ({"training_file": None}, "training_file", "invalid_type"),
        ({"suffix": "x" * 65}, "suffix", "invalid_value"),
        ({"suffix": ""}, "suffix", "invalid_value"),
        ({"seed": -1}, "seed", "invalid_value"),
        ({"seed": 2**31}, "seed", "invalid_value"),
        ({"seed": True}, "seed", "invalid_type"),
        ({"metadata": {str(n): "" for n in range(17)}}, "metadata", "invalid_value"),
        ({"metadata": {"k" * 65: ""}}, "metadata", "invalid_value"),
        ({"metadata": {"k": "v" * 513}}, "metadata", "invalid_value"),
        ({"metadata": {"k": 1}}, "metadata", "invalid_type"),
        ({"metadata": ["k"]}, "metadata", "invalid_type"),
        ({"method": {"type": "magic"}}, "method.type", "invalid_value"),
        ({"method": {}}, "method.type", "missing_required_parameter"),
        ({"method": "dpo"}, "method", "invalid_type"),
        ({"method": {"type": "reinforcement"}}, "method.reinforcement", "missing_required_parameter"),
        (
            {"method": {"type": "reinforcement", "reinforcement": {}}},
            "method.reinforcement.grader",
            "missing_required_parameter",
        ),
        ({"hyperparameters": {"n_epochs": 0}}, "hyperparameters.n_epochs", "invalid_value"),
        ({"hyperparameters": {"n_epochs": 51}}, "hyperparameters.n_epochs", "invalid_value"),
        ({"hyperparameters": {"n_epochs": "many"}}, "hyperparameters.n_epochs", "invalid_value"),
        ({"hyperparameters": {"batch_size": 257}}, "hyperparameters.batch_size", "invalid_value"),
        (
            {"hyperparameters": {"learning_rate_multiplier": 0}},
            "hyperparameters.learning_rate_multiplier",
            "invalid_value",
        ),
        ({"integrations": [{"type": "mlflow"}]}, "integrations", "invalid_value"),
        ({"integrations": [{"type": "wandb"}]}, "integrations", "missing_required_parameter"),
    ],
)
def test_a_body_that_breaks_the_specification_is_refused_by_the_name_of_its_parameter(
    changed: dict[str, Any], param: str, code: str
) -> None:
    told = {name: value for name, value in {**GOOD, **changed}.items() if value is not ...}
    with pytest.raises(InvalidRequestError) as refused:
        read_order(told)
    assert (refused.value.param or "").startswith(param)
    assert refused.value.code == code
    assert param.rpartition(".")[2] in refused.value.message
