"""What Together takes when a job is created: its own names, its own limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from airflow_ft_events.simulator.create import DEFAULTS, InvalidRequestError, JobOrder, Suffix, checked

Count = Annotated[int, Meta(ge=0)]


class _Method(msgspec.Struct, kw_only=True):
    method: Literal["sft", "dpo"]


class _Type(msgspec.Struct, kw_only=True):
    type: Literal["Full", "Lora"]


class _Creation(msgspec.Struct, kw_only=True):
    training_file: Annotated[str, Meta(min_length=1)]
    model: str | None = None
    from_checkpoint: str | None = None
    validation_file: str | None = None
    suffix: Suffix | None = None
    n_epochs: Annotated[int, Meta(ge=1)] = 1
    n_checkpoints: Count | None = None
    n_evals: Count | None = None
    batch_size: Literal["max"] | Annotated[int, Meta(ge=1)] = "max"
    learning_rate: Annotated[float, Meta(gt=0)] = 0.00001
    random_seed: int | None = None
    training_method: _Method | None = None
    training_type: _Type | None = None


_REPEATED = (
    "learning_rate",
    "lr_scheduler",
    "warmup_ratio",
    "max_grad_norm",
    "weight_decay",
    "n_checkpoints",
    "n_evals",
    "train_on_inputs",
    "training_method",
    "training_type",
    "from_checkpoint",
    "wandb_project_name",
    "random_seed",
    "suffix",
)
"""What a job repeats of the body that created it."""

_BATCH = {"max_batch_size": 128, "max_batch_size_dpo": 64, "min_batch_size": 1}
MODEL_LIMITS: dict[str, Any] = {
    "default_gradient_accumulation_steps": 1,
    "full_training": _BATCH,
    "lora_training": _BATCH | {"default_rank": 8, "max_rank": 64, "target_modules": ["k_proj", "q_proj"]},
    "max_learning_rate": 0.1,
    "max_num_checkpoints": 20,
    "max_num_epochs": 20,
    "max_num_evals": 100,
    "max_seq_length_dpo": 8192,
    "max_seq_length_sft": 8192,
    "merge_output_lora": True,
    "min_learning_rate": 1e-8,
    "min_max_seq_length": 512,
    "supports_full_training": True,
    "supports_reasoning": False,
    "supports_tools": False,
    "supports_vision": False,
}
"""What its client asks for before it creates a job."""


def read_together_order(told: Mapping[str, Any]) -> JobOrder:
    """
    Check a body by Together's documentation.

    :param told: the body.
    :returns: the job that it asks for.
    :raises InvalidRequestError: if the body is refused.
    """
    asked = checked(told, _Creation)
    model = asked.model or (asked.from_checkpoint or "").partition(":")[0]
    if not model:
        raise InvalidRequestError(
            "Missing required parameter: 'model'.", param="model", code="missing_required_parameter"
        )
    details: dict[str, Any] = {
        "model": model,
        "training_file": asked.training_file,
        "validation_file": asked.validation_file or "",
        "hyperparameters": DEFAULTS | {"n_epochs": asked.n_epochs, "batch_size": asked.batch_size},
        "user_provided_suffix": asked.suffix,
        "repeated": {name: told[name] for name in _REPEATED if told.get(name) is not None},
    }
    return JobOrder(
        training_file=asked.training_file,
        validation_file=asked.validation_file,
        epochs=asked.n_epochs,
        details=details,
    )
