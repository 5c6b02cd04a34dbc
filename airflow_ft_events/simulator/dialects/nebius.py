"""Nebius Token Factory: OpenAI's paths, oldest events first."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from airflow_ft_events.simulator.dialects.base import Dialect, OrderName, Problem
from airflow_ft_events.simulator.jobs import Cancelling
from airflow_ft_events.simulator.training import Run
from airflow_ft_events.simulator.training_nebius import NebiusRun


class NebiusDialect(Dialect):
    """``after`` leads to newer events, no ``has_more``, errors as FastAPI writes them."""

    name = vendor = "nebius"
    order: ClassVar[OrderName] = "oldest"
    run: ClassVar[type[Run]] = NebiusRun
    cancelling = Cancelling()

    def listing(self, items: Iterable[bytes], *, has_more: bool) -> bytes:
        return b'{"object":"list","data":[' + b",".join(items) + b"]}"

    def problem(
        self,
        status: int,
        message: str,
        *,
        kind: str = "",
        param: str | None = None,
        code: str | None = None,
    ) -> Problem:
        return Problem(status=status, body={"detail": message})
