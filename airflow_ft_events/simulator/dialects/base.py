"""The contract of a dialect: what a server of one family does; by default what OpenAI does."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Mapping
from typing import Any, ClassVar, Literal

from airflow_ft_events.simulator.checkpoints import Checkpoint
from airflow_ft_events.simulator.create import JobOrder, read_order
from airflow_ft_events.simulator.dialects.routes import (
    FILE_ROUTES,
    JOB_ROUTES,
    PAUSE_ROUTES,
    Problem,
    Route,
    Table,
    methods_at,
    parts_below,
)
from airflow_ft_events.simulator.files import StoredFile
from airflow_ft_events.simulator.jobs import (
    OPENAI_CANCELLING,
    Cancelling,
    encode,
    fill_event,
    random_id,
)
from airflow_ft_events.simulator.training import Run

OrderName = Literal["newest", "oldest"]


class Dialect:
    """
    A family of servers; each family is one small class that says what differs.

    ``name`` is the value for ``--vendor``, ``vendor`` the one in a connection to such a server.
    """

    name: ClassVar[str]
    vendor: ClassVar[str]
    base_path: ClassVar[str] = "/v1"
    jobs_path: ClassVar[str] = "/fine_tuning/jobs"
    job_routes: ClassVar[Table] = JOB_ROUTES | PAUSE_ROUTES
    files_path: ClassVar[str] = "/files"
    file_routes: ClassVar[Table] = FILE_ROUTES
    purposes: ClassVar[Collection[str]] = ("fine-tune", "assistants", "batch", "vision", "user_data", "evals")
    created_status: ClassVar[int] = 200
    order: ClassVar[OrderName] = "newest"
    job_prefix: ClassVar[str] = "ftjob-"
    default_limit: ClassVar[int] = 20
    pages: ClassVar[bool] = True
    request_id_header: ClassVar[str] = "x-request-id"
    api_version: ClassVar[str | None] = None
    run: ClassVar[type[Run]]
    states: ClassVar[Mapping[str, str]] = {}
    cancelling: ClassVar[Cancelling] = OPENAI_CANCELLING

    @property
    def extra(self) -> dict[str, str]:
        """The extra of an Airflow connection to such a server; empty if it needs none."""
        version = {"api_version": self.api_version} if self.api_version else {}
        return {"vendor": self.vendor} | version

    # requests

    def route(self, *, method: str, path: str, query: Mapping[str, str]) -> Route | Problem:
        """Return what a request asks for, or the response for a path that the family does not have."""
        for root, table in ((self.jobs_path, self.job_routes), (self.files_path, self.file_routes)):
            parts = parts_below(f"{self.base_path}{root}", path)
            found = None if parts is None else methods_at(table, parts)
            if found is None:
                continue
            methods, key = found
            if method not in methods:
                return self.problem(405, f"Not allowed to {method} on {path}")
            if table is self.job_routes:
                return Route(name=methods[method], job_id=key)
            return Route(name=methods[method], file_id=key)
        return self.no_such_path(method, path)

    def order_of(self, told: Mapping[str, Any]) -> JobOrder:
        """
        Return the job that a body asks for.

        :param told: the body of a request to create a job.
        :raises InvalidRequestError: if the family refuses it.
        """
        return read_order(told)

    def check_key(
        self, *, headers: Mapping[str, str], api_key: str, tokens: Collection[str]
    ) -> Problem | None:
        """
        Return what a request without the right key gets, or None if the key is right.

        :param headers: the request's.
        :param api_key: the right key.
        :param tokens: bearer tokens that are valid now.
        """
        given = self.bearer(headers)
        if not given:
            return self.problem(
                401, "You didn't provide an API key in the Authorization header (Bearer auth)."
            )
        return None if given == api_key else self.wrong_key(given)

    @staticmethod
    def bearer(headers: Mapping[str, str]) -> str:
        """Return the key in the Authorization header; "" if there is none."""
        scheme, _, given = headers.get("Authorization", "").partition(" ")
        return given.strip() if scheme.lower() == "bearer" else ""

    # responses

    def fill(self, raw: Mapping[str, Any], *, created_at: int, rng: random.Random) -> dict[str, Any]:
        """Return an event with the keys that the family's events have; existing keys are not changed."""
        return fill_event(raw, created_at=created_at, rng=rng)

    def job(self, job: dict[str, Any], *, changed_at: float) -> dict[str, Any]:
        """
        Return the job object in the family's format.

        :param job: the job object, in OpenAI's format.
        :param changed_at: when its status last changed, seconds since 1970.
        """
        return job | {"status": self.states.get(job["status"], job["status"])}

    def checkpoint(self, checkpoint: Checkpoint) -> dict[str, Any]:
        """Return a checkpoint in the family's format."""
        return {
            "object": "fine_tuning.job.checkpoint",
            "id": checkpoint.checkpoint_id,
            "created_at": checkpoint.created_at,
            "fine_tuned_model_checkpoint": checkpoint.model,
            "fine_tuning_job_id": checkpoint.job_id,
            "metrics": dict(checkpoint.metrics),
            "step_number": checkpoint.step,
        }

    def job_id(self, rng: random.Random) -> str:
        """Make a job id."""
        return random_id(rng, self.job_prefix)

    def file(self, file: StoredFile) -> dict[str, Any]:
        """Return the file object in the family's format."""
        return {
            "object": "file",
            "id": file.file_id,
            "purpose": file.purpose,
            "filename": file.filename,
            "bytes": len(file.content or b""),
            "created_at": file.created_at,
            "expires_at": None,
            "status": "processed",
            "status_details": None,
        }

    def listing(
        self, items: Iterable[bytes], *, has_more: bool, ends: tuple[str, str] | None = None
    ) -> bytes:
        """
        Return a page of encoded events, jobs, files or checkpoints.

        :param items: what is on the page.
        :param has_more: whether there are more.
        :param ends: ids of the first and the last of them, in lists that tell them.
        """
        more = b"true" if has_more else b"false"
        told = b"" if ends is None else b',"first_id":' + encode(ends[0]) + b',"last_id":' + encode(ends[1])
        return b'{"object":"list","data":[' + b",".join(items) + b"]" + told + b',"has_more":' + more + b"}"

    def problem(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
    ) -> Problem:
        """Return an error response in the family's format."""
        error = {"message": message, "type": kind, "param": param, "code": code}
        return Problem(status=status, body={"error": error})

    def wrong_key(self, given: str) -> Problem:
        """Return what a wrong key gets."""
        return self.problem(401, f"Incorrect API key provided: {masked(given)}.", code="invalid_api_key")

    def no_such_path(self, method: str, path: str) -> Problem:
        """Return what a request for an unknown path gets."""
        return self.problem(404, f"Invalid URL ({method} {path})")

    def no_such_job(self, job_id: str) -> Problem:
        """Return what a request for an unknown job gets."""
        text = f"Could not find fine tune: {job_id}"
        return self.problem(404, text, param="fine_tune_id", code="fine_tune_not_found")

    def no_such_file(self, file_id: str) -> Problem:
        """Return what a request for an unknown file gets."""
        return self.problem(404, f"No such File object: {file_id}", param="id")

    def no_such_cursor(self, cursor: str) -> Problem:
        """Return what a request gets whose ``after`` does not exist."""
        return self.problem(404, f"No such object: {cursor}", param="after", code="not_found")

    def bad_limit(self, limit: str) -> Problem:
        """Return what a request gets whose ``limit`` is not a positive number."""
        return self.problem(400, f"Invalid limit: {limit!r} is not a positive integer", param="limit")

    def wrong_state(self, message: str) -> Problem:
        """Return what pausing or resuming gets if the job's status does not allow it."""
        return self.problem(400, message, code="invalid_state")

    def already_ended(self, job_id: str, status: str) -> Problem:
        """Return what cancelling an ended job gets."""
        return self.problem(400, f"Job has already completed: {job_id} ({status})", code="invalid_state")

    def failure(self, status: int) -> Problem:
        """Return the body for a fault's status, if it comes without one."""
        if status == 429:
            text = "Rate limit reached. Please try again later."
            return self.problem(429, text, kind="requests", code="rate_limit_exceeded")
        if status >= 500:
            text = "The server had an error while processing your request."
            return self.problem(status, text, kind="server_error")
        return self.problem(status, f"The request was refused with status {status}.")


def masked(key: str) -> str:
    """Show a key the way servers do that refuse it: both ends, stars in between."""
    if len(key) < 20:
        return key[:2] + "*" * max(len(key) - 2, 6)
    return key[:8] + "*" * (len(key) - 12) + key[-4:]
