"""Redaction: the only place that masks secrets, for logs, errors, XComs and reprs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from airflow_ft_events.connection.carried import Carrier
from airflow_ft_events.connection.credential import Credential
from airflow_ft_events.events import one_line
from airflow_ft_events.jobs import JobError, JobOutcome

MASK = "***"
SHORTEST = 4
"""Length in characters below which a value is too short to be searched for as a secret."""
NO_WORD = 8
"""Length in characters from which a value is given to Airflow's masker, which masks it in every log."""
LONG = 16
"""Length in characters from which a secret cannot be an everyday word."""
_KEY_LIKE = re.compile(
    r"\b(?:sk|pk|rk)[-_][\w\-*.…]{6,}|\bkey[-_](?=[\w\-*.…]{0,100}\d)[\w\-*.…]{6,}"
    r"|\beyJ[\w-]{6,}\.[\w-]{6,}\.[\w-]*|\bBearer\s+(?=\S{0,100}\d)\S{6,}",
    re.IGNORECASE,
)
_WORD = re.compile(r"[^\s\"'<>]+")
_PART = re.compile(r"[\w-]+", re.ASCII)
# a colon before the first slash that does not begin a port; S3 keys may contain slashes
_PASSWORD_IN_PATH = re.compile(r"://[^/@]*:(?!\d+/).*@")
_MORE_THAN_ADDRESS = re.compile(r"^[^/]*@|[?#].*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Redactor:
    """
    Masks the secrets of one connection.

    :param credential: the connection's credential.
    :param values: the values of its additional headers, and what else it holds.
    """

    credential: Credential
    values: tuple[str, ...] = field(default=(), repr=False)

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must not appear in any text."""
        found = (*self.credential.secrets, *self.values)
        return tuple(value for value in found if len(value) >= SHORTEST)

    @property
    def for_airflow(self) -> tuple[str, ...]:
        """What Airflow's masker should know: it also masks what others log, where ``openai`` is a word."""
        return tuple(secret for secret in self.secrets if len(secret) >= NO_WORD)

    def text(self, text: str) -> str:
        """
        Mask the secrets in a text that quotes the server.

        :param text: the text; may have several lines.
        :returns: the text with ``***`` for each secret.
        """
        return _without(text, self.secrets)

    def line(self, text: object, *, limit: int = 500) -> str:
        """
        Make a server's or a library's text safe for messages: one line, with nothing that looks like a key.

        Servers that refuse a key may repeat parts of it, such as ``abc***xyz``.

        :param text: the text.
        :param limit: characters kept; default 500.
        :returns: the masked line.
        """
        line = _KEY_LIKE.sub(MASK, self.text(one_line(text, limit=20_000)))
        return one_line(_WORD.sub(lambda word: self._word(word[0]), line), limit=limit)

    def _word(self, word: str) -> str:
        least = 4 if "..." in word or "…" in word or "**" in word else 8
        keys = self.credential.secrets
        parts = [part for part in _PART.findall(word) if len(part) >= least]
        if MASK in word or any(part in key for part in parts for key in keys):
            return MASK + word[len(word.rstrip(".,;:)")) :]
        return word

    def json(self, value: Any) -> Any:
        """
        Make a value from the server safe for XCom, masking only long secrets: ``prod`` is not a key.

        :param value: a value read from JSON.
        :returns: the same value as far as Airflow can carry it.
        """
        return self.carrier().fit(value)

    def carrier(self) -> Carrier:
        """Return what does :meth:`json`, and counts what it had to change."""
        return Carrier(self._long)

    def _long(self, text: str) -> str:
        return _without(text, (secret for secret in self.secrets if len(secret) >= LONG))

    def outcome(self, outcome: JobOutcome) -> JobOutcome:
        """
        Mask what a server should not have repeated in a job's error.

        :param outcome: how the job ended.
        :returns: the outcome with its error masked.
        """
        if outcome.error is None:
            return outcome
        parts = {name: self.text(part) if part else part for name, part in outcome.error.as_dict().items()}
        return replace(outcome, error=JobError(**parts))


def _without(text: str, secrets: Iterable[str]) -> str:
    """Mask secrets that may be part of one another, or overlap: what they cover together becomes one mask."""
    spans = sorted(span for secret in dict.fromkeys(secrets) for span in _spans(text, secret))
    if not spans:
        return text
    kept, shown_from = [], 0
    start, end = spans[0]
    for next_start, next_end in spans[1:]:
        if next_start >= end:
            kept.append(text[shown_from:start])
            shown_from, start, end = end, next_start, next_end
        end = max(end, next_end)
    return MASK.join([*kept, text[shown_from:start], text[end:]])


def _spans(text: str, secret: str) -> Iterator[tuple[int, int]]:
    """Find each place of a secret, also those that overlap."""
    start = text.find(secret)
    while start >= 0:
        yield start, start + len(secret)
        start = text.find(secret, start + 1)


def redacted_path(path: str) -> str:
    """
    Make a storage path safe for messages.

    :param path: the path; it may contain a password.
    :returns: the path with the password masked.
    """
    return _PASSWORD_IN_PATH.sub(f"://{MASK}@", path)


def redacted_url(url: str) -> str:
    """
    Make a base URL safe for messages: without user, password, query and fragment.

    :param url: the URL as written, perhaps not a URL at all.
    :returns: one line.
    """
    scheme, separator, rest = url.rpartition("://")
    return one_line(f"{scheme}{separator}{_MORE_THAN_ADDRESS.sub('', rest)}", limit=120)
