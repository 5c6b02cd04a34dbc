"""Reads recorded logs, complete or not, and replays them as a job."""

from __future__ import annotations

import json
import os
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from airflow_ft_events.simulator.jobs import (
    CANCEL_MESSAGE,
    Filler,
    SimulatedJob,
    error_of,
    fill_event,
    job_details,
    move_event,
    random_id,
)

MANIFEST = ".manifest.json"
LogSource = str | os.PathLike[str] | Mapping[str, Any] | Sequence[Mapping[str, Any]]

_OUTCOMES = {"succeeded": "succeeded", "failed": "failed", "running": "running"}
_OUTCOMES |= {"cancelled": "cancelled", "canceled": "cancelled"}
_SUCCESS = re.compile(
    r"The job has successfully completed|Fine[- ]tuning job successfully completed|Job succeeded\."
    r"|Training completed successfully|Job finished at "
)
_CANCEL = re.compile(re.escape(CANCEL_MESSAGE) + r"|Job cancell?ed\b")
_FINAL_TYPES = {"JOB_COMPLETE": "succeeded", "JOB_ERROR": "failed", "JOB_USER_ERROR": "failed"}
_FINAL_TYPES |= {"JOB_STOPPED": "cancelled"}
_AFTER_THE_END = re.compile(
    r"Model Evaluation Passed\.|Postprocessing started\.|Completed results file: "
    r"|Training (tokens|hours) billed: "
)
_MODEL = re.compile(r"New fine-tuned model created: (\S+)")
_CREATED = re.compile(r"Created fine-tuning job: (\S+)")
_STEP = re.compile(r"Step (\d+)(?:/(\d+))?\s*:")
_LOSS = re.compile(r"(training|full validation|validation) loss=([0-9.eE+-]+)")
_LOSS_KEYS = {"training": "train_loss", "validation": "valid_loss", "full validation": "full_valid_loss"}
_VALIDATING = re.compile(
    r"Created fine-tuning job|Validating |Fine.?tun(e|ing) request created|Job is submitted"
)
_QUEUED = re.compile(r"Files validated|Job enqueued|Preprocessing ")
# Seconds before a line that has no time of its own, by its text; real logs show these gaps.
_GAPS: tuple[tuple[re.Pattern[str], tuple[int, int]], ...] = (
    (re.compile(r"Validating |New fine-tuned model created"), (0, 1)),
    (re.compile(r"Step "), (1, 3)),
    (re.compile(r"Checkpoint created"), (6, 10)),
    (re.compile(r"Files validated"), (20, 60)),
    (re.compile(r"Fine-tuning job started"), (1, 5)),
    (re.compile(r"The job has successfully completed|Fine[- ]tuning job successfully"), (2, 6)),
    (_AFTER_THE_END, (10, 25)),
)
_OTHER_GAP = (5, 40)


class RecordingError(ValueError):
    """The log cannot be read; the message says why in one line."""


@dataclass(frozen=True, kw_only=True)
class Recording:
    """
    A log that was read: events oldest first, the job's outcome, other facts about it, its vendor.

    :param verbatim: whether the events are complete, so that only their times may move, as with an archive.
    """

    events: list[dict[str, Any]]
    outcome: str
    job: dict[str, Any]
    vendor: str | None = None
    verbatim: bool = False


def load_recording(source: LogSource) -> Recording:
    """
    Read a recorded log.

    :param source: an archive (its path, or its manifest's), a file (a JSON object with ``events`` or
        ``data``, a JSON list, or JSON lines), or the contents of such a file, already loaded.
    :returns: the recording.
    :raises RecordingError: if there is no such file, or it is not a log.
    """
    name = "The log"
    in_lines = False
    document: Any = source
    if isinstance(source, str | os.PathLike):
        if _is_archive(os.fspath(source)):
            return _of_archive(os.fspath(source))
        name = f"Log {os.fspath(source)}"
        document, in_lines = _read(Path(source), name)
    if isinstance(document, Mapping):
        head = dict(document)
        events = head.get("events", head.get("data"))
    else:
        head, events = {}, document
    if not isinstance(events, Sequence) or isinstance(events, str):
        raise RecordingError(f"{name} has no list of events")
    for number, event in enumerate(events, start=1):
        if not isinstance(event, Mapping) or not isinstance(event.get("message"), str):
            raise RecordingError(f"{name}: event {number} is not an object with a message")
    if not events:
        raise RecordingError(f"{name} has no events")
    oldest_first = [dict(event) for event in events]
    if _is_newest_first(head.get("order"), oldest_first, in_lines=in_lines, name=name):
        oldest_first.reverse()
    job = head.get("job") or {}
    if not isinstance(job, Mapping):
        raise RecordingError(f"{name}: job is not an object")
    outcome = head.get("outcome")
    if outcome is None:
        told = job.get("status")
        outcome = told if told in _OUTCOMES else outcome_of(oldest_first)
    if not isinstance(outcome, str) or outcome not in _OUTCOMES:
        raise RecordingError(
            f"{name}: unknown outcome {outcome!r}; use one of {', '.join(sorted(_OUTCOMES))}"
        )
    vendor = head.get("vendor")
    return Recording(
        events=oldest_first,
        outcome=_OUTCOMES[outcome],
        job=dict(job),
        vendor=vendor if isinstance(vendor, str) else None,
    )


