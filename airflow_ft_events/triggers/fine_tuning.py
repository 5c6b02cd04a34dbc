"""FineTuningEventsTrigger: a task's wait, in the triggerer."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_ft_events.api.bookmark import Bookmark
from airflow_ft_events.api.calls import ReadAgain, aconverse
from airflow_ft_events.clock import clock
from airflow_ft_events.connection.carried import carried
from airflow_ft_events.errors import FineTuningError, FineTuningInputError
from airflow_ft_events.events import Order, one_line, short_utc
from airflow_ft_events.hooks.client import import_off_loop, not_read_again, why_not_read
from airflow_ft_events.hooks.fine_tuning import FineTuningHook
from airflow_ft_events.parameters import DEFERRAL_KEY, check_job_id
from airflow_ft_events.triggers.stats import count_poll, counted_wait
from airflow_ft_events.waiting.poller import JobPoller
from airflow_ft_events.waiting.state import PollResult
from airflow_ft_events.waiting.streaks import Failures
from airflow_ft_events.waiting.task_log import LogEvents, TaskLog

if TYPE_CHECKING:
    from airflow_ft_events.connection.network import Network
    from airflow_ft_events.connection.settings import Settings
    from airflow_ft_events.triggers.shared_client import SharedClient

T = TypeVar("T")
JITTER = 0.1
"""Fraction by which a gap is made shorter or longer, so that waits do not synchronise."""
EVENTS_EVERY = 60.0
"""Seconds between two reads of a job's events where many waits share polls of the job list."""
LONGEST_PATIENCE = 300.0
"""Seconds after which a wait that reads no events gets an answer even if its job has not changed."""


