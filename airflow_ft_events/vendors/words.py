"""The words in which servers write a job's status: one table for all families, and how a word is compared."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType

from airflow_ft_events.jobs import JobState, Outcome

_SEPARATORS = re.compile(r"[\s_.:-]+")
_HUMPS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[^A-Z]+")
_PREFIX = re.compile(
    r"(?:fine|ft|tuning|tune|training|train|model|custom|pipeline|run|task)*"
    r"(?:job|(?:job)?(?:state|status)(?:enum)?)"
)
"""What may stand before a word: the name of an enumeration. ``training_`` or ``run_`` alone is no such name:
a training that has completed is a stage of its job."""
_NAMES = ("status", "state", "phase", "value", "name")
_OF_A_JOB: tuple[str, ...] = (
    "id",
    "job_id",
    "finished_at",
    "training_file",
    "fine_tuned_model",
    "hyperparameters",
)
_OF_A_JOB += ("trained_tokens",)
_OF_A_REPORT = ("message", "msg", "detail", "data")
_DEEPEST = 3
_LONGEST = 100

_GOES_ON = """
    created new pending submitted accepted scheduled scheduling queued queueing queuing enqueued requeued
    requeueing requeuing waiting
    validating validating_files validating_dataset validating_data validated validation
    preparing preprocessing initializing initialising initialized provisioning allocating starting started
    launching loading downloading pulling creating
    running in_progress processing progressing active training training_in_progress fine_tuning tuning
    executing evaluating evaluation checkpointing
    compressing converting merging packaging saving exporting registering uploading writing_results
    postprocessing deploying updating finalizing finalising finishing completing succeeding
    resuming resumed restarting restarted retrying retry recovering rescheduling pausing suspending
    failing failing_over failed_cleaning_up cleaning_up expiring deleting
"""
_PAUSED = "paused suspended on_hold"
_SUCCEEDED = """
    succeeded success successful succeed completed complete completed_successfully successfully_completed
    finished_successfully
"""
_FAILED = """
    failed failure error errored user_error system_error internal_error failed_validation validation_failed
    rejected expired timed_out timeout
"""
_BEING_CANCELLED = """
    cancel_requested cancellation_requested pending_cancel pending_cancellation cancel_pending cancelling
    canceling stop_requested pending_stop stopping aborting killing terminating
