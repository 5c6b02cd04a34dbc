"""What differs from one server family to the next: paths, the key's header, order, ids and error bodies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol
from urllib.parse import unquote

RouteName = Literal["events", "job", "list", "cancel"]
OrderName = Literal["newest", "oldest"]


@dataclass(frozen=True, kw_only=True)
class Route:
    """What a request asks for."""

    name: RouteName
    job_id: str | None = None


@dataclass(frozen=True, kw_only=True)
class Problem:
    """An error answer, before it is encoded."""

    status: int
    body: Any


class Dialect(Protocol):
    """What the server asks a family of servers; one small class each."""

    vendor: str
    base_path: str
    order: OrderName
    job_prefix: str
    default_limit: int

    def route(self, *, method: str, path: str) -> Route | Problem:
        """Return what the request asks for, or the answer for a path that the family does not have."""

    def check_key(self, *, headers: Mapping[str, str], api_key: str) -> Problem | None:
        """Return what a request without the right key gets, or None if the key is right."""

    def job(self, job: dict[str, Any]) -> dict[str, Any]:
        """Return the job object in the family's shape."""

    def no_such_job(self, job_id: str) -> Problem:
        """Return what a request for an unknown job gets."""

    def no_such_cursor(self, cursor: str) -> Problem:
        """Return what a request gets whose ``after`` names nothing."""

    def bad_limit(self, limit: str) -> Problem:
        """Return what a request gets whose ``limit`` is no positive number."""

    def already_ended(self, job_id: str, status: str) -> Problem:
        """Return what cancelling an ended job gets."""

    def failure(self, status: int) -> Problem:
        """Return the body for a status that a fault asks for without one."""


class OpenAIDialect:
    """OpenAI's own server."""

    vendor = "openai"
    base_path = "/v1"
    order: OrderName = "newest"
    job_prefix = "ftjob-"
    default_limit = 20

    def route(self, *, method: str, path: str) -> Route | Problem:
        parts = path.removeprefix(self.base_path).strip("/").split("/")
        found: tuple[str, Route] | None = None
        if path.startswith(self.base_path + "/") and parts[:2] == ["fine_tuning", "jobs"]:
            match [unquote(part) for part in parts[2:]]:
                case []:
                    found = "GET", Route(name="list")
                case [job_id]:
                    found = "GET", Route(name="job", job_id=job_id)
                case [job_id, "events"]:
                    found = "GET", Route(name="events", job_id=job_id)
                case [job_id, "cancel"]:
                    found = "POST", Route(name="cancel", job_id=job_id)
        if found is None:
            return _problem(404, f"Invalid URL ({method} {path})")
        if method != found[0]:
            return _problem(405, f"Not allowed to {method} on {path}")
        return found[1]

    def check_key(self, *, headers: Mapping[str, str], api_key: str) -> Problem | None:
        scheme, _, given = headers.get("Authorization", "").partition(" ")
        given = given.strip()
        if scheme.lower() != "bearer" or not given:
            return _problem(401, "You didn't provide an API key in the Authorization header (Bearer auth).")
        if given != api_key:
            text = f"Incorrect API key provided: {_masked(given)}."
            return _problem(401, text, code="invalid_api_key")
        return None

    def job(self, job: dict[str, Any]) -> dict[str, Any]:
        return job

    def no_such_job(self, job_id: str) -> Problem:
        text = f"Could not find fine tune: {job_id}"
        return _problem(404, text, param="fine_tune_id", code="fine_tune_not_found")

    def no_such_cursor(self, cursor: str) -> Problem:
        return _problem(404, f"No such object: {cursor}", param="after", code="not_found")

    def bad_limit(self, limit: str) -> Problem:
        return _problem(400, f"Invalid limit: {limit!r} is not a positive integer", param="limit")

    def already_ended(self, job_id: str, status: str) -> Problem:
        return _problem(400, f"Job has already completed: {job_id} ({status})", code="invalid_state")

    def failure(self, status: int) -> Problem:
        if status == 429:
            return _problem(
                429,
                "Rate limit reached. Please try again later.",
                kind="requests",
                code="rate_limit_exceeded",
            )
        if status >= 500:
            return _problem(
                status, "The server had an error while processing your request.", kind="server_error"
            )
        return _problem(status, f"The request was refused with status {status}.")


DIALECTS: dict[str, Dialect] = {dialect.vendor: dialect for dialect in (OpenAIDialect(),)}

# A gateway that never heard of a route answers before it knows whose dialect to speak.
NO_ROUTE = Problem(status=404, body={"detail": "Not Found"})


def dialect_for(vendor: str) -> Dialect:
    """Return the dialect of a vendor.

    :raises ValueError: if there is none; the message names those that exist.
    """
    try:
        return DIALECTS[vendor]
    except KeyError:
        known = ", ".join(sorted(DIALECTS))
        raise ValueError(f"Unknown vendor {vendor!r}; the simulator speaks: {known}") from None


def _problem(
    status: int,
    message: str,
    *,
    kind: str = "invalid_request_error",
    param: str | None = None,
    code: str | None = None,
) -> Problem:
    error = {"message": message, "type": kind, "param": param, "code": code}
    return Problem(status=status, body={"error": error})


def _masked(key: str) -> str:
    if len(key) < 20:
        return key[:2] + "*" * max(len(key) - 2, 6)
    return key[:8] + "*" * (len(key) - 12) + key[-4:]
