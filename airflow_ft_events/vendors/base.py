"""The contract of a server family: everything that differs between servers, as one table of facts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from airflow_ft_events.events import Event, Order
from airflow_ft_events.jobs import Job, JobState, Outcome, says_error
from airflow_ft_events.vendors import words

READ_OF_MESSAGE = 1000
"""Characters of a message that patterns are matched against: a pattern must not block an event loop."""


class Meaning(StrEnum):
    """What an event says about the job's end."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    AFTERMATH = "aftermath"
    """What the server is known to send after the end; does not revoke it."""
    RESTARTED = "restarted"
    """The job goes on; revokes an end."""

    @property
    def outcome(self) -> Outcome | None:
        """The outcome that the event announces; None for the others."""
        return _OUTCOMES.get(self)


_OUTCOMES = {
    Meaning.SUCCEEDED: Outcome.SUCCEEDED,
    Meaning.FAILED: Outcome.FAILED,
    Meaning.CANCELLED: Outcome.CANCELLED,
}


def signal(pattern: str, meaning: Meaning) -> tuple[re.Pattern[str], Meaning]:
    """
    Make one row of a vendor's table of messages.

    :param pattern: regular expression that a whole message, or a whole type, must match; case is ignored.
    :param meaning: what such an event says.
    :returns: the row.
    """
    return re.compile(pattern, re.IGNORECASE | re.DOTALL), meaning


