"""Typed errors: what happened, to which job, through which connection, and what to do next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class FineTuningError(Exception):
    """
    The base of this package's errors: a request got no usable answer.

    A plain exception on purpose: Airflow's ``soft_fail`` turns its own exceptions into skips, and "could not
    ask" must never become one.

    :param message: the full text.
    :param job_id: the job concerned, or None.
    :param conn_id: the connection used, or None.
    """

    def __init__(self, message: str, *, job_id: str | None = None, conn_id: str | None = None) -> None:
        super().__init__(message)
        self.job_id = job_id
        self.conn_id = conn_id

    @property
    def message(self) -> str:
        """The full text."""
        return str(self.args[0]) if self.args else ""

    def as_dict(self) -> dict[str, Any]:
        """Return the error as plain data, to send it from a trigger to the worker."""
        return {"kind": type(self).__name__, "message": self.message, **self._facts()}

    def _facts(self) -> dict[str, Any]:
        return {"job_id": self.job_id, "conn_id": self.conn_id}

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, self._facts())


def _rebuild(kind: type[FineTuningError], message: str, facts: Mapping[str, Any]) -> FineTuningError:
    return kind(message, **facts)


class FineTuningInputError(FineTuningError, ValueError):
    """A parameter or a connection cannot be used; nothing was sent."""


class ConditionError(FineTuningInputError):
    """
    A gate's condition cannot be parsed.

    :param position: where, in characters from 1; None if the condition is not text.
    """

    def __init__(
        self,
        message: str,
        *,
        job_id: str | None = None,
        conn_id: str | None = None,
        position: int | None = None,
    ) -> None:
        super().__init__(message, job_id=job_id, conn_id=conn_id)
        self.position = position

    def _facts(self) -> dict[str, Any]:
        return {**super()._facts(), "position": self.position}


class FineTuningApiError(FineTuningError):
    """
    The server refused the request, or could not be reached.

    :param status: HTTP status, or None if there was no answer.
    :param code: the server's error code, or None.
    :param request_id: the server's id of the request, or None.
    """

    def __init__(
        self,
        message: str,
        *,
        job_id: str | None = None,
        conn_id: str | None = None,
        status: int | None = None,
        code: str | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message, job_id=job_id, conn_id=conn_id)
        self.status = status
        self.code = code
        self.request_id = request_id

    def _facts(self) -> dict[str, Any]:
        return {
            **super()._facts(),
            "status": self.status,
            "code": self.code,
            "request_id": self.request_id,
        }


class FineTuningAuthError(FineTuningApiError):
    """The server does not accept the key (401), or does not allow it to do this (403)."""


class FineTuningJobNotFound(FineTuningApiError):
    """The server does not know the job, or no longer does."""


class FineTuningRateLimited(FineTuningApiError):
    """The server asks for a pause (429) that is longer than a call waits."""


class FineTuningPagingError(FineTuningError):
    """The server's cursor does not advance: reading on would never end."""


class FineTuningAnswerError(FineTuningError):
    """A response that cannot be read."""


class FineTuningStatusUnknown(FineTuningError):
    """
    A job is over, and its status does not tell how it ended: this is no verdict.

    :param job_status: the status word, or None.
    :param finished_at: when the job says that it finished, as text in UTC; None if it does not say.
    """

    def __init__(
        self,
        message: str,
        *,
        job_id: str | None = None,
        conn_id: str | None = None,
        job_status: str | None = None,
        finished_at: str | None = None,
    ) -> None:
        super().__init__(message, job_id=job_id, conn_id=conn_id)
        self.job_status = job_status
        self.finished_at = finished_at

    def _facts(self) -> dict[str, Any]:
        return {**super()._facts(), "job_status": self.job_status, "finished_at": self.finished_at}


class FineTuningArchiveError(FineTuningError):
    """An archive cannot be read, is damaged, or must not be replaced; it was not changed."""


_KINDS: dict[str, type[FineTuningError]] = {
    kind.__name__: kind
    for kind in (
        FineTuningError,
        FineTuningInputError,
        FineTuningApiError,
        FineTuningAuthError,
        FineTuningJobNotFound,
        FineTuningRateLimited,
        FineTuningPagingError,
        FineTuningAnswerError,
        FineTuningStatusUnknown,
    )
}


def error_from_dict(given: Mapping[str, Any]) -> FineTuningError:
    """
    Rebuild an error from :meth:`FineTuningError.as_dict`.

    :param given: the data.
    :returns: the error; an unknown kind becomes the base class, and keeps its text.
    """
    facts = {name: value for name, value in given.items() if name not in ("kind", "message")}
    message = str(given.get("message") or "no message")
    kind = _KINDS.get(str(given.get("kind")), FineTuningError)
    try:
        return kind(message, **facts)
    except TypeError:
        return FineTuningError(message)
