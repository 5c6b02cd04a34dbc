"""The operators: FineTuningEventsOperator returns a job's events, FineTuningGateOperator evaluates them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import conf

from airflow_ft_events.errors import FineTuningError, FineTuningInputError
from airflow_ft_events.events import Event, last_metrics, level_of, one_line, place_of
from airflow_ft_events.operators.gate import FineTuningGateOperator
from airflow_ft_events.operators.settled import SettledLogOperator
from airflow_ft_events.parameters import DEFAULT_CONN_ID, check_count

__all__ = ["FineTuningEventsOperator", "FineTuningGateOperator"]

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_ft_events.hooks.fine_tuning import FineTuningHook
    from airflow_ft_events.jobs import Job

LEVELS = ("info", "warn", "warning", "error")


class FineTuningEventsOperator(SettledLogOperator):
    """
    Collect a job's events and return them as a list: oldest first, each once, verbatim.

    The XCom ``summary`` contains the job id, the number of events by type and level, the id and time of the
    first and the last one, whether the job had ended, and the last metrics.

    :param job_id: the job (templated).
    :param conn_id: connection of type ``fine_tuning``, ``openai`` or ``http`` (templated); default
        ``fine_tuning_default``.
    :param levels: keep only these levels (``info``, ``warn``, ``error``); default None, all.
    :param types: keep only these types (``message``, ``metrics``, …); default None, all.
    :param newer_than: id of a known event (templated): only what came after it. Default None, the whole log;
        if the log no longer has that id, the result is the whole log, with ``newer_than_found: false`` in
        the summary.
    :param max_events: keep only this many of the newest events that pass the filters, from 1; default None,
        all.
    :param max_bytes: the maximum size of the XCom, in bytes of JSON; default 1,000,000. More is an error.
    :param settle: seconds, or a timedelta, after a job's end until its log counts as complete, 0 to 86,400;
        default 120. A running job's log is read immediately, and so is one whose job ended longer ago or that
        has the vendor's last message.
    :param deferrable: defer while a log settles, if that takes more than 10 s; default from ``[operators]
        default_deferrable``.
    :returns: list of event dicts.
    """

    template_fields: Sequence[str] = ("job_id", "conn_id", "newer_than")
    ui_color = "#e4ecf0"

    def __init__(
        self,
        *,
        job_id: str,
        conn_id: str = DEFAULT_CONN_ID,
        levels: Collection[str] | None = None,
        types: Collection[str] | None = None,
        newer_than: str | None = None,
        max_events: int | None = None,
        max_bytes: int = 1_000_000,
        settle: float | timedelta = 120,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(job_id=job_id, conn_id=conn_id, settle=settle, deferrable=deferrable, **kwargs)
        self.levels = levels
        self.types = types
        self.newer_than = newer_than
        self.max_events = max_events
        self.max_bytes = max_bytes
        check_count("max_events", max_events)
        check_count("max_bytes", max_bytes, optional=False)
        _check_words("levels", levels, allowed=LEVELS)
        _check_words("types", types)

    def _read(
        self,
        context: Context,
        hook: FineTuningHook,
        job: Job | None,
        *,
        settled: bool,
        must_end: bool = False,
    ) -> list[dict[str, Any]] | None:
        newer_than = self.newer_than if self.newer_than not in ("", "None", "none", "null") else None
        no_filter = self.levels is None and self.types is None
        feed = hook.read_events(
            self.job_id,
            newer_than=newer_than,
            max_events=self.max_events if no_filter else None,
            must_end=must_end,
            job_shown=job is not None,
        )
        if must_end and not hook.shows_end(feed):
            return None
        read = feed.collected_events()
        kept = [event for event in read if self._passes(event)]
        matched = len(kept)
        if self.max_events is not None:
            kept = kept[-self.max_events :]
        carrier = hook.redact.carrier()
        found = [carrier.fit(event.raw) for event in kept]
        self._check_size(found)
        summary = self._summary(kept, read, job=job, hook=hook)
        summary |= {"matched": matched, "newer_than_found": feed.found, "changed": carrier.changed}
        if carrier.changed:
            self.log.warning(
                "Job %s: Airflow cannot carry %d values of these events, so they were changed; an "
                "archive keeps them.",
                self.job_id,
                carrier.changed,
            )
        if feed.found is False:
            self.log.warning(
                "Job %s: its log no longer has event %r; the whole log was read.", self.job_id, newer_than
            )
        self.log.info(
            "Job %s: %d events collected of %d read (status %s).",
            self.job_id,
            len(found),
            len(read),
            summary["status"] or "not shown",
        )
        if read and not kept:
            self.log.warning(
                "Job %s: no event passed the filters; its log has the types %s and the levels %s.",
                self.job_id,
                ", ".join(sorted({one_line(event.type, limit=60) for event in read})),
                ", ".join(sorted({one_line(event.level, limit=60) or "''" for event in read})),
            )
        self._push(context, key="summary", value=hook.redact.json(summary))
        return found

    def _passes(self, event: Event) -> bool:
        return (self.levels is None or event.level in {level_of(level) for level in self.levels}) and (
            self.types is None or event.type in self.types
        )

    def _check_size(self, found: list[dict[str, Any]]) -> None:
        size = len(json.dumps(found).encode())
        if size > self.max_bytes:
            raise FineTuningError(
                f"Job {self.job_id}: its {len(found):,} events are {size:,} bytes of JSON, and max_bytes "
                f"allows {self.max_bytes:,} in XCom (connection {self.conn_id!r}). Nothing was pushed. What "
                "you can do: types=['message'] or levels=['warn', 'error'] to leave out the metrics, "
                "max_events for only the newest, newer_than for what is new since the last run, a larger "
                "max_bytes with an object-storage XCom backend, or FineTuningEventsToObjectStorageOperator, "
                "which writes the whole log to a file and pushes only its manifest.",
                job_id=self.job_id,
                conn_id=self.conn_id,
            )

    def _summary(
        self,
        kept: Sequence[Event],
        read: Sequence[Event],
        *,
        job: Job | None,
        hook: FineTuningHook,
    ) -> dict[str, Any]:
        return {
            "job_id": self.job_id,
            "vendor": hook.settings.vendor.name,
            "events": len(kept),
            "read": len(read),
            "by_type": dict(Counter(event.type for event in kept)),
            "by_level": dict(Counter(event.level for event in kept)),
            "first_event": place_of(kept[0]) if kept else None,
            "last_event": place_of(kept[-1]) if kept else None,
            "job_ended": job.ended is not None if job else None,
            "status": job.status if job else None,
            "last_read_event": place_of(read[-1]) if read else None,
            "metrics": last_metrics(read),
        }


def _check_words(name: str, given: object, *, allowed: Collection[str] | None = None) -> None:
    if given is None:
        return
    if isinstance(given, str) or not isinstance(given, Collection) or not given:
        raise FineTuningInputError(f"{name} is {given!r}; it must be a list of words, or None for all.")
    unknown = [word for word in given if not isinstance(word, str) or (allowed and word not in allowed)]
    if unknown:
        among = f"; each must be one of {', '.join(allowed)}" if allowed else ""
        raise FineTuningInputError(f"{name} contains {unknown!r}{among}.")