def outcome_of(events: Sequence[Mapping[str, Any]]) -> str:
    """
    Tell from its last lines how a log ended.

    :param events: the log, oldest first.
    :returns: the outcome; ``running`` if they do not say.
    """
    for event in reversed(events):
        if not _AFTER_THE_END.match(_words(event)):
            return _final(event) or "running"
    return "running"


def replay_job(
    recording: Recording, *, job_id: str, now: float, rng: random.Random, fill: Filler = fill_event
) -> SimulatedJob:
    """
    Make a job that replays the recorded log, with its first event now.

    :param recording: the log.
    :param job_id: the job's id.
    :param now: seconds since 1970.
    :param rng: source of missing ids and gaps.
    :param fill: adds an event's missing keys.
    :returns: the job.
    """
    start = int(now)
    times = _times(recording.events, rng)
    shift = start - times[0]
    moved = [at + shift for at in times]
    served = [
        move_event(dict(raw), shift)
        if recording.verbatim
        else fill(_with_metrics(raw), created_at=at, rng=rng)
        for raw, at in zip(recording.events, moved, strict=True)
    ]
    states = _progress(recording.events, moved)
    outcome = recording.outcome
    details = job_details(rng)
    known = {key: value for key, value in recording.job.items() if key in details}
    result: dict[str, dict[str, Any]] = {}
    if outcome != "running":
        ended_at = _ended_at(recording, moved, shift=shift)
        states = [pair for pair in states if pair[0] < ended_at] or states[:1]
        states.append((ended_at, outcome))
        result[outcome] = _result(recording, rng, served)
    return SimulatedJob(
        job_id=job_id,
        created_at=start,
        events=served,
        shows_at=[float(at) for at in moved],
        states=states,
        details=details | known,
        result=result,
        rng=rng,
        fill=fill,
    )


def recorded_job_id(recording: Recording) -> str | None:
    """Return the id that the job had when it was recorded, if the log has it."""
    told = recording.job.get("id")
    if isinstance(told, str) and told:
        return told
    match = _CREATED.match(_words(recording.events[0]))
    return match[1] if match else None


def _is_archive(path: str) -> bool:
    """Whether there is a manifest beside it, or it is not text."""
    if "://" in path or path.endswith((MANIFEST, ".gz", ".parquet")):
        return True
    return Path(path + MANIFEST).is_file()


def _of_archive(path: str) -> Recording:
    # needed only to replay an archive
    from airflow_ft_events.archive.reader import StoredArchive
    from airflow_ft_events.errors import FineTuningError

    try:
        manifest, events = StoredArchive.at(path).read()
    except FineTuningError as error:
        raise RecordingError(error.message) from None
    if not events:
        raise RecordingError(f"Log {path} has no events")
    told = manifest.job if manifest else None
    return Recording(
        events=events,
        outcome=(told.outcome or "running") if told else outcome_of(events),
        job={"id": told.job_id} if told else {},
        vendor=told.vendor if told else None,
        verbatim=True,
    )


def _words(event: Mapping[str, Any]) -> str:
    message = event.get("message")
    return message if isinstance(message, str) else ""