@dataclass(frozen=True, slots=True, kw_only=True)
class Vendor:
    """
    One server family.

    :param name: the name in connections and results.
    :param signals: message or type patterns and what they mean; the first match counts.
    :param base_url: where its API lives, without a trailing slash; "" if every customer has an address of
        their own.
    :param hosts: host names, or suffixes that begin with a dot, by which ``vendor: auto`` recognises it.
    :param order: the order of its events, for when a page does not show it.
    :param pages: whether it supports ``after`` and ``limit``.
    :param jobs_path: the path of the job list; a job is one segment below, its events two.
    :param metrics_path: the path of a job's numbers below the job; None if its events have them.
    :param key_header: the header that carries the key.
    :param key_prefix: what stands before the key in that header.
    :param takes_aws_keys: whether it takes short-term keys that an AWS identity makes.
    :param states: status words of its own, in canonical form, and what they mean; they count more than those
        in words.py.
    :param job_fields: OpenAI's name of a job's field → the name here, if it differs.
    :param last_message: pattern of a log's last message, if that is not the one that states the outcome.
    :param model_message: pattern of the message that names the model, in its group ``model``.
    """

    name: str
    signals: tuple[tuple[re.Pattern[str], Meaning], ...]
    base_url: str = ""
    hosts: tuple[str, ...] = ()
    order: Order = Order.NEWEST_FIRST
    pages: bool = True
    jobs_path: str = "/fine_tuning/jobs"
    metrics_path: str | None = None
    key_header: str = "Authorization"
    key_prefix: str = "Bearer "
    takes_aws_keys: bool = False
    states: Mapping[str, JobState] = field(default_factory=dict)
    job_fields: Mapping[str, str] = field(default_factory=dict)
    last_message: re.Pattern[str] | None = None
    model_message: re.Pattern[str] = re.compile(
        r"New fine-tuned model created: (?P<model>\S+)", re.IGNORECASE
    )

    def serves(self, host: str) -> bool:
        """
        Tell whether a host belongs to this family.

        :param host: host name in lower case.
        :returns: True if it does.
        """
        return any(host.endswith(known) if known.startswith(".") else host == known for known in self.hosts)

    def root(self, base_url: str, *, api_version: str | None) -> tuple[str, dict[str, str]]:
        """
        Turn a connection's base URL into the API's root.

        :param base_url: without a trailing slash.
        :param api_version: only Azure's classic path has one.
        :returns: the root, below which :attr:`jobs_path` lies, and query parameters for every request.
        :raises ValueError: if an API version is given to a family that has none.
        """
        if api_version:
            raise ValueError(f"'api_version' is an Azure setting, but the vendor here is {self.name}")
        return base_url, {}

    def token_scope(self, host: str, *, path: str = "") -> str | None:
        """
        Return the scope that a bearer token of the vendor's identity service needs.

        :param host: the server's host name.
        :param path: the path of the connection's base URL; default "".
        :returns: the scope; None if the family takes keys only.
        """
        return None

    def region_of(self, host: str) -> str | None:
        """
        Return the cloud region that a host name tells.

        :param host: the server's host name.
        :returns: the region; None if the name tells none.
        """
        return None

    def state_of(self, status: object) -> JobState:
        """
        Read a job's status.

        :param status: what the server wrote.
        :returns: what it means; UNKNOWN for a word that nobody knows, and for what is no word.
        """
        return words.state_of(status, self.states) if isinstance(status, str) else JobState.UNKNOWN

    def read_job(self, raw: dict[str, Any], *, job_id: str) -> Job:
        """
        Read a job in this family's format.

        :param raw: the job as the server described it.
        :param job_id: the job that was asked for.
        :returns: its typed view, with OpenAI's names for its fields in addition to its own.
        """
        status, word = raw.get("status"), words.status_of(raw)
        inner = status if isinstance(status, dict) else {}
        known = {name: raw[own] for name, own in self.job_fields.items() if own in raw}
        if word != status:
            known["status"] = word
        if inner and not says_error(raw.get("error")):
            known["error"] = inner.get("error")
        state = self.state_of(word)
        fields = {**inner, **raw, **known} if known else raw
        doubtful = state is JobState.SUCCEEDED and says_error(fields.get("error"))
        unclear = doubtful or (state.outcome is not None and words.is_contradicted(raw, self.states))
        return Job(
            raw=raw,
            id=job_id,
            vendor=self.name,
            state=JobState.UNKNOWN if unclear else state,
            fields=fields,
            contradicts_itself=doubtful,
        )

    def metrics_event(self, row: dict[str, Any]) -> dict[str, Any]:
        """
        Make an event of what the metrics route says about one step, so that all who read numbers can read it.

        :param row: the row as the server sent it.
        :returns: an event of type ``metrics`` with OpenAI's names in its data, and the row itself in ``row``.
        """
        return {"type": "metrics", "created_at": None, "data": dict(row), "row": row}

    def meaning_of(self, event: Event) -> Meaning | None:
        """
        Read what an event says about the job's end, from its text alone.

        :param event: the event.
        :returns: its meaning; None if it says nothing about it, as nearly all events do.
        """
        kind = event.type
        if kind == "metrics":
            return Meaning.RESTARTED
        message = event.message[:READ_OF_MESSAGE].strip()
        for pattern, meaning in self.signals:
            if pattern.fullmatch(message) or pattern.fullmatch(kind):
                return meaning
        return Meaning.RESTARTED if event.is_metrics else None

    def ends_log(self, event: Event) -> bool:
        """
        Tell whether an event is the last that this family sends.

        :param event: an event of a job that has ended.
        :returns: True if it is.
        """
        if self.last_message is not None:
            return self.last_message.fullmatch(event.message.strip()) is not None
        meaning = self.meaning_of(event)
        return meaning is not None and meaning.outcome is not None

    def model_in(self, event: Event) -> str | None:
        """
        Read the name of the model that the job produced.

        :param event: the event.
        :returns: the name, or None if the event does not say it.
        """
        found = self.model_message.match(event.message)
        return found["model"] if found else None

    def with_states(self, states: Mapping[str, str]) -> Vendor:
        """
        Add a server's own status words, ahead of all others.

        :param states: status word → ``succeeded``, ``failed``, ``cancelled`` or ``running``.
        :returns: a family of the same name that knows them too.
        :raises ValueError: for an invalid word or meaning.
        """
        return replace(self, states={**self.states, **words.taught(states)})

    def with_signals(self, signals: Mapping[str, str]) -> Vendor:
        """
        Add a server's own messages, ahead of the family's.

        :param signals: regular expression for a whole message or type → ``succeeded``, ``failed`` or
            ``cancelled``.
        :returns: a family of the same name that knows them too.
        :raises ValueError: for an invalid pattern or outcome.
        """
        rows = []
        for pattern, outcome in signals.items():
            try:
                rows.append(signal(pattern, Meaning(Outcome(outcome).value)))
            except re.error as fault:
                raise ValueError(f"'{pattern}' is not a regular expression: {fault}") from None
            except ValueError:
                raise ValueError(
                    f"'{pattern}' is set to {outcome!r}; an outcome is one of {', '.join(Outcome)}"
                ) from None
        return replace(self, signals=(*rows, *self.signals))
