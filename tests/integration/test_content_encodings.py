"""Bodies that a gateway compressed, once or more: both clients read the same, within the same limits."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import Any

import pytest

from airflow_ft_events.exceptions import FineTuningAnswerError, FineTuningApiError
from airflow_ft_events.hooks.fine_tuning import FineTuningHook
from airflow_ft_events.transport.encodings import MOST_MEMBERS

JOB = {"id": "ftjob-1", "status": "running", "note": "x" * 3_000}
PLAIN = json.dumps(JOB).encode()


def squeezed(body: bytes, *encodings: str) -> bytes:
    """Apply encodings, in their order."""
    for encoding in encodings:
        body = zlib.compress(body) if encoding == "deflate" else gzip.compress(body)
    return body


def raw_deflate(body: bytes) -> bytes:
    made = zlib.compressobj(wbits=-15)
    return made.compress(body) + made.flush()


READ = {
    "gzip": (["gzip"], squeezed(PLAIN, "gzip")),
    "x-gzip": (["x-gzip"], squeezed(PLAIN, "gzip")),
    "X-GZIP": (["X-GZIP"], squeezed(PLAIN, "gzip")),
    "gzip twice": (["gzip, gzip"], squeezed(PLAIN, "gzip", "gzip")),
    "gzip twice, in two lines": (["gzip", "gzip"], squeezed(PLAIN, "gzip", "gzip")),
    "x-gzip and gzip": (["x-gzip,gzip"], squeezed(PLAIN, "gzip", "gzip")),
    "x-gzip twice, in two lines": (["x-gzip", "x-gzip"], squeezed(PLAIN, "gzip", "gzip")),
    "deflate in gzip": (["deflate, gzip"], squeezed(PLAIN, "deflate", "gzip")),
    "raw deflate in gzip": (["deflate, gzip"], gzip.compress(raw_deflate(PLAIN))),
    "gzip in deflate": (["gzip, deflate"], squeezed(PLAIN, "gzip", "deflate")),
    "five times": (["gzip, gzip, gzip, gzip, gzip"], squeezed(PLAIN, *["gzip"] * 5)),
    "two members": (["x-gzip"], gzip.compress(PLAIN[:100]) + gzip.compress(PLAIN[100:])),
    "bytes behind it": (["x-gzip"], gzip.compress(PLAIN) + b"\0" * 8),
    "an unknown word": (["fast"], PLAIN),
    "identity": (["identity"], PLAIN),
}
NOT_READ = {
    "x-gzip that is not": (["x-gzip"], PLAIN),
    "gzip once and said twice": (["gzip, gzip"], squeezed(PLAIN, "gzip")),
    "six times": (["gzip, gzip, gzip, gzip, gzip, gzip"], squeezed(PLAIN, *["gzip"] * 6)),
}


@pytest.fixture
def serve(odd_server: Any, connect: Any) -> Any:
    """Serve a body with lines of Content-Encoding."""

    def start(lines: list[str], body: bytes) -> None:
        head = ["HTTP/1.1 200 OK", "Content-Type: application/json", f"Content-Length: {len(body)}"]
        head += [f"Content-Encoding: {line}" for line in lines]
        answer = "\r\n".join([*head, "", ""]).encode() + body
        connect(odd_server(lambda request: answer), max_retries=0)

    return start


@pytest.mark.parametrize(("lines", "body"), READ.values(), ids=READ.keys())
def test_a_compressed_answer_is_read(lines: list[str], body: bytes, serve: Any, call: Any) -> None:
    serve(lines, body)
    assert call(FineTuningHook(), "get_job", "ftjob-1") == JOB


@pytest.mark.parametrize(("lines", "body"), NOT_READ.values(), ids=NOT_READ.keys())
def test_what_is_not_compressed_as_it_says_is_a_broken_answer(
    lines: list[str], body: bytes, serve: Any, call: Any
) -> None:
    serve(lines, body)
    with pytest.raises(FineTuningApiError, match="the connection broke"):
        call(FineTuningHook(), "get_job", "ftjob-1")


@pytest.mark.parametrize("line", ["x-gzip", "gzip, gzip", "deflate, gzip", "gzip, gzip, gzip"])
def test_a_body_that_grows_beyond_the_limit_is_not_decompressed(line: str, serve: Any, call: Any) -> None:
    words = line.split(", ")
    serve([line], squeezed(b" " * (40 * 1024 * 1024), *words))
    with pytest.raises(FineTuningAnswerError, match="larger than"):
        call(FineTuningHook(), "get_job", "ftjob-1")


def test_thousands_of_tiny_members_are_not_decompressed_one_by_one(serve: Any) -> None:
    from tests.integration.conftest import Faces

    serve(["x-gzip"], gzip.compress(b" ") * (MOST_MEMBERS + 1))
    with pytest.raises(FineTuningApiError, match="gzip members"):
        Faces("async")(FineTuningHook(), "get_job", "ftjob-1")
