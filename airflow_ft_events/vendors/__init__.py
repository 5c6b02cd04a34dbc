"""The server families, one file each; a new family is a new file and a new row here."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_ft_events.vendors.base import Meaning, Vendor

    VENDORS: dict[str, Vendor]

__all__ = ["AUTO", "FAMILIES", "VENDORS", "Meaning", "Vendor", "vendor_for"]

AUTO = "auto"
FAMILIES: dict[str, str] = {
    "openai": "OpenAI",
    "azure": "Azure OpenAI",
    "nebius": "Nebius",
    "together": "Together",
    "bedrock": "Amazon Bedrock",
}
"""A family's name in connections and results → its display name; the file of that name has its facts."""


def vendor_for(name: str = AUTO, *, host: str = "") -> Vendor:
    """
    Find the server family of a connection.

    :param name: a family's name, or ``auto`` to decide by the host; default ``auto``.
    :param host: the server's host name, for ``auto``.
    :returns: the family; OpenAI's for an unknown host, since compatible servers use its wording.
    :raises ValueError: for an unknown name.
    """
    wanted, vendors = name.strip().lower() or AUTO, _vendors()
    if wanted != AUTO:
        if wanted not in vendors:
            raise ValueError(f"unknown vendor {name!r}; choose one of {', '.join((AUTO, *vendors))}")
        return vendors[wanted]
    host = host.lower()
    return next((vendor for vendor in vendors.values() if vendor.serves(host)), vendors["openai"])


@cache
def _vendors() -> dict[str, Vendor]:
    return {name: getattr(import_module(f"{__name__}.{name}"), name.upper()) for name in FAMILIES}


if not TYPE_CHECKING:
    # Every Airflow process reads the names above at its start; the facts would cost it some 15 ms.
    def __getattr__(name: str) -> object:
        if name == "VENDORS":
            return _vendors()
        if name in __all__:
            return getattr(import_module(f"{__name__}.base"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
