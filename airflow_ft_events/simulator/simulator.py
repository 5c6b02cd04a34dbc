"""The simulator's Python interface: starts and stops it, gives its address, creates and controls jobs."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlencode

from airflow_ft_events.simulator.dialects import DEFAULT, DIALECTS, OrderName, dialect_for
from airflow_ft_events.simulator.recordings import LogSource, load_recording, recorded_job_id, replay_job
from airflow_ft_events.simulator.responder import Responder
from airflow_ft_events.simulator.scripts import scripted_job
from airflow_ft_events.simulator.server import HOST, HttpThread
from airflow_ft_events.simulator.state import ServerState
from airflow_ft_events.simulator.training import training_job

_LONG_AGO = 3_600
JobSpec = Mapping[str, Any] | str


class Simulator(ServerState):
    """
    A local server that behaves like a real one; a context manager that starts and stops it.

    :param jobs: the initial jobs: a number, or a list of outcomes or of keyword arguments of
        ``add_job``; default one job made of the arguments below; an empty list for none.
    :param log: a recorded log to replay: a path, or the contents of such a file.
    :param outcome: how the default job ends: ``succeeded``, ``failed`` or ``cancelled``.
    :param vendor: whose server this is: ``openai``, ``azure`` (classic path), ``azure-v1``, ``nebius``,
        ``together`` or ``bedrock``; default the one that the first jobs' logs name, else ``openai``.
    :param order: ``newest`` or ``oldest`` event first; default the vendor's own.
    :param job_route: False answers ``GET …/jobs/{id}`` as a gateway without that route.
    :param events_route: False answers ``GET …/events`` as a gateway without that route.
    :param speed: simulated seconds per second of the clock; default 1.
    :param clock: returns seconds since 1970; default the real time.
    :param seed: the same seed gives the same ids, losses and gaps.
    :param api_key: the key that requests must send.
    :param job_id: id of the first job; default a generated one, or the recorded one of a log.
    :param port: port to listen on; default a free one.
    :param latency: real seconds before each response; default 0.
    :param created_jobs: how the jobs run that clients create: ``outcome`` (default the one above),
        ``duration`` and ``steps``, as in ``add_job``.
    :param any_file: True takes files for training that nobody has uploaded; default False.
    :param ended: True puts the initial jobs into the past, with complete logs; one that says otherwise
        itself (``{"ended": False}``) stays where it is.
    """

    def __init__(
        self,
        jobs: Sequence[JobSpec] | int | None = None,
        *,
        log: LogSource | None = None,
        outcome: str = "succeeded",
        vendor: str | None = None,
        order: OrderName | None = None,
        job_route: bool = True,
        events_route: bool = True,
        speed: float = 1.0,
        clock: Callable[[], float] = time.time,
        seed: int = 0,
        api_key: str = "sk-simulator",
        job_id: str | None = None,
        port: int = 0,
        latency: float = 0.0,
        created_jobs: Mapping[str, Any] | None = None,
        any_file: bool = False,
        ended: bool = False,
    ) -> None:
        if not (math.isfinite(speed) and speed > 0):
            raise ValueError(f"speed must be a positive number, not {speed!r}")
        if order not in (None, "newest", "oldest"):
            raise ValueError(f"Unknown order {order!r}; use newest or oldest")
        specs = _first_jobs(jobs, {"outcome": outcome, "log": log, "ended": ended}, job_id)
        dialect = dialect_for(vendor or _vendor_of(specs))
        super().__init__(
            dialect=dialect,
            order=order or dialect.order,
            job_route=job_route,
            events_route=events_route,
            speed=speed,
            clock=clock,
            seed=seed,
            api_key=api_key,
            latency=latency,
            created_jobs={"outcome": outcome} | _run_options(created_jobs or {}),
            any_file=any_file,
        )
        self._port = port
        self._http = HttpThread(Responder(self).reply)
        self._started = False
        for spec in specs:
            self.add_job(**spec)

    def start(self) -> Self:
        """Listen on loopback; after a stop, with the same jobs on the same port again."""
        if self._started:
            raise RuntimeError("The simulator is already running")
        self._port = self._http.start(port=self._port)
        self._started = True
        return self

    def stop(self) -> None:
        """Close every socket and end the thread; jobs and recorded requests stay readable."""
        self._started = False
        self._http.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def base_url(self) -> str:
        """The base URL for clients, known once the simulator has been started."""
        if not self._port:
            raise RuntimeError("The simulator has not been started yet")
        return f"http://{HOST}:{self._port}{self.dialect.base_path}"

    @property
    def connection_uri(self) -> str:
        """The Airflow connection as a URI."""
        address = f"fine-tuning://:{quote(self.api_key, safe='')}@{quote(self.base_url, safe='')}"
        return address + (f"/?{urlencode(self.connection_extra)}" if self.connection_extra else "")

    @property
    def connection_extra(self) -> dict[str, str]:
        """The extra of the Airflow connection; empty for OpenAI, which needs none."""
        return self.dialect.extra

    def connection_json(self) -> str:
        """Return the Airflow connection as JSON, for an ``AIRFLOW_CONN_…`` variable."""
        told: dict[str, Any] = {"conn_type": "fine_tuning", "host": self.base_url, "password": self.api_key}
        return json.dumps(told | ({"extra": self.connection_extra} if self.connection_extra else {}))

    @property
    def job_id(self) -> str:
        """The id of the first job."""
        ids = self.job_ids
        if not ids:
            raise LookupError("The simulator has no job; add one with add_job()")
        return ids[0]

    def add_job(
        self,
        *,
        outcome: str = "succeeded",
        log: LogSource | None = None,
        job_id: str | None = None,
        duration: float = 300.0,
        steps: int = 100,
        ended: bool = False,
        events: Iterable[Any] | None = None,
        status_timeline: Sequence[tuple[float, str]] = (),
        fill: bool = True,
        metrics: Iterable[Mapping[str, float]] = (),
        metadata: Mapping[str, str] | None = None,
    ) -> str:
        """
        Create a job now, even while the server is running.

        :param outcome: how the generated job ends; a log or a script says it itself.
        :param log: a recorded log to replay instead.
        :param job_id: default a generated id, or the recorded one of a log if no other job has it.
        :param duration: simulated seconds from the first to the last event; default 300.
        :param steps: training steps, each with a metrics event; default 100. With 0, ``failed`` fails in
            validation.
        :param ended: True puts the whole job into the past.
        :param events: raw events, oldest first, for a hand-written script instead. ``offset`` gives
            created_at in seconds from now, ``appears`` delays when the event shows.
        :param status_timeline: the script's (offset in seconds, status) pairs; default running for ever.
        :param fill: False serves a script's events without adding missing keys.
        :param metrics: Together: a script's rows of ``/metrics``; ``offset`` tells when each is logged.
        :param metadata: the job's metadata.
        :returns: the job's id.
        :raises ValueError: if the id is taken, the outcome is unknown or the log cannot be read.
        """
        recording = None if log is None else load_recording(log)
        with self.lock:
            rng = self.new_rng()
            made_id = self.dialect.job_id(rng)
            if job_id is None:
                told = recorded_job_id(recording) if recording else None
                job_id = told if told and told not in self._jobs else made_id
            if job_id in self._jobs:
                raise ValueError(f"There is already a job {job_id!r}")
            now, filler = self.now, self.dialect.fill
            if recording is not None:
                job = replay_job(recording, job_id=job_id, now=now, rng=rng, fill=filler)
            elif events is not None or status_timeline or metrics:
                job = scripted_job(
                    job_id=job_id,
                    now=now,
                    events=events or (),
                    status_timeline=status_timeline,
                    rng=rng,
                    fill=fill,
                    filler=filler,
                    metrics=metrics,
                )
            else:
                job = training_job(
                    job_id=job_id,
                    # some vendors' messages contain a time, which a later move would not change
                    now=now - duration // 1 - _LONG_AGO if ended else now,
                    rng=rng,
                    outcome=outcome,
                    duration=duration,
                    steps=steps,
                    run=self.dialect.run,
                    fill=filler,
                )
            if metadata is not None:
                job.details["metadata"] = dict(metadata)
            if ended:
                job.move(seconds=now - _LONG_AGO - job.created_at - job.span())
            self.keep_job(job)
            return job_id

    def cancel(self, job_id: str) -> dict[str, Any]:
        """
        Cancel a job as POST …/cancel does, and return the job object.

        :raises JobEndedError: if it has ended.
        """
        with self.lock:
            self._jobs[job_id].cancel(now=self.now)
            return self.get_job(job_id)

    def pause(self, job_id: str) -> dict[str, Any]:
        """
        Pause a job as POST …/pause does, and return the job object.

        :raises JobStateError: if it has ended or is paused.
        """
        with self.lock:
            self._jobs[job_id].pause(now=self.now)
            return self.get_job(job_id)

    def resume(self, job_id: str) -> dict[str, Any]:
        """
        Resume a job as POST …/resume does, and return the job object.

        :raises JobStateError: if it is not paused.
        """
        with self.lock:
            self._jobs[job_id].resume(now=self.now)
            return self.get_job(job_id)

    def delete_job(self, job_id: str) -> None:
        """Forget a job; from now on it answers 404."""
        with self.lock:
            del self._jobs[job_id]

    def get_job(self, job_id: str) -> dict[str, Any]:
        """Return the job object as the server would return it now."""
        with self.lock:
            return self.job_object(self._jobs[job_id], now=self.now)

    def list_events(self, job_id: str, *, future: bool = False) -> list[Any]:
        """
        Return the events that are visible now, oldest first.

        :param job_id: the job.
        :param future: True also returns those still to come.
        """
        with self.lock:
            job = self._jobs[job_id]
            return list(job.events if future else job.events[: job.visible(now=self.now)])

    def add_file(self, content: bytes, *, filename: str = "data.jsonl", purpose: str = "fine-tune") -> str:
        """
        Keep a file as if a client had uploaded it.

        :param content: its bytes.
        :param filename: its name.
        :param purpose: what it is for.
        :returns: its id.
        :raises FilesFullError: if there is no room for it.
        """
        with self.lock:
            file = self.files.add(
                filename=filename, purpose=purpose, created_at=int(self.now), content=content
            )
            return file.file_id

    def read_file(self, file_id: str) -> bytes:
        """
        Return the content of a file that was uploaded, or that a job has written.

        :raises KeyError: if there is no such file.
        """
        with self.lock:
            file = self.find_file(file_id, now=self.now)
        if file is None or file.content is None:
            raise KeyError(file_id)
        return file.content

    def add_event(self, job_id: str, event: Mapping[str, Any]) -> dict[str, Any]:
        """Append an event to a job's log now, with missing keys added, and return it."""
        with self.lock:
            job, now = self._jobs[job_id], self.now
            filled = job.fill(event, created_at=event.get("created_at", int(now)), rng=job.rng)
            job.add_event(filled, shows_at=now)
            return filled

    def set_status(self, job_id: str, status: str, *, result: Mapping[str, Any] | None = None) -> None:
        """
        Change a job's status now; later planned changes are dropped.

        :param job_id: the job.
        :param status: any text.
        :param result: job fields for this status, for example ``{"error": {...}}``.
        """
        with self.lock:
            self._jobs[job_id].set_status(status, now=self.now, result=result)


