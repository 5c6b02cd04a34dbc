"""Azure OpenAI, on its classic path (with an API version) and on its v1 path."""

from __future__ import annotations

import re
from urllib.parse import urlsplit, urlunsplit

from airflow_ft_events.vendors.base import Meaning, Vendor, signal

_API_PATH = re.compile(r"/openai(/v1)?$")
_PROJECT = re.compile(r"/api/projects/[^/]")
_CLOUDS = {".azure.us": "us", ".azure.cn": "cn"}


class _Azure(Vendor):
    __slots__ = ()

    def root(self, base_url: str, *, api_version: str | None) -> tuple[str, dict[str, str]]:
        """Append the API's path to the resource's endpoint, whichever form of it the connection has."""
        parts = urlsplit(base_url)
        found = _API_PATH.search(parts.path)
        endpoint = urlunsplit(parts._replace(path=parts.path[: found.start()] if found else parts.path))
        if api_version:
            return f"{endpoint}/openai", {"api-version": api_version}
        return f"{endpoint}/openai/v1", {}

    def token_scope(self, host: str, *, path: str = "") -> str | None:
        """Return the scope of an Entra token: each cloud has its own, and so have projects of Foundry."""
        cloud = next((name for ending, name in _CLOUDS.items() if host.lower().endswith(ending)), "com")
        service = "ai" if _PROJECT.search(path) else "cognitiveservices"
        return f"https://{service}.azure.{cloud}/.default"


AZURE = _Azure(
    name="azure",
    hosts=(
        *(
            f".{service}.azure.{cloud}"
            for service in ("openai", "cognitiveservices", "services.ai")
            for cloud in ("com", "us", "cn")
        ),
        ".api.cognitive.microsoft.com",
        ".api.cognitive.azure.us",
        ".api.cognitive.azure.cn",
    ),
    key_header="api-key",
    key_prefix="",
    last_message=re.compile(r"Training (tokens|hours) billed: .*", re.DOTALL),
    signals=(
        signal(r"Job succeeded\.?", Meaning.SUCCEEDED),
        signal(r"Job cancell?ed\.?", Meaning.CANCELLED),
        signal(r"Job failed\.?", Meaning.FAILED),
        # Azure sends these 30 to 55 s after "Job succeeded."
        signal(r"Model Evaluation \w+\.?", Meaning.AFTERMATH),
        signal(r"Postprocessing started\.?", Meaning.AFTERMATH),
        signal(r"(Completed|Created) results file: .*", Meaning.AFTERMATH),
        signal(r"Training (tokens|hours) billed: .*", Meaning.AFTERMATH),
    ),
)
