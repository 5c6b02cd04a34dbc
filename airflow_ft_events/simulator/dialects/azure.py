"""Azure OpenAI: the classic path with an API version, and the v1 path."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import ClassVar

from airflow_ft_events.simulator.dialects.base import Dialect, Problem, Route
from airflow_ft_events.simulator.jobs import Cancelling
from airflow_ft_events.simulator.training import Run
from airflow_ft_events.simulator.training_azure import CANCEL_EVENT, AzureRun

_WRONG_KEY = (
    "Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide a valid key "
    "for an active subscription and use a correct regional API endpoint for your resource."
)


class AzureDialect(Dialect):
    """The classic path: ``api-version`` is needed; a key goes into ``api-key``, a token is a bearer."""

    name = vendor = "azure"
    base_path = "/openai"
    api_version: ClassVar[str | None] = "2024-10-21"
    request_id_header = "apim-request-id"
    run: ClassVar[type[Run]] = AzureRun
    states: ClassVar[Mapping[str, str]] = {"validating_files": "pending", "cancelled": "canceled"}
    cancelling = Cancelling(events=((30, CANCEL_EVENT),))
    key_as_bearer: ClassVar[bool] = False

    def route(self, *, method: str, path: str, query: Mapping[str, str]) -> Route | Problem:
        if self.api_version and not query.get("api-version"):
            return self.no_such_path(method, path)
        return super().route(method=method, path=path, query=query)

    def check_key(
        self, *, headers: Mapping[str, str], api_key: str, tokens: Collection[str]
    ) -> Problem | None:
        bearer = self.bearer(headers)
        right = headers.get("api-key") == api_key or bearer in tokens
        right = right or (self.key_as_bearer and bearer == api_key)
        return None if right else self.wrong_key(bearer)

    def problem(
        self,
        status: int,
        message: str,
        *,
        kind: str = "",
        param: str | None = None,
        code: str | None = None,
    ) -> Problem:
        return Problem(status=status, body={"error": {"code": str(status), "message": message}})

    def wrong_key(self, given: str) -> Problem:
        return self.problem(401, _WRONG_KEY)

    def no_such_path(self, method: str, path: str) -> Problem:
        return self.problem(404, "Resource not found")


class AzureV1Dialect(AzureDialect):
    """The v1 path: no API version, and the key may be a bearer too, as OpenAI's own client sends it."""

    name = "azure-v1"
    base_path = "/openai/v1"
    api_version = None
    states: ClassVar[Mapping[str, str]] = {"validating_files": "pending"}
    key_as_bearer = True
