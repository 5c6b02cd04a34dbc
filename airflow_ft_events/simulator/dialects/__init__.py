"""The differences between server families; a new family is a new file and a new row here."""

from __future__ import annotations

from airflow_ft_events.simulator.dialects.azure import AzureDialect, AzureV1Dialect
from airflow_ft_events.simulator.dialects.base import Dialect, OrderName
from airflow_ft_events.simulator.dialects.bedrock import BedrockDialect
from airflow_ft_events.simulator.dialects.nebius import NebiusDialect
from airflow_ft_events.simulator.dialects.openai import OpenAIDialect
from airflow_ft_events.simulator.dialects.routes import Problem, Route, RouteName
from airflow_ft_events.simulator.dialects.together import TogetherDialect

__all__ = [
    "DEFAULT",
    "DIALECTS",
    "NO_ROUTE",
    "Dialect",
    "OrderName",
    "Problem",
    "Route",
    "RouteName",
    "dialect_for",
]

_FAMILIES: tuple[tuple[Dialect, ...], ...] = (
    (OpenAIDialect(),),
    (AzureDialect(), AzureV1Dialect()),
    (NebiusDialect(),),
    (TogetherDialect(),),
    (BedrockDialect(),),
)
DIALECTS: dict[str, Dialect] = {dialect.name: dialect for family in _FAMILIES for dialect in family}
DEFAULT = OpenAIDialect.name
"""The server that is simulated by default."""

# A gateway without a route answers before it knows which dialect to use.
NO_ROUTE = Problem(status=404, body={"detail": "Not Found"})


def dialect_for(vendor: str) -> Dialect:
    """
    Return the dialect of a vendor.

    :raises ValueError: if there is none; the message lists those that exist.
    """
    try:
        return DIALECTS[vendor]
    except KeyError:
        known = ", ".join(sorted(DIALECTS))
        raise ValueError(f"Unknown vendor {vendor!r}; the simulator speaks: {known}") from None
