"""What a client asks for when it creates a job: checked as OpenAI's specification says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

Auto = Literal["auto"]
Batch = Auto | Annotated[int, Meta(ge=1, le=256)]
Epochs = Auto | Annotated[int, Meta(ge=1, le=50)]
Rate = Auto | Annotated[float, Meta(gt=0)]
Every = Auto | Annotated[int, Meta(ge=1)]
Suffix = Annotated[str, Meta(min_length=1, max_length=64)]
Seed = Annotated[int, Meta(ge=0, le=2_147_483_647)]
Metadata = Annotated[
    dict[Annotated[str, Meta(max_length=64)], Annotated[str, Meta(max_length=512)]], Meta(max_length=16)
]
Hyperparameters = dict[str, Any]
T = TypeVar("T")

DEFAULTS: Hyperparameters = {"n_epochs": 3, "batch_size": 1, "learning_rate_multiplier": 1.8}
"""What ``auto`` becomes."""


class InvalidRequestError(ValueError):
    """
    The server refuses a body.

    :param message: what is wrong.
    :param param: the path of the parameter that is wrong.
    :param code: OpenAI's code for the error.
    """

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message, self.param, self.code = message, param, code


@dataclass(frozen=True, kw_only=True)
class JobOrder:
    """
    The job that a client asks for.

    :param training_file: the id of the file to train with.
    :param validation_file: the id of the file to validate with, if any.
    :param epochs: passes over the data.
    :param details: fields of the job object.
    """

    training_file: str
    validation_file: str | None = None
    epochs: int = 3
    details: Mapping[str, Any] = field(default_factory=dict)


class _Supervised(msgspec.Struct, kw_only=True):
    n_epochs: Epochs = "auto"
    batch_size: Batch = "auto"
    learning_rate_multiplier: Rate = "auto"


class _Dpo(_Supervised, kw_only=True):
    beta: Auto | Annotated[float, Meta(gt=0, le=2)] = "auto"


class _Reinforcement(_Supervised, kw_only=True):
    reasoning_effort: Literal["default", "low", "medium", "high"] = "default"
    compute_multiplier: Auto | Annotated[float, Meta(gt=0.00001, le=10)] = "auto"
    eval_interval: Every = "auto"
    eval_samples: Every = "auto"


class _SupervisedMethod(msgspec.Struct, kw_only=True):
    hyperparameters: _Supervised | None = None


class _DpoMethod(msgspec.Struct, kw_only=True):
    hyperparameters: _Dpo | None = None


class _ReinforcementMethod(msgspec.Struct, kw_only=True):
    grader: dict[str, Any]
    hyperparameters: _Reinforcement | None = None


class _Method(msgspec.Struct, kw_only=True):
    type: Literal["supervised", "dpo", "reinforcement"]
    supervised: _SupervisedMethod | None = None
    dpo: _DpoMethod | None = None
    reinforcement: _ReinforcementMethod | None = None


class _Wandb(msgspec.Struct, kw_only=True):
    project: str
    name: str | None = None
    entity: str | None = None
    tags: list[str] | None = None


class _Integration(msgspec.Struct, kw_only=True):
    type: Literal["wandb"]
    wandb: _Wandb


class _Creation(msgspec.Struct, kw_only=True):
    model: Annotated[str, Meta(min_length=1)]
    training_file: Annotated[str, Meta(min_length=1)]
    validation_file: str | None = None
    suffix: Suffix | None = None
    seed: Seed | None = None
    hyperparameters: _Supervised | None = None
    method: _Method | None = None
    integrations: Annotated[list[_Integration], Meta(max_length=5)] | None = None
    metadata: Metadata | None = None


def read_order(told: Mapping[str, Any]) -> JobOrder:
    """
    Check a body by OpenAI's specification; parameters that it does not name are ignored.

    :param told: the body.
    :returns: the job that it asks for.
    :raises InvalidRequestError: if the body breaks the specification.
    """
    asked = checked(told, _Creation)
    method = asked.method or _Method(type="supervised")
    chosen = getattr(getattr(method, method.type), "hyperparameters", None) or asked.hyperparameters
    numbers = _decided(chosen)
    own: dict[str, Any] = {"hyperparameters": numbers}
    if method.type == "reinforcement":
        if method.reinforcement is None:
            raise InvalidRequestError(
                "Missing required parameter: 'method.reinforcement'.",
                param="method.reinforcement",
                code="missing_required_parameter",
            )
        own["grader"] = method.reinforcement.grader
    details: dict[str, Any] = {
        "model": asked.model,
        "training_file": asked.training_file,
        "validation_file": asked.validation_file,
        "hyperparameters": {name: numbers[name] for name in DEFAULTS},
        "method": {"type": method.type, method.type: own},
        "integrations": [_as_told(each) for each in asked.integrations or ()],
        "metadata": asked.metadata,
        "user_provided_suffix": asked.suffix,
    }
    if asked.seed is not None:
        details["seed"] = asked.seed
    return JobOrder(
        training_file=asked.training_file,
        validation_file=asked.validation_file,
        epochs=numbers["n_epochs"],
        details=details,
    )


def checked(told: Mapping[str, Any], kind: type[T]) -> T:
    """
    Check a body by its type.

    :param told: the body.
    :param kind: what it must be.
    :returns: the body as that type.
    :raises InvalidRequestError: if it is something else.
    """
    try:
        return msgspec.convert(told, kind)
    except msgspec.ValidationError as error:
        raise _refusal(str(error)) from None


def _refusal(text: str) -> InvalidRequestError:
    """Say what msgspec found the way OpenAI says it."""
    what, _, path = text.partition(" - at ")
    found = re.search(r"\$\.?([^`]*)", path)
    param = found[1] if found else ""
    if missing := re.match(r"Object missing required field `(\w+)`", what):
        param = f"{param}.{missing[1]}".lstrip(".")
        return InvalidRequestError(
            f"Missing required parameter: {param!r}.", param=param, code="missing_required_parameter"
        )
    kind = "invalid_type" if ", got `" in what else "invalid_value"
    said = what.replace("`", "'")
    return InvalidRequestError(f"Invalid value for {param!r}: {said}.", param=param or None, code=kind)


def _decided(chosen: msgspec.Struct | None) -> Hyperparameters:
    """The numbers that a job is run with: those that were chosen, the server's for ``auto``."""
    told = {} if chosen is None else msgspec.to_builtins(chosen)
    return DEFAULTS | {name: value for name, value in told.items() if value != "auto"}


def _as_told(value: msgspec.Struct) -> dict[str, Any]:
    told: dict[str, Any] = msgspec.to_builtins(value)
    return told
