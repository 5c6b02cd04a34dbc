"""Deliberate faults: what a request gets instead of, or on the way from, the simulator's own response."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_ft_events.simulator.dialects import RouteName


@dataclass(kw_only=True)
class ReceivedRequest:
    """
    A request that reached the simulator; headers that carry a key are left out.

    ``status`` is None until the request is answered, and stays None if the connection is dropped instead.
    ``at`` is the simulated time, ``elapsed`` the seconds of the clock since the simulator began;
    ``client`` is another number for each key.
    """

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    at: float
    elapsed: float = 0.0
    client: int = 0
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
    :param reset: send only the first half of the body, then reset the connection.
    :param stall: real seconds to wait before anything is sent.
    :param linger: let the end of the connection be the end of the body, and close it so many real
        seconds late.
    :param bandwidth: send the body at so many bytes a real second.
    :param stream: send a list as server-sent events, and leave the stream open.
    :param cached: answer a GET as it was answered up to so many seconds ago (the clock's), as a cache does.
    :param behind: answer a GET as it would have been answered so many seconds ago (the clock's).
    """

    status: int | None = None
    body: Any = None
    headers: Mapping[str, str | None] = field(default_factory=dict)
    drop: bool = False
    truncate: bool = False
    reset: bool = False
    stall: float = 0.0
    linger: float = 0.0
    bandwidth: float | None = None
    stream: bool = False
    cached: float | None = None
    behind: float = 0.0

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
