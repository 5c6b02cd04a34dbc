"""The server families, one file each; a new family is one more file and one more row here."""

from __future__ import annotations

from airflow_ft_events.vendors.azure import AZURE
from airflow_ft_events.vendors.base import Meaning, Vendor
from airflow_ft_events.vendors.nebius import NEBIUS
from airflow_ft_events.vendors.openai import OPENAI
from airflow_ft_events.vendors.together import TOGETHER

__all__ = ["AUTO", "VENDORS", "Meaning", "Vendor", "vendor_for"]

AUTO = "auto"
VENDORS: dict[str, Vendor] = {vendor.name: vendor for vendor in (OPENAI, AZURE, NEBIUS, TOGETHER)}


def vendor_for(name: str = AUTO, *, host: str = "") -> Vendor:
    """
    Find the server family of a connection.

    :param name: a family's name, or ``auto`` to tell it by the host; default ``auto``.
    :param host: the server's host name, for ``auto``.
    :returns: the family; OpenAI's for a host that nobody knows, since look-alikes speak its words.
    :raises ValueError: for an unknown name.
    """
    wanted = name.strip().lower() or AUTO
    if wanted != AUTO:
        if wanted not in VENDORS:
            raise ValueError(f"vendor {name!r} is not known; choose one of {', '.join((AUTO, *VENDORS))}")
        return VENDORS[wanted]
    host = host.lower()
    return next((vendor for vendor in VENDORS.values() if vendor.serves(host)), OPENAI)
