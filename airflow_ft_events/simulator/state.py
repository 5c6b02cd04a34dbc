"""A simulator's state: its settings, its time, its jobs, its faults, and the requests it received."""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote

from airflow_ft_events.simulator.create import JobOrder
from airflow_ft_events.simulator.dialects import Dialect, OrderName, RouteName
from airflow_ft_events.simulator.faults import Answer, Fault, ReceivedRequest, ScriptedFault
from airflow_ft_events.simulator.files import FileStore, StoredFile
from airflow_ft_events.simulator.jobs import SimulatedJob, seeded
from airflow_ft_events.simulator.training import training_job

_KEPT_REQUESTS = 100_000


class ServerState:
    """
    The state of a simulated server; hold its lock to read or change it.

    :param dialect: whose server it is.
    :param order: ``newest`` or ``oldest`` event first.
    :param job_route: False answers ``GET …/jobs/{id}`` as a gateway without that route.
    :param events_route: False answers ``GET …/events`` as a gateway without that route.
    :param speed: simulated seconds per second of the clock.
    :param clock: returns seconds since 1970.
    :param seed: the same seed gives the same ids, losses and gaps.
    :param api_key: the key that requests must bring.
    :param latency: real seconds before each answer.
    :param created_jobs: how the jobs run that clients create: outcome, duration, steps.
    :param any_file: True takes files for training that nobody has uploaded.
    """

    def __init__(
        self,
        *,
        dialect: Dialect,
        order: OrderName,
        job_route: bool,
        events_route: bool,
        speed: float,
        clock: Callable[[], float],
        seed: int,
        api_key: str,
        latency: float,
        created_jobs: Mapping[str, Any],
        any_file: bool,
    ) -> None:
        self.dialect, self.vendor, self.order = dialect, dialect.vendor, order
        self.job_route, self.events_route = job_route, events_route
        self.speed, self.clock, self.seed = speed, clock, seed
        self.api_key, self.latency = api_key, latency
        self.created_jobs: dict[str, Any] = {"outcome": "succeeded", "duration": 300.0, "steps": 100}
        self.created_jobs |= created_jobs
        self.any_file = any_file
        self.files = FileStore(ids=seeded(f"files:{seed}"))
        self.bearer_tokens: dict[str, float] = {}
        """Tokens that are accepted besides the key on Azure and Bedrock, and until when (simulated time)."""
        self.fault: Fault | None = None
        self.lock = threading.RLock()
        self._epoch = clock()
        self._jobs: dict[str, SimulatedJob] = {}
        self._made = 0
        self._requests: deque[ReceivedRequest] = deque(maxlen=_KEPT_REQUESTS)
        self._scripted: list[ScriptedFault] = []

    @property
    def now(self) -> float:
        """The simulated time, seconds since 1970."""
        return self._epoch + (self.clock() - self._epoch) * self.speed

    @property
    def elapsed(self) -> float:
        """Seconds of the clock since the simulator began, not accelerated."""
        return self.clock() - self._epoch

    @property
    def job_ids(self) -> list[str]:
        """The ids of all jobs, in the order in which they were added."""
        with self.lock:
            return list(self._jobs)

    def job_object(self, job: SimulatedJob, *, now: float) -> dict[str, Any]:
        """
        Return a job as the vendor describes it.

        :param job: the job.
        :param now: the simulated time.
        """
        return self.dialect.job(job.as_dict(now=now), changed_at=job.state(now=now)[1])

    def find_job(self, job_id: str) -> SimulatedJob | None:
        """Return a job, or None."""
        asked = unquote(job_id)
        return self._jobs.get(job_id) or next(
            (job for known, job in self._jobs.items() if "%" in known and unquote(known) == asked), None
        )

    def all_jobs(self) -> list[SimulatedJob]:
        """Return every job, in the order in which they were added."""
        return list(self._jobs.values())

    def new_rng(self) -> random.Random:
        """Return the random numbers of the next job."""
        return seeded(f"job:{self.seed}:{self._made}")

    def keep_job(self, job: SimulatedJob) -> None:
        """Serve a job from now on."""
        job.fill, job.cancelling = self.dialect.fill, self.dialect.cancelling
        job.encode_log()
        self._jobs[job.job_id] = job
        self._made += 1

    def create_job(self, order: JobOrder, *, now: float) -> SimulatedJob:
        """
        Create the job that a client asks for; it runs as ``created_jobs`` says.

        :param order: what the client asks for.
        :param now: the simulated time.
        """
        rng = self.new_rng()
        job = training_job(
            job_id=self.dialect.job_id(rng),
            now=now,
            rng=rng,
            run=self.dialect.run,
            epochs=order.epochs,
            fill=self.dialect.fill,
            details=order.details,
            **self.created_jobs,
        )
        self.keep_job(job)
        return job

    def find_file(self, file_id: str, *, now: float) -> StoredFile | None:
        """Return a file that was uploaded or that a job has written, or None."""
        return self.files.find(file_id, jobs=self._jobs.values(), now=now)

    def all_files(self, *, now: float) -> list[StoredFile]:
        """Return every file, oldest first."""
        return self.files.all(jobs=self._jobs.values(), now=now)

    @property
    def requests(self) -> list[ReceivedRequest]:
        """The received requests, oldest first (the last 100,000)."""
        with self.lock:
            return list(self._requests)

    def count(
        self, *, method: str | None = None, contains: str | None = None, route: RouteName | None = None
    ) -> int:
        """
        Count the received requests.

        :param method: only this HTTP method.
        :param contains: only paths with this text in them.
        :param route: only this one: ``events``, ``job``, ``list``, ``create`` …
        """
        return sum(
            (method or request.method) == request.method
            and (contains or "") in request.path
            and (route or request.route) == request.route
            for request in self.requests
        )

    def reset_requests(self) -> None:
        """Forget the received requests."""
        with self.lock:
            self._requests.clear()

    def record(self, request: ReceivedRequest) -> None:
        """Keep a request for ``requests``."""
        self._requests.append(request)

    def fail_next(
        self,
        count: int = 1,
        *,
        route: RouteName | None = None,
        job_id: str | None = None,
        status: int | None = None,
        body: Any = None,
        headers: Mapping[str, str | None] | None = None,
        drop: bool = False,
        truncate: bool = False,
        reset: bool = False,
        stall: float = 0.0,
        linger: float = 0.0,
        bandwidth: float | None = None,
        stream: bool = False,
    ) -> None:
        """
        Make the next requests fail; without further arguments they get a 500.

        :param count: how many requests, default 1.
        :param route: only requests for this one: ``events``, ``job``, ``list``, ``create`` …
        :param job_id: only requests for this job.
        :param status: HTTP status.
        :param body: text or bytes as they are, else JSON; default the vendor's body for the status.
        :param headers: additional headers; a value of None removes one.
        :param drop: close the connection without a response.
        :param truncate: send half of the body, then close the connection.
        :param reset: send half of the body, then reset the connection.
        :param stall: real seconds of silence before the response.
        :param linger: close the connection, which ends the body, so many real seconds late.
        :param bandwidth: bytes of the body a real second.
        :param stream: send a list as server-sent events, and leave the stream open.
        """
        answer = Answer(
            status=status,
            body=body,
            headers=headers or {},
            drop=drop,
            truncate=truncate,
            reset=reset,
            stall=stall,
            linger=linger,
            bandwidth=bandwidth,
            stream=stream,
        )
        if answer == Answer():
            answer = Answer(status=500)
        with self.lock:
            self._scripted.append(ScriptedFault(left=count, answer=answer, route=route, job_id=job_id))

    def clear_faults(self) -> None:
        """Remove all scripted faults that were not used, and ``fault``."""
        with self.lock:
            self._scripted.clear()
            self.fault = None

    def take_fault(self, request: ReceivedRequest) -> Answer | None:
        """Return the fault for this request, if any."""
        for scripted in self._scripted:
            if answer := scripted.take(request):
                self._scripted = [fault for fault in self._scripted if fault.left > 0]
                return answer
        return self.fault(request) if self.fault else None
