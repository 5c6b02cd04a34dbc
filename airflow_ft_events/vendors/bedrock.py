"""Amazon Bedrock: OpenAI's paths and words at one host a region; the order of its events is not stated."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from airflow_ft_events.vendors.base import Vendor
from airflow_ft_events.vendors.openai import OPENAI

_HOST = re.compile(r"bedrock-mantle\.(?P<region>[a-z]{2,8}(?:-[a-z0-9]+)+)\.api\.aws", re.IGNORECASE)


class _Bedrock(Vendor):
    __slots__ = ()

    def serves(self, host: str) -> bool:
        """Tell whether a host is a region's."""
        return _HOST.fullmatch(host) is not None

    def root(self, base_url: str, *, api_version: str | None) -> tuple[str, dict[str, str]]:
        """Append the API's path to an endpoint without one."""
        root, params = super().root(base_url, api_version=api_version)
        return root if urlsplit(root).path.strip("/") else f"{root}/v1", params

    def region_of(self, host: str) -> str | None:
        """Return the AWS region in a host name."""
        found = _HOST.fullmatch(host)
        return found["region"].lower() if found else None


BEDROCK = _Bedrock(name="bedrock", signals=OPENAI.signals, takes_aws_keys=True)