def _read(path: Path, name: str) -> tuple[Any, bool]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise RecordingError(f"{name} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise RecordingError(f"{name} is not UTF-8 text") from None
    try:
        document = json.loads(text)
        single = isinstance(document, Mapping) and "message" in document and "events" not in document
        return ([document], True) if single else (document, False)
    except (json.JSONDecodeError, RecursionError) as error:
        line = getattr(error, "lineno", 1)
    lines = [(number, part) for number, part in enumerate(text.splitlines(), start=1) if part.strip()]
    events: list[Any] = []
    for number, part in lines:
        try:
            events.append(json.loads(part))
        except (json.JSONDecodeError, RecursionError):
            # A file whose first line is not JSON was meant as one document.
            wrong = number if events else line
            raise RecordingError(f"{name} is not JSON: line {wrong} cannot be read") from None
    return events, True


def _is_newest_first(order: Any, events: Sequence[Mapping[str, Any]], *, in_lines: bool, name: str) -> bool:
    if order in ("newest_first", "newest"):
        return True
    if order in ("oldest_first", "oldest"):
        return False
    if order not in (None, "unknown"):
        raise RecordingError(f"{name}: unknown order {order!r}; use newest_first or oldest_first")
    first, last = _seconds(events[0]), _seconds(events[-1])
    if first is not None and last is not None and first != last:
        return first > last
    if outcome_of(events[:1]) != "running" or _CREATED.match(_words(events[-1])):
        return True
    return not (in_lines or outcome_of(events) != "running" or _CREATED.match(_words(events[0])))


def _final(event: Mapping[str, Any]) -> str | None:
    if told := _FINAL_TYPES.get(str(event.get("type"))):
        return told
    if _SUCCESS.match(_words(event)):
        return "succeeded"
    if _CANCEL.match(_words(event)):
        return "cancelled"
    return "failed" if error_of(event) else None


def _seconds(event: Mapping[str, Any]) -> int | None:
    created_at, clock = event.get("created_at"), event.get("time")
    try:
        if isinstance(created_at, int | float) and not isinstance(created_at, bool):
            return int(created_at)
        if isinstance(created_at, str):
            moment = datetime.fromisoformat(created_at)
            return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
        if isinstance(clock, str):
            hours, minutes, seconds = clock.split(":")
            return int(hours) * 3600 + int(minutes) * 60 + int(seconds)
    except (ValueError, OverflowError):
        pass
    return None


def _times(events: Sequence[Mapping[str, Any]], rng: random.Random) -> list[int]:
    known = [_seconds(event) for event in events]
    if all("created_at" not in event for event in events):
        # Times of day start again at midnight.
        day, previous = 0, -1
        for index, at in enumerate(known):
            if at is not None:
                day += 86_400 if at < previous else 0
                previous = at
                known[index] = at + day
    gaps = [_gap(_words(event), rng) for event in events]
    first = next((index for index, at in enumerate(known) if at is not None), None)
    start = 0 if first is None else (known[first] or 0) - sum(gaps[1 : first + 1])
    times: list[int] = []
    for index, at in enumerate(known):
        times.append(at if at is not None else start if index == 0 else times[-1] + gaps[index])
    ceiling = times[-1]
    for index in range(len(times) - 1, -1, -1):
        if known[index] is None:
            times[index] = min(times[index], ceiling)
        ceiling = min(ceiling, times[index])
    return times


def _gap(message: str, rng: random.Random) -> int:
    low, high = next((bounds for pattern, bounds in _GAPS if pattern.match(message)), _OTHER_GAP)
    return rng.randint(low, high)


def _with_metrics(raw: Mapping[str, Any]) -> dict[str, Any]:
    event = {key: value for key, value in raw.items() if key != "time"}
    step = _STEP.match(_words(event))
    if step is None or "type" in event or "data" in event:
        return event
    data: dict[str, Any] = {"step": int(step[1])}
    for words, number in _LOSS.findall(_words(event)):
        try:
            data[_LOSS_KEYS[words]] = float(number)
        except ValueError:
            continue
    if step[2]:
        data["total_steps"] = int(step[2])
    return event | {"data": data, "type": "metrics"}


def _progress(events: Sequence[Mapping[str, Any]], times: Sequence[int]) -> list[tuple[float, str]]:
    ranks = ("validating_files", "queued", "running")
    states: list[tuple[float, str]] = []
    reached = -1
    for event, at in zip(events, times, strict=True):
        message = _words(event)
        rank = 0 if _VALIDATING.match(message) else 1 if _QUEUED.match(message) else 2
        # An error says nothing about how far the job got.
        if event.get("level") == "error":
            rank = 0
        if rank > reached:
            reached = rank
            states.append((float(at), ranks[rank]))
    return states


def _ended_at(recording: Recording, times: Sequence[int], *, shift: int) -> float:
    events, outcome = recording.events, recording.outcome
    told = recording.job.get("finished_at")
    if told is None and recording.job.get("status") == outcome:
        told = recording.job.get("updated_at")
    if isinstance(told, int | float) and not isinstance(told, bool) and "created_at" in events[0]:
        return float(max(told + shift, times[0]))
    last = next((index for index in range(len(events) - 1, -1, -1) if _final(events[index]) == outcome), None)
    if last is None:
        return times[-1] + 5.0
    # The job object changes before the log does: seconds before a success, a minute before a cancellation.
    ahead = {"succeeded": 7, "cancelled": 66}.get(outcome, 1)
    floor = times[0] + 1 if last < 1 or outcome != "cancelled" else times[last - 1] + 1
    return float(min(max(times[last] - ahead, floor), max(times[last], times[0])))


def _result(recording: Recording, rng: random.Random, served: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    told: dict[str, Any] = {
        key: recording.job[key] for key in ("error", "trained_tokens", "result_files") if key in recording.job
    }
    if recording.outcome == "failed":
        return {"error": next((error for event in reversed(served) if (error := error_of(event))), {})} | told
    if recording.outcome == "cancelled":
        return told
    names = [match[1] for event in served if (match := _MODEL.match(_words(event)))]
    made = random_id(rng, "ft:gpt-4o-mini-2024-07-18:simulated::", length=8)
    model = recording.job.get("fine_tuned_model") or (names[-1] if names else made)
    defaults = {"trained_tokens": 12_000, "result_files": [random_id(rng, "file-")]}
    return {"fine_tuned_model": model} | defaults | told
