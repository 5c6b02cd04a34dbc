"""Checks of the parameters in a Dag; cheap to import, since every Dag parse pays for it."""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.parse import quote, unquote

from airflow_ft_events.errors import FineTuningInputError
from airflow_ft_events.events import one_line

DEFERRAL_KEY = "deferral"
"""XCom key under which a task with ``cancel_on_kill`` stores which of its tries is deferred."""
DEFAULT_CONN_ID = "fine_tuning_default"
LOG_EVENTS = ("messages", "all", "none")
_JINJA_MARKS = ("{{", "{%", "{#")
LONGEST_JOB_ID = 512
_JOB_ID = re.compile(r"[A-Za-z0-9._:/%+=~@-]+")
_DOTS = re.compile(r"(?:^|/)\.+(?=/|$)")


def check_job_id(job_id: object) -> str:
    """
    Check a job id before it becomes part of a path.

    :param job_id: the value from the Dag, an XCom or a user.
    :returns: the id, unchanged.
    :raises FineTuningInputError: if it is empty, blank, longer than 512 characters, contains anything but
        letters, digits and ``._:-/%+=~@``, or has a part between slashes that is only dots; percent-encoded
        characters count as what they stand for, however often they are encoded.
    """
    if isinstance(job_id, str) and len(job_id) <= LONGEST_JOB_ID and job_id != "None" and _is_safe(job_id):
        return job_id
    if job_id is None or (isinstance(job_id, str) and (not job_id.strip() or job_id == "None")):
        shown = "is empty" if not isinstance(job_id, str) or not job_id else f"is {job_id!r}"
    elif isinstance(job_id, str) and len(job_id) > LONGEST_JOB_ID:
        shown = f"has {len(job_id)} characters; the maximum is {LONGEST_JOB_ID}"
    else:
        shown = f"is {one_line(repr(job_id), limit=80)}"
    raise FineTuningInputError(
        f"The job_id {shown}. It must be the id of a fine-tuning job, such as ftjob-abc123 or an ARN: 1 to "
        f"{LONGEST_JOB_ID} letters, digits and ._:-/%+=~@ only, and no '..' between slashes. If it comes "
        "from an XCom or a template, check what the upstream task returned."
    )


def _is_safe(job_id: str) -> bool:
    """Whether an id leads nowhere else, even if each gateway on the way decodes it once more."""
    while _JOB_ID.fullmatch(job_id) and job_id.strip("/") and not _DOTS.search(job_id):
        decoded = unquote(job_id)
        if decoded == job_id:
            return True
        job_id = decoded
    return False


def is_same_job(one: str, other: str) -> bool:
    """
    Tell whether two ids are of the same job: a gateway may show one percent-encoded that was given plain.

    :param one: an id.
    :param other: another id.
    :returns: True if they are equal once both are decoded.
    """
    return one == other or unquote(one) == unquote(other)


def is_template(value: object) -> bool:
    """
    Tell whether a parameter is known only when the task runs.

    :param value: the parameter's value in the Dag.
    :returns: True for text that contains Jinja (an expression, a statement or a comment), and for values that
        Airflow resolves later, such as an XCom argument.
    """
    if isinstance(value, str):
        return any(mark in value for mark in _JINJA_MARKS)
    return hasattr(value, "iter_references")


def check_early(job_id: object) -> None:
    """
    Check a job id when the Dag is parsed, if it is known then.

    :param job_id: an id, a template or an XCom argument; the last two are checked when the task runs.
    :raises FineTuningInputError: as :func:`check_job_id`.
    """
    if not is_template(job_id):
        check_job_id(job_id)


def check_conn_id(conn_id: object) -> None:
    """
    Check a connection id, when the Dag is parsed and when its template has been rendered.

    :param conn_id: an id, a template or an XCom argument.
    :raises FineTuningInputError: if it is empty, or not text.
    """
    if is_template(conn_id) or (isinstance(conn_id, str) and conn_id.strip()):
        return
    blank = conn_id is None or isinstance(conn_id, str)
    shown = "is empty" if blank else f"is {one_line(repr(conn_id), limit=80)}, which is not text"
    raise FineTuningInputError(
        f"The conn_id {shown}. It must be the id of a connection, such as {DEFAULT_CONN_ID}. If it comes "
        "from a template, check what that was rendered to."
    )


def check_count(name: str, value: object, *, optional: bool = True) -> None:
    """
    Check a parameter that is a count.

    :param name: the parameter's name, for the message.
    :param value: the parameter's value.
    :param optional: whether None is allowed; default True.
    :raises FineTuningInputError: if it is not a whole number of at least 1.
    """
    if value is None and optional:
        return
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise FineTuningInputError(
            f"{name} is {one_line(repr(value), limit=80)}; it must be a whole number of at "
            f"least 1{', or None' * optional}."
        )


@lru_cache(maxsize=4096)
def quoted(segment: str) -> str:
    """
    Percent-encode one segment of a path, once: an id that is already encoded stays as it is.

    :param segment: a checked job id.
    :returns: the segment, ready for a URL.
    """
    return quote(unquote(segment), safe=":")


def check_log_events(mode: object) -> None:
    """
    Check the parameter ``log_events``.

    :param mode: the parameter's value.
    :raises FineTuningInputError: if it is not ``messages``, ``all`` or ``none``.
    """
    if mode not in LOG_EVENTS:
        raise FineTuningInputError(f"log_events is {mode!r}; it must be one of {', '.join(LOG_EVENTS)}.")
