"""OpenAI's own server."""

from __future__ import annotations

from typing import ClassVar

from airflow_ft_events.simulator.dialects.base import Dialect
from airflow_ft_events.simulator.training import OpenAIRun, Run


class OpenAIDialect(Dialect):
    """OpenAI: newest first, pages with ``has_more``, ``error: {}`` on healthy jobs."""

    name = vendor = "openai"
    run: ClassVar[type[Run]] = OpenAIRun
