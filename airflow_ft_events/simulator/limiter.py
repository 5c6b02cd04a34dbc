"""A rate limiter that counts as nginx's ``limit_req`` does."""

from __future__ import annotations

from dataclasses import dataclass, field
from http import HTTPStatus

from airflow_ft_events.simulator.faults import Answer, ReceivedRequest

_ONE = 1000
"""nginx counts in thousandths of a request."""


@dataclass(kw_only=True)
class Limiter:
    """
    Refuses requests that come too fast; use as ``sim.fault``.

    A leaky bucket: it empties at the rate, each request that passes adds one, and a request that would make
    it larger than the burst is refused and adds nothing. Time is the simulator's clock, not accelerated.

    :param rate: requests a second.
    :param burst: requests beyond the rate that pass at once; default 0, so only one passes in each interval.
    :param status: status of the refusals; default 429.
    :param retry_after: value of their Retry-After header; default no such header.
    :param html: True sends a gateway's page instead of the vendor's body.
    :param per_client: True counts for each key apart; default all requests together.
    """

    rate: float
    burst: int = 0
    status: int = 429
    retry_after: str | None = None
    html: bool = False
    per_client: bool = False
    _seen: dict[int, tuple[int, int]] = field(default_factory=dict)

    def __call__(self, request: ReceivedRequest) -> Answer | None:
        """Return the refusal, or None if the request passes."""
        client = request.client if self.per_client else 0
        now = round(request.elapsed * 1000)
        excess = 0
        if client in self._seen:
            before, last = self._seen[client]
            leaked = int(self.rate * _ONE) * max(now - last, 0) // 1000
            excess = max(before - leaked + _ONE, 0)
        if excess > self.burst * _ONE:
            return refusal(self.status, retry_after=self.retry_after, html=self.html)
        self._seen[client] = (excess, now)
        return None


def refusal(status: int, *, retry_after: str | None = None, html: bool = False) -> Answer:
    """
    Make the answer of a gateway that refuses.

    :param status: its status.
    :param retry_after: value of a Retry-After header; default none.
    :param html: True sends the gateway's page; default the vendor's body.
    """
    headers: dict[str, str | None] = {} if retry_after is None else {"Retry-After": retry_after}
    if not html:
        return Answer(status=status, headers=headers)
    known = status in HTTPStatus._value2member_map_
    title = f"{status} {HTTPStatus(status).phrase}" if known else str(status)
    page = f"<html><head><title>{title}</title></head><body><center><h1>{title}</h1></center></body></html>"
    return Answer(status=status, body=page, headers=headers | {"Content-Type": "text/html"})
