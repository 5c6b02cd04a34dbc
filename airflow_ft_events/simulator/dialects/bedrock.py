"""Amazon Bedrock: OpenAI's paths, pages and words; besides the key it takes short-term ones."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from airflow_ft_events.simulator.dialects.openai import OpenAIDialect
from airflow_ft_events.simulator.dialects.routes import Problem


class BedrockDialect(OpenAIDialect):
    """What is documented is what OpenAI does; no log of a real job is known."""

    name = vendor = "bedrock"

    @property
    def extra(self) -> dict[str, str]:
        return {"vendor": self.vendor}

    def check_key(
        self, *, headers: Mapping[str, str], api_key: str, tokens: Collection[str]
    ) -> Problem | None:
        if self.bearer(headers) in tokens:
            return None
        return super().check_key(headers=headers, api_key=api_key, tokens=tokens)
