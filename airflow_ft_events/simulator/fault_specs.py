"""Faults written as text: ``429@events:0.5,from=10,to=60``, ``limit=1/s,burst=2,status=503``."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from airflow_ft_events.simulator.dialects import RouteName
from airflow_ft_events.simulator.faults import Answer, Fault, ReceivedRequest
from airflow_ft_events.simulator.jobs import seeded
from airflow_ft_events.simulator.limiter import Limiter, refusal

ROUTES: tuple[RouteName, ...] = get_args(RouteName)
_OFTEN, _ALWAYS = 0.1, 1.0
_SLOW_SECONDS = 2.0
_SPEC = re.compile(
    r"(?P<kind>[^=@:,]*)(=(?P<value>[^@:,]*))?(@(?P<route>[^:,]*))?(:(?P<rate>[^,]*))?(,(?P<rest>.*))?"
)
_RATE = re.compile(r"(\d+(?:\.\d+)?)r?/([sm])")
_WINDOW = {"from", "to"}


@dataclass(frozen=True, kw_only=True)
class ChosenFault:
    """
    A fault, and when it applies.

    :param fault: the answer to a request.
    :param rate: how often, 0 to 1.
    :param route: only for this route; None for all.
    :param since: from then on, in seconds of the clock since the simulator began.
    :param until: until then.
    """

    fault: Fault
    rate: float
    route: RouteName | None = None
    since: float = 0.0
    until: float = math.inf

    def meets(self, request: ReceivedRequest) -> bool:
        """Whether it may apply to this request."""
        return self.route in (None, request.route) and self.since <= request.elapsed < self.until


class RandomFaults:
    """
    Faults by their texts, the same ones for the same seed; use as ``sim.fault``.

    :param specs: texts like ``500:0.1``, ``drop:0.01``, ``403@events``, ``limit=1/s``; the first that
        applies to a request is its answer.
    :param seed: seed of the random numbers; default 0.
    :raises ValueError: if a text is not a fault.
    """

    def __init__(self, specs: Iterable[str], *, seed: int = 0) -> None:
        self._faults = [parse_fault(spec) for spec in specs]
        self._rng = seeded(f"faults:{seed}")

    def __call__(self, request: ReceivedRequest) -> Answer | None:
        for chosen in self._faults:
            if not chosen.meets(request) or self._rng.random() >= chosen.rate:
                continue
            if (answer := chosen.fault(request)) is not None:
                return answer
        return None


def parse_fault(spec: str) -> ChosenFault:
    """
    Parse ``KIND[=VALUE][@ROUTE][:RATE][,OPTION=VALUE…]``; docs/simulator.md lists the kinds and options.

    :param spec: the text.
    :returns: the fault.
    :raises ValueError: if the text is not a fault; the message says what is wrong with it.
    """
    found = _SPEC.fullmatch(spec)
    kind = found["kind"] if found else ""
    if found is None or not _is_known(kind):
        raise ValueError(
            f"Unknown fault {spec!r}; use a status from 400 to 599 or one of {', '.join(_KINDS)}"
        )
    try:
        options = _options(found["rest"])
        window = {name: _seconds(options.pop(name), name) for name in sorted(_WINDOW & options.keys())}
        fault = _made(kind, found["value"], options)
        if options:
            raise _Wrong(f"{kind} has no option {sorted(options)[0]!r}")
        route = _route(found["route"]) if found["route"] is not None else "events" if kind == "sse" else None
        certain = found["value"] is not None or route is not None or window
        rate = _rate(found["rate"], default=_ALWAYS if certain else _OFTEN)
        since, until = window.get("from", 0.0), window.get("to", math.inf)
        if since >= until:
            raise _Wrong("from must be before to")
    except _Wrong as wrong:
        raise ValueError(f"Fault {spec!r}: {wrong}") from None
    return ChosenFault(fault=fault, rate=rate, route=route, since=since, until=until)


class _Wrong(ValueError):
    """What is wrong with a text."""


def _is_known(kind: str) -> bool:
    return kind in _KINDS or _is_status(kind)


def _is_status(text: str) -> bool:
    return text.isascii() and text.isdigit() and 400 <= int(text) <= 599


def _made(kind: str, value: str | None, options: dict[str, str]) -> Fault:
    if _is_status(kind):
        _no_value(kind, value)
        answer = refusal(int(kind), **_page(options, retry_after="1" if kind == "429" else None))
        return lambda request: answer
    return _KINDS[kind](kind, value, options)


def _always(answer: Answer) -> Callable[[str, str | None, dict[str, str]], Fault]:
    def make(kind: str, value: str | None, options: dict[str, str]) -> Fault:
        _no_value(kind, value)
        return lambda request: answer

    return make


def _measured(
    answer: Callable[[float], Answer], *, default: float | None = None
) -> Callable[[str, str | None, dict[str, str]], Fault]:
    def make(kind: str, value: str | None, options: dict[str, str]) -> Fault:
        if value is None and default is None:
            raise _Wrong(f"{kind} needs a number, as in {kind}=5")
        made = answer(default if value is None and default is not None else _positive(value or "", kind))
        return lambda request: made

    return make


def _limit(kind: str, value: str | None, options: dict[str, str]) -> Fault:
    rate = _RATE.fullmatch(value or "")
    if rate is None or float(rate[1]) == 0:
        raise _Wrong("limit needs a rate, as in limit=1/s or limit=30/m")
    per = options.pop("per", "all")
    if per not in ("all", "client"):
        raise _Wrong(f"per must be all or client, not {per!r}")
    burst, status = options.pop("burst", "0"), options.pop("status", "429")
    if not (burst.isascii() and burst.isdigit()):
        raise _Wrong(f"burst must be a whole number, not {burst!r}")
    if not _is_status(status):
        raise _Wrong(f"status must be from 400 to 599, not {status!r}")
    return Limiter(
        rate=float(rate[1]) / (60 if rate[2] == "m" else 1),
        burst=int(burst),
        status=int(status),
        per_client=per == "client",
        **_page(options, retry_after=None),
    )


_KINDS: Mapping[str, Callable[[str, str | None, dict[str, str]], Fault]] = {
    "drop": _always(Answer(drop=True)),
    "truncate": _always(Answer(truncate=True)),
    "reset": _always(Answer(reset=True)),
    "html": _always(refusal(502, html=True)),
    "sse": _always(Answer(stream=True)),
    "slow": _measured(lambda seconds: Answer(stall=seconds), default=_SLOW_SECONDS),
    "slow-close": _measured(lambda seconds: Answer(linger=seconds)),
    "bandwidth": _measured(lambda rate: Answer(bandwidth=rate)),
    "cache": _measured(lambda seconds: Answer(cached=seconds)),
    "stale": _measured(lambda seconds: Answer(behind=seconds)),
    "limit": _limit,
}


def _page(options: dict[str, str], *, retry_after: str | None) -> dict[str, Any]:
    page = options.pop("page", "json")
    if page not in ("json", "html"):
        raise _Wrong(f"page must be json or html, not {page!r}")
    told = options.pop("retry-after", retry_after)
    return {"retry_after": told, "html": page == "html"}


def _options(text: str | None) -> dict[str, str]:
    options: dict[str, str] = {}
    for part in text.split(",") if text is not None else ():
        name, equals, value = part.partition("=")
        if not (name and equals and value):
            raise _Wrong(f"{part!r} is no option; write option=value")
        if name in options:
            raise _Wrong(f"{name} is told twice")
        options[name] = value
    return options


def _route(text: str) -> RouteName:
    for route in ROUTES:
        if route == text:
            return route
    raise _Wrong(f"there is no route {text!r}; use one of {', '.join(ROUTES)}")


def _rate(text: str | None, *, default: float) -> float:
    value = default if text is None else _number(text)
    if not 0 <= value <= 1:
        raise _Wrong("the rate must be a number from 0 to 1")
    return value


def _positive(text: str, name: str) -> float:
    value = _number(text)
    if not 0 < value < math.inf:
        raise _Wrong(f"{name} must be a number above 0, not {text!r}")
    return value


def _seconds(text: str, name: str) -> float:
    value = _number(text)
    if not 0 <= value < math.inf:
        raise _Wrong(f"{name} must be a number of seconds, not {text!r}")
    return value


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _no_value(kind: str, value: str | None) -> None:
    if value is not None:
        raise _Wrong(f"{kind} takes no value")
