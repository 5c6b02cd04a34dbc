"""Deliberate faults: scripted responses, lost connections, and random faults."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_ft_events.simulator.dialects import RouteName
from airflow_ft_events.simulator.jobs import seeded

_SLOW_SECONDS = 2.0
_BAD_GATEWAY_PAGE = "<html><head><title>502 Bad Gateway</title></head><body>Bad Gateway</body></html>"


@dataclass(kw_only=True)
class ReceivedRequest:
    """
    A request that reached the simulator; headers that carry a key are left out.

    ``status`` is None until the request is answered, and stays None if the connection is dropped instead.
    ``at`` is the simulated time.
    """

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    at: float
    route: RouteName | None = None
    job_id: str | None = None
    status: int | None = None


@dataclass(frozen=True, kw_only=True)
class Answer:
    """
    What a request gets instead of the simulator's own response; what is left out is not changed.

    :param status: HTTP status; default 200 if there is a body, else the real response's.
    :param body: text or bytes as they are, anything else as JSON; default the vendor's body for a status from
        400 on, else the real response's.
    :param headers: additional headers; a value of None removes one.
    :param drop: close the connection without a response.
    :param truncate: send only the first half of the body, then close the connection.
    :param stall: real seconds to wait before anything is sent.
    """

    status: int | None = None
    body: Any = None
    headers: Mapping[str, str | None] = field(default_factory=dict)
    drop: bool = False
    truncate: bool = False
    stall: float = 0.0

    @property
    def swallows(self) -> bool:
        """Whether the response is replaced, so that the request changes nothing."""
        return self.body is not None or (self.status is not None and self.status >= 400)


Fault = Callable[[ReceivedRequest], Answer | None]


@dataclass(kw_only=True)
class ScriptedFault:
    """The next matching requests all get the same response."""

    left: int
    answer: Answer
    route: RouteName | None = None
    job_id: str | None = None

    def take(self, request: ReceivedRequest) -> Answer | None:
        """Return the response if it applies to this request, and count it."""
        if self.left <= 0 or (self.route or request.route) != request.route:
            return None
        if (self.job_id or request.job_id) != request.job_id:
            return None
        self.left -= 1
        return self.answer


class RandomFaults:
    """
    Random faults, the same ones for the same seed; use as ``sim.fault``.

    :param specs: texts like ``500:0.1``, ``429:0.05``, ``drop:0.01``, ``slow:0.1``; without a rate it is 0.1.
    :param seed: seed of the random numbers; default 0.
    :raises ValueError: if a text is not a fault.
    """

    def __init__(self, specs: Iterable[str], *, seed: int = 0) -> None:
        self._faults = [parse_fault(spec) for spec in specs]
        self._rng = seeded(f"faults:{seed}")

    def __call__(self, request: ReceivedRequest) -> Answer | None:
        for answer, rate in self._faults:
            if self._rng.random() < rate:
                return answer
        return None


def parse_fault(spec: str) -> tuple[Answer, float]:
    """
    Parse ``KIND[:RATE]``.

    :param spec: KIND is a status from 400 to 599, drop, truncate, slow or html; RATE is in 0..1, default 0.1.
    :returns: the response and how often it is given.
    :raises ValueError: if the text is not a fault.
    """
    kind, colon, rate_text = spec.partition(":")
    try:
        rate = float(rate_text) if colon else 0.1
    except ValueError:
        rate = -1.0
    if not 0 <= rate <= 1:
        raise ValueError(f"Fault {spec!r}: the rate must be a number from 0 to 1")
    named = {
        "drop": Answer(drop=True),
        "truncate": Answer(truncate=True),
        "slow": Answer(stall=_SLOW_SECONDS),
        "html": Answer(status=502, body=_BAD_GATEWAY_PAGE, headers={"Content-Type": "text/html"}),
        "429": Answer(status=429, headers={"Retry-After": "1"}),
    }
    if kind in named:
        return named[kind], rate
    if kind.isascii() and kind.isdigit() and 400 <= int(kind) <= 599:
        return Answer(status=int(kind)), rate
    raise ValueError(f"Unknown fault {spec!r}; use a status from 400 to 599, drop, truncate, slow or html")