class FineTuningEventsTrigger(BaseTrigger):
    """
    Wait for the end of a fine-tuning job.

    It never raises: its result goes to the worker in its one event, whose ``kind`` is ``outcome``, ``error``
    or ``timeout``. A restart begins again from these parameters and loses nothing; it never starts or cancels
    anything.

    :param job_id: the job.
    :param conn_id: the connection; default ``fine_tuning_default``.
    :param poll_interval: seconds between polls, above 0; default 60.
    :param end_time: seconds since 1970 at which the wait ends, after a last look; default None, never.
    :param log_events: ``messages`` (default), ``all`` or ``none``: which events go into the task log.
    :param max_poll_failures: failed polls in a row, from 1, before the state counts as unknown, which takes
        at least 15 minutes as well; default 5.
    :param cancel_on_kill: cancel the job when a user ends or clears the deferred task (Airflow 3.3); default
        False.
    :param silent_fail: go on waiting after errors that would end the wait; default False.
    :param job_seen: whether the job route has answered before; default False.
    :param events_seen: whether the events route has answered before; default False.
    :param newer_than: id of the newest event that was read before; default None.
    :param order: the server's order, if it is known; default None.
    """

    def __init__(
        self,
        *,
        job_id: str,
        conn_id: str = FineTuningHook.default_conn_name,
        poll_interval: float = 60.0,
        end_time: float | None = None,
        log_events: LogEvents = "messages",
        max_poll_failures: int = 5,
        cancel_on_kill: bool = False,
        silent_fail: bool = False,
        job_seen: bool = False,
        events_seen: bool = False,
        newer_than: str | None = None,
        order: str | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        if not poll_interval > 0:
            raise FineTuningInputError(f"poll_interval is {poll_interval!r}; it must be seconds above 0.")
        self.job_id = job_id
        self.conn_id = conn_id
        self.poll_interval = poll_interval
        self.end_time = end_time
        self.log_events = log_events
        self.max_poll_failures = max_poll_failures
        self.cancel_on_kill = cancel_on_kill
        self.silent_fail = silent_fail
        self.job_seen = job_seen
        self.events_seen = events_seen
        self.newer_than = newer_than
        self.order = order

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the parameters, which contain no secret and do not change."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "job_id": self.job_id,
                "conn_id": self.conn_id,
                "poll_interval": self.poll_interval,
                "end_time": self.end_time,
                "log_events": self.log_events,
                "max_poll_failures": self.max_poll_failures,
                "cancel_on_kill": self.cancel_on_kill,
                "silent_fail": self.silent_fail,
                "job_seen": self.job_seen,
                "events_seen": self.events_seen,
                "newer_than": self.newer_than,
                "order": self.order,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Return one event, when the wait is over."""
        try:
            came_to = await self._wait()
        except FineTuningError as error:
            came_to = {"kind": "error", "error": error.as_dict()}
        except Exception as error:
            # a trigger that raises fails its task without a message, and soft_fail would make that a skip
            self.log.exception("The wait for job %s broke off.", self.job_id)
            text = f"The wait for job {self.job_id} broke off: {type(error).__name__}. See the trigger's log."
            broken = FineTuningError(text, job_id=self.job_id, conn_id=self.conn_id)
            came_to = {"kind": "error", "error": broken.as_dict()}
        yield TriggerEvent(carried({"job_id": self.job_id, **came_to}))  # type: ignore[no-untyped-call]

    async def on_kill(self) -> None:
        """Cancel the job, if ``cancel_on_kill`` is set: a user marked or cleared the task (Airflow 3.3)."""
        if not self.cancel_on_kill:
            return
        if await self._still_deferred():
            self.log.info("The task is still deferred: job %s is left alone.", self.job_id)
            return
        hook = FineTuningHook(self.conn_id)
        try:
            if await self._job_has_ended(hook):
                self.log.info("Job %s has ended: there is nothing to cancel.", self.job_id)
                return
            self.log.info("The task was ended by a user; cancelling job %s (cancel_on_kill).", self.job_id)
            job = await hook.acancel_job(self.job_id)
        except FineTuningError as error:
            self.log.error("Job %s could not be cancelled: %s", self.job_id, error)
        else:
            self.log.info("Job %s is %s.", self.job_id, one_line(job.get("status"), limit=60))

    async def _still_deferred(self) -> bool:
        """
        Tell whether the task is still waiting, in this very deferral.

        Airflow also calls ``on_kill`` if a triggerer was silent and another one took its waits; and a task
        that a user cleared may be deferred again by now, in its next try.
        """
        task: Any = self.task_instance
        if task is None:
            return False
        try:
            return await asyncio.to_thread(_is_deferred, task)
        except Exception as error:  # noqa: BLE001 - whatever Airflow raises, the state is not known
            self.log.warning("Airflow does not say what state the task is in (%s).", type(error).__name__)
            return True

    async def _job_has_ended(self, hook: FineTuningHook) -> bool:
        """Tell whether the job has ended; if that cannot be determined, it has not."""
        try:
            return await hook.ahas_ended(self.job_id)
        except FineTuningError:
            return False

    async def _wait(self) -> dict[str, Any]:
        shared = await import_off_loop("airflow_ft_events.triggers.shared_client")
        while True:
            try:
                check_job_id(self.job_id)
                async with shared.shared_client(self.conn_id, interval=self.poll_interval) as client:
                    await self._patiently(partial(client.open, self._read_connection))
                    with counted_wait():
                        return await self._follow(client)
            except FineTuningError as error:
                if not self.silent_fail:
                    raise
                self.log.error("%s (silent_fail: going on waiting)", error)
            left = self.end_time - clock().now() if self.end_time is not None else math.inf
            if left <= 0:
                return {"kind": "timeout", "status": None, "asked": False}
            await clock().asleep(min(self.poll_interval, left))

    async def _follow(self, client: SharedClient) -> dict[str, Any]:
        """Follow the job to its end, or to the end of the wait."""
        poller = self._new_poller(client.settings)
        task_log = TaskLog(self.log_events, quiet=not self.log.isEnabledFor(logging.INFO))
        await self._sleep(client, self.poll_interval * client.slot())
        while True:
            last = self.end_time is not None and clock().now() >= self.end_time
            result = await self._poll_once(poller, client, alone=last)
            count_poll(result, client)
            self._log_result(result, task_log, client.settings)
            if result.outcome is not None:
                told = client.settings.redact.json(result.outcome.as_dict())
                return {"kind": "outcome", "outcome": told}
            if result.error is not None:
                if not self.silent_fail:
                    return {"kind": "error", "error": result.error.as_dict()}
                self.log.error("%s (silent_fail: going on waiting)", result.error)
            if last:
                return {"kind": "timeout", "status": poller.status, "asked": result.asked}
            gap = result.wait * (1 - JITTER + 2 * JITTER * clock().jitter())
            del result  # its events would stay in memory for as long as the wait sleeps
            await self._sleep(client, gap)

    async def _poll_once(self, poller: JobPoller, client: SharedClient, *, alone: bool) -> PollResult:
        """Poll once; a wait's last look is its own request, not a shared poll."""
        poller.use(client.settings)
        events_every = (
            math.inf if self.log_events == "none" else EVENTS_EVERY if client.job_list.in_use else 0.0
        )
        now = clock().now()
        left = self.end_time - now if self.end_time is not None else math.inf
        patience = max(0.0, min(events_every, LONGEST_PATIENCE, left))
        send = client.send_alone if alone else partial(client.send, patience=patience)
        poll = poller.poll(now=now, events_every=events_every, last=alone)
        return await aconverse(poll, send, read_again=partial(self._read_again, client))

    def _new_poller(self, settings: Settings) -> JobPoller:
        until = short_utc(self.end_time)
        self.log.info(
            "Waiting for job %s on %s (vendor %s, connection %r), polling every %g s %s.",
            self.job_id,
            settings.root,
            settings.vendor.name,
            self.conn_id,
            self.poll_interval,
            f"until {until}" if until else "without a deadline",
        )
        order = Order(self.order) if self.order else None
        return JobPoller(
            settings=settings,
            job_id=self.job_id,
            interval=self.poll_interval,
            max_failures=self.max_poll_failures,
            first=not self.events_seen,
            job_seen=self.job_seen,
            bookmark=Bookmark(ids=(self.newer_than,), order=order) if self.newer_than else None,
        )

    async def _read_again(self, client: SharedClient, step: ReadAgain) -> Settings | FineTuningError:
        try:
            return await client.read_again(step, self._read_connection)
        except Exception as error:  # noqa: BLE001 - a secrets backend may raise anything
            return not_read_again(self.conn_id, error)

    async def _read_connection(self) -> tuple[Settings, Network]:
        hook = FineTuningHook(self.conn_id)
        return await hook.aget_settings(), await hook.aget_network()

    async def _patiently(self, have_read: Callable[[], Awaitable[T]]) -> T:
        """Read the connection; a secrets backend that is unavailable for a while does not end the wait."""
        failures = Failures()
        while True:
            try:
                return await have_read()
            except FineTuningInputError:
                raise
            except Exception as error:  # noqa: BLE001
                now = clock().now()
                failures.add(now=now)
                why = why_not_read(error)
                self.log.warning("Connection %r cannot be read now: %s.", self.conn_id, why)
                over = self.end_time is not None and now >= self.end_time
                if over or failures.exhausted(now=now, most=self.max_poll_failures):
                    raise failures.unknown(
                        RuntimeError(f"the connection cannot be read ({why})"),
                        now=now,
                        job_id=self.job_id,
                        conn_id=self.conn_id,
                    ) from None
                gap = failures.gap(self.poll_interval)
                await clock().asleep(gap if self.end_time is None else min(gap, self.end_time - now))

    async def _sleep(self, client: SharedClient, gap: float) -> None:
        """Sleep for the gap, and for a pause that the server asks for; not beyond the deadline."""
        while gap > 0:
            if self.end_time is not None:
                gap = min(gap, max(0.0, self.end_time - clock().now()))
            await clock().asleep(gap)
            if self.end_time is not None and clock().now() >= self.end_time:
                return
            pause = client.pause_left()
            # after a pause the waits resume one by one
            gap = pause + self.poll_interval * client.slot() if pause > 0 else 0.0

    def _log_result(self, result: PollResult, task_log: TaskLog, settings: Settings) -> None:
        for level, text in (*task_log.lines(result.events, more_before=result.more_before), *result.notes):
            getattr(self.log, level)("%s", settings.redact.text(text))


def _is_deferred(task: Any) -> bool:
    """Ask Airflow whether this try of a task is deferred now."""
    from airflow.providers.common.compat.sdk import XCom
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    index = task.map_index if task.map_index is not None else -1
    states = RuntimeTaskInstance.get_task_states(
        dag_id=task.dag_id, task_ids=[task.task_id], run_ids=[task.run_id], map_index=index
    )
    key = task.task_id if index < 0 else f"{task.task_id}_{index}"
    if (states.get(task.run_id) or {}).get(key) != "deferred":
        return False
    deferral = XCom.get_one(
        key=DEFERRAL_KEY, dag_id=task.dag_id, task_id=task.task_id, run_id=task.run_id, map_index=index
    )
    return bool(deferral == str(task.id))
