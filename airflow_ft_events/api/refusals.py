"""What a refusal means and what to do next: one place for each status."""

from __future__ import annotations

from urllib.parse import urlsplit

from airflow_ft_events.connection.settings import Settings
from airflow_ft_events.errors import (
    FineTuningApiError,
    FineTuningAuthError,
    FineTuningJobNotFound,
    FineTuningRateLimited,
)


def refusal_of(
    status: int,
    settings: Settings,
    *,
    asks: bool,
    job_id: str | None,
    wait: float | None,
    leads_to: str,
) -> tuple[type[FineTuningApiError], str]:
    """
    Choose the error type of a refusal, and the advice.

    :param status: its HTTP status, 300 or more.
    :param settings: the connection.
    :param asks: whether something was asked for, and not to be done.
    :param job_id: the job concerned, or None.
    :param wait: seconds for which the server asks to be left alone; None if it asks for nothing.
    :param leads_to: where a redirect leads.
    :returns: the type, and what to do next.
    """
    if status == 401:
        return FineTuningAuthError, settings.credential.after_refusal(settings.conn_id)
    if status == 403:
        return (
            FineTuningAuthError,
            "The key is not allowed to do this: check its permissions, organization and project.",
        )
    if status == 404:
        # a misspelt setting, such as api-version, may have led to another path
        names = ", ".join(map(repr, settings.unknown))
        ignored = f" Ignored in the connection's extra as unknown: {names}." if names else ""
        if job_id:
            return FineTuningJobNotFound, (
                "Check the job id, that this key's organization and project own the job, and that 'Host' "
                f"({settings.root}) is the root of the API with its path, such as /v1.{ignored}"
            )
        return FineTuningApiError, (
            f"Check that 'Host' ({settings.root}) is the root of a fine-tuning API.{ignored}"
        )
    if status == 407:
        return FineTuningApiError, (
            "This is the proxy on the way and not the server, and it wants a user and a password: put them, "
            "percent-encoded, into the proxy's address in HTTPS_PROXY or HTTP_PROXY where this runs "
            f"(http://user:password@proxy:3128), or add {urlsplit(settings.root).hostname} to NO_PROXY if it "
            "needs none. This says nothing about the job itself."
        )
    if status == 501:
        return FineTuningApiError, (
            f"This server has no fine-tuning API below 'Host' ({settings.root}), or not this part of it. "
            "Trying again does not help."
        )
    if status == 429:
        asked = f"; the server asks to wait {wait:.0f} s" if wait else ""
        return FineTuningRateLimited, f"Too many requests or no quota left{asked}. Try again later."
    if 300 <= status < 400:
        where = settings.redact.line(leads_to, limit=200)
        return (
            FineTuningApiError,
            f"It redirects to {where}; redirects are not followed, so set 'Host' to the right address.",
        )
    if status >= 500:
        return (
            FineTuningApiError,
            "This is a problem of the server: try again later. This says nothing about the job itself.",
        )
    if not asks and status in (400, 409):
        return FineTuningApiError, "A job that has ended can no longer be cancelled: check its status."
    return FineTuningApiError, (
        f"Check the reason above, and that 'vendor' and 'Host' ({settings.root}) fit this server."
    )