"""
_CANCELLED = "cancelled canceled user_cancelled user_canceled stopped aborted killed revoked"


def canonical(word: str) -> str:
    """
    Return the form in which words are compared: without case, separators and the name of an enumeration.

    :param word: such as ``JOB_STATE_IN_PROGRESS``, ``JobStatus.InProgress`` or ``in-progress``.
    :returns: such as ``inprogress``.
    """
    if len(word) > _LONGEST:
        return word
    parts = [part for part in _SEPARATORS.split(word) if part]
    if len(parts) == 1:
        parts = _HUMPS.findall(parts[0])
    parts = [part.lower() for part in parts]
    for end in range(len(parts) - 1, 0, -1):
        if _PREFIX.fullmatch("".join(parts[:end])):
            return "".join(parts[end:])
    return "".join(parts)


def _rows() -> Iterator[tuple[str, JobState]]:
    for state, words in (
        (JobState.ACTIVE, f"{_GOES_ON} {_BEING_CANCELLED}"),
        (JobState.PAUSED, _PAUSED),
        (JobState.SUCCEEDED, _SUCCEEDED),
        (JobState.FAILED, _FAILED),
        (JobState.CANCELLED, _CANCELLED),
    ):
        for word in words.split():
            yield word, state


WORDS: Mapping[str, JobState] = MappingProxyType(dict(_rows()))
"""
A status word → what it means, in any family. Only whole words count, and only those that say how a job ended
are ends: ``finished``, ``done``, ``ended`` and ``terminated`` are used for a failed job as well.
"""
_STATES = {canonical(word): state for word, state in WORDS.items()}
_CANCELLING = frozenset(map(canonical, _BEING_CANCELLED.split()))
TAUGHT: Mapping[str, JobState] = MappingProxyType(
    {
        "succeeded": JobState.SUCCEEDED,
        "failed": JobState.FAILED,
        "cancelled": JobState.CANCELLED,
        "running": JobState.ACTIVE,
    }
)
"""What a connection can say that a word means."""


def state_of(word: str, own: Mapping[str, JobState]) -> JobState:
    """
    Read a status word.

    :param word: the word as the server wrote it.
    :param own: the words of one server, in canonical form; they count more than the table.
    :returns: what it means; UNKNOWN if nobody knows it.
    """
    form = canonical(word)
    return own.get(form) or _STATES.get(form, JobState.UNKNOWN)


def taught(states: Mapping[str, str]) -> dict[str, JobState]:
    """
    Read the words that a connection teaches.

    :param states: status word → ``succeeded``, ``failed``, ``cancelled`` or ``running``.
    :returns: what each means, by its canonical form.
    :raises ValueError: for a meaning that is none of these, no word at all, or a word with two meanings.
    """
    found: dict[str, JobState] = {}
    for word, meaning in states.items():
        state = TAUGHT.get(meaning.strip().lower())
        if state is None:
            raise ValueError(
                f"'states' sets {word!r} to {meaning!r}; a status means one of {', '.join(TAUGHT)}"
            )
        form = canonical(word)
        if not form:
            raise ValueError(f"'states' contains {word!r}, which is no status word")
        if found.setdefault(form, state) is not state:
            raise ValueError(f"'states' gives {word!r} two meanings; case and separators do not count")
    return found


def status_of(job: Mapping[str, object]) -> str | None:
    """
    Find the word of a job's status: ``status``, or else ``state``; in an object, what its name says.

    :param job: the job as its server described it.
    :returns: the word as it came; None if there is none.
    """
    return next(_words_in(job), None)  # what lies inside an envelope is not its status


def is_being_cancelled(status: str) -> bool:
    """
    Tell whether a job goes on only until it is cancelled.

    :param status: the word of its status.
    """
    return canonical(status) in _CANCELLING


def is_envelope(job: Mapping[str, object]) -> bool:
    """
    Tell whether what has a status is no job, but an envelope or a gateway's own report.

    :param job: an object that has a status.
    :returns: True for an end with nothing of a job beside it, in other words than OpenAI's (``success``,
        ``error``) or beside a message: that status is the request's. A word that the table lacks is left to
        the connection.
    """
    if job.get("object") == "list":
        return True
    if not job.get("status"):
        return False  # requests have a status, and no state
    form = canonical(status_of(job) or "")
    if _STATES.get(form, JobState.UNKNOWN).outcome is None or any(job.get(name) for name in _OF_A_JOB):
        return False
    return form not in set(Outcome) or any(job.get(name) for name in _OF_A_REPORT)


def is_contradicted(job: Mapping[str, object], taught: Mapping[str, JobState]) -> bool:
    """
    Tell whether a job tells two states: ``status: success`` may be the request's, ``state`` the job's.

    :param job: the job as its server described it.
    :param taught: words that are known for certain, by :func:`canonical` form.
    :returns: True for an end in other words than OpenAI's, beside a known word for another state.
    """
    holders = (job, job.get("data"), job.get("job"))
    told = [canonical(word) for each in holders if isinstance(each, Mapping) for word in _words_in(each)]
    if not told or told[0] in set(Outcome) or told[0] in taught:
        return False
    states = [_STATES.get(form, JobState.UNKNOWN) for form in told]
    return states[0].outcome is not None and not {*states[1:]} <= {states[0], JobState.UNKNOWN}


def _words_in(job: Mapping[str, object]) -> Iterator[str]:
    """Every word that tells a state, the one that counts first."""
    for name in ("status", "state"):
        yield from _words_of(job.get(name), _DEEPEST)


def _words_of(value: object, levels: int) -> Iterator[str]:
    if isinstance(value, str) and value.strip():
        yield value
    elif isinstance(value, Mapping) and levels:
        for name in _NAMES:
            yield from _words_of(value.get(name), levels - 1)