# A verb reads well in a with statement.
simulate = Simulator


def _first_jobs(
    jobs: Sequence[JobSpec] | int | None, default: dict[str, Any], job_id: str | None
) -> list[dict[str, Any]]:
    if jobs is None:
        jobs = 1
    if isinstance(jobs, str):
        raise TypeError("jobs must be a list of outcomes, not one text")
    if isinstance(jobs, int):
        specs = [dict(default) for _ in range(jobs)]
    else:
        told = [{"outcome": spec} if isinstance(spec, str) else dict(spec) for spec in jobs]
        specs = [{"ended": default["ended"]} | spec for spec in told]
    if specs and job_id is not None:
        specs[0]["job_id"] = job_id
    return specs


def _run_options(told: Mapping[str, Any]) -> dict[str, Any]:
    if unknown := set(told) - {"outcome", "duration", "steps"}:
        raise ValueError(f"created_jobs knows outcome, duration and steps, not {', '.join(sorted(unknown))}")
    return dict(told)


def _vendor_of(specs: Sequence[Mapping[str, Any]]) -> str:
    """
    Return the vendor in the logs of the initial jobs.

    :raises ValueError: if there is more than one.
    """
    logs = [load_recording(spec["log"]) for spec in specs if spec.get("log") is not None]
    named = {vendor for log in logs if (vendor := log.vendor or "") in DIALECTS}
    if len(named) > 1:
        raise ValueError(f"The logs come from more than one vendor ({', '.join(sorted(named))}); choose one")
    return named.pop() if named else DEFAULT
