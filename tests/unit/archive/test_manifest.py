"""The manifest as a file: what is written byte by byte, what is read, and what is refused by name."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from msgspec.structs import replace

from airflow_ft_events.api.bookmark import Bookmark
from airflow_ft_events.archive.manifest import JobFacts, Manifest, Part, Place
from airflow_ft_events.errors import FineTuningArchiveError
from airflow_ft_events.events import Order

PART = Part(
    name="log.jsonl.parts/00000-abababababab.jsonl",
    count=2,
    bytes=310,
    sha256="ab" * 32,
    first_event=Place(id="ftevent-1", created_at="2026-01-31T12:00:00+00:00"),
    last_event=Place(id="ftevent-2", created_at=None),
)
EMPTY = Part(name="empty.jsonl", count=0, bytes=0, sha256="cd" * 32, first_event=None, last_event=None)
MANIFEST = Manifest(
    job=JobFacts(
        job_id="ftjob-1", vendor="openai", outcome="succeeded", status="fertig \u00fc \ud800", complete=True
    ),
    path="/logs/\u00fc.jsonl",
    file_format="jsonl",
    compression=None,
    parts=(PART, EMPTY),
    sha256="ef" * 32,
    bookmark=Bookmark(
        ids=("ftevent-1", "ftevent-2"), order=Order.NEWEST_FIRST, created_at=1769860800.25, hashes=(1, 2)
    ),
    report=None,
    package_version="0.1.0",
)
WRITTEN = rb"""{
  "manifest_version": 1,
  "job_id": "ftjob-1",
  "vendor": "openai",
  "outcome": "succeeded",
  "status": "fertig \u00fc \ud800",
  "complete": true,
  "path": "/logs/\u00fc.jsonl",
  "format": "jsonl",
  "compression": null,
  "count": 2,
  "bytes": 310,
  "sha256": "efefefefefefefefefefefefefefefefefefefefefefefefefefefefefefefef",
  "first_event": {
    "id": "ftevent-1",
    "created_at": "2026-01-31T12:00:00+00:00"
  },
  "last_event": {
    "id": "ftevent-2",
    "created_at": null
  },
  "parts": [
    {
      "name": "log.jsonl.parts/00000-abababababab.jsonl",
      "count": 2,
      "bytes": 310,
      "sha256": "abababababababababababababababababababababababababababababababab",
      "first_event": {
        "id": "ftevent-1",
        "created_at": "2026-01-31T12:00:00+00:00"
      },
      "last_event": {
        "id": "ftevent-2",
        "created_at": null
      }
    },
    {
      "name": "empty.jsonl",
      "count": 0,
      "bytes": 0,
      "sha256": "cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd",
      "first_event": null,
      "last_event": null
    }
  ],
  "report": null,
  "resume": {
    "ids": [
      "ftevent-1",
      "ftevent-2"
    ],
    "order": "newest_first",
    "created_at": 1769860800.25
  },
  "package_version": "0.1.0"
}
"""


def _refusal(content: bytes) -> str:
    with pytest.raises(FineTuningArchiveError, match="is not the manifest of an archive") as caught:
        Manifest.read(content, where="/logs/log.jsonl.manifest.json")
    return str(caught.value)


def _changed(place: tuple[str | int, ...], value: Any) -> bytes:
    given = copy.deepcopy(MANIFEST.as_dict())
    target: Any = given
    for step in place[:-1]:
        target = target[step]
    target[place[-1]] = value
    return json.dumps(given).encode()


def test_a_manifest_is_written_byte_by_byte_as_it_always_was() -> None:
    assert MANIFEST.as_bytes() == WRITTEN


def test_a_manifest_that_is_read_and_written_again_stays_as_it_is() -> None:
    read = Manifest.read(WRITTEN, where="here")
    assert read.as_bytes() == WRITTEN
    assert isinstance(read.parts, tuple)
    assert read.bookmark == Bookmark(
        ids=("ftevent-1", "ftevent-2"), order=Order.NEWEST_FIRST, created_at=1769860800.25
    )
    assert read == replace(MANIFEST, bookmark=read.bookmark)


def test_a_manifest_without_a_bookmark_an_outcome_or_a_part_is_read() -> None:
    job = JobFacts(job_id="ftjob-1", vendor="nebius", outcome=None, status=None, complete=False)
    bare = replace(
        MANIFEST, job=job, bookmark=None, parts=(), compression="gzip", report="log.jsonl.report.html"
    )
    assert Manifest.read(bare.as_bytes(), where="here") == bare
    assert bare.count == 0


def test_fields_that_nobody_knows_are_passed_over_and_whole_seconds_are_seconds() -> None:
    assert Manifest.read(_changed(("note",), {"by": "hand"}), where="here").as_bytes() == WRITTEN
    bookmark = Manifest.read(_changed(("resume", "created_at"), 1769860800), where="here").bookmark
    assert bookmark
    assert json.dumps(bookmark.created_at) == "1769860800.0"


WRONG = [
    (("manifest_version",), "1", "$.manifest_version"),
    (("manifest_version",), True, "$.manifest_version"),
    (("job_id",), 7, "$.job_id"),
    (("job_id",), None, "$.job_id"),
    (("vendor",), ["openai"], "$.vendor"),
    (("outcome",), {}, "$.outcome"),
    (("status",), False, "$.status"),
    (("complete",), 1, "$.complete"),
    (("complete",), "true", "$.complete"),
    (("path",), None, "$.path"),
    (("format",), 1.5, "$.format"),
    (("compression",), [], "$.compression"),
    (("count",), "2", "$.count"),
    (("bytes",), float("nan"), "$.bytes"),
    (("sha256",), 12, "$.sha256"),
    (("first_event",), "ftevent-1", "$.first_event"),
    (("last_event", "created_at"), 1769860800, "$.last_event.created_at"),
    (("parts",), None, "$.parts"),
    (("parts",), {"0": {}}, "$.parts"),
    (("parts", 1), "log.jsonl", "$.parts[1]"),
    (("parts", 1), [[[[]]]], "$.parts[1]"),
    (("parts", 1, "name"), 1, "$.parts[1].name"),
    (("parts", 1, "name"), "../secret", "$.parts[1].name"),
    (("parts", 1, "name"), "/etc/passwd", "$.parts[1].name"),
    (("parts", 1, "name"), "a/../../\ud800", "$.parts[1].name"),
    (("parts", 1, "name"), "..\\secret", "$.parts[1].name"),
    (("parts", 0, "count"), "2", "$.parts[0].count"),
    (("parts", 0, "count"), 2.0, "$.parts[0].count"),
    (("parts", 0, "count"), -1, "$.parts[0].count"),
    (("parts", 0, "bytes"), 2**63, "$.parts[0].bytes"),
    (("parts", 0, "bytes"), 10**4000, "$.parts[0].bytes"),
    (("parts", 0, "bytes"), float("inf"), "$.parts[0].bytes"),
    (("parts", 0, "first_event", "id"), None, "$.parts[0].first_event.id"),
    (("report",), True, "$.report"),
    (("resume",), [], "$.resume"),
    (("resume", "ids"), "ftevent-1", "$.resume.ids"),
    (("resume", "ids", 1), 2, "$.resume.ids[1]"),
    (("resume", "order"), "sideways", "$.resume.order"),
    (("resume", "order"), "\ud800", "$.resume.order"),
    (("resume", "created_at"), float("nan"), "$.resume.created_at"),
    (("resume", "created_at"), float("-inf"), "$.resume.created_at"),
    (("resume", "created_at"), 10**4000, "$.resume.created_at"),
    (("resume", "created_at"), "1769860800", "$.resume.created_at"),
    (("package_version",), 1, "$.package_version"),
]


@pytest.mark.parametrize(
    ("place", "value", "named"), WRONG, ids=[f"{named}-{n}" for n, (*_, named) in enumerate(WRONG)]
)
def test_a_field_of_the_wrong_kind_is_refused_by_its_name(
    place: tuple[str | int, ...], value: Any, named: str
) -> None:
    message = _refusal(_changed(place, value))
    assert f"`{named}`" in message
    assert len(message) < 500
    message.encode()


@pytest.mark.parametrize("field", MANIFEST.as_dict())
def test_a_missing_field_is_named(field: str) -> None:
    given = MANIFEST.as_dict()
    del given[field]
    assert f"`{field}`" in _refusal(json.dumps(given).encode())


@pytest.mark.parametrize("field", MANIFEST.as_dict()["parts"][0])
def test_a_missing_field_of_a_part_is_named_with_the_part(field: str) -> None:
    given = MANIFEST.as_dict()
    del given["parts"][0][field]
    message = _refusal(json.dumps(given).encode())
    assert f"`{field}`" in message
    assert "`$.parts[0]`" in message


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "Expecting value"),
        (b"{", "Expecting property name"),
        (b"null", "not a JSON object"),
        (b"[1]", "not a JSON object"),
        (b"NaN", "not a JSON object"),
        (b"[" * 100_000, "recursion"),
        (b'{"manifest_version":' * 100_000, "recursion"),
        (b'{"manifest_version": 1' + b"0" * 5_000 + b"}", "4300"),
        (b'{"manifest_version": 2}', "its version is 2, but this package reads up to 1"),
        (b'{"manifest_version": 1e3}', "$.manifest_version"),
        (rb'{"manifest_version": 1, "\udfff": 1}', r"'\udfff'"),
        (b"\xff\xfe", ""),
    ],
    ids=range(12),
)
def test_a_file_that_is_not_a_manifest_is_refused_with_a_reason(content: bytes, problem: str) -> None:
    assert problem in _refusal(content)
