"""Ids of jobs: which are accepted, and what becomes of them in a path."""

from __future__ import annotations

from urllib.parse import quote, unquote

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from airflow_ft_events.errors import FineTuningInputError
from airflow_ft_events.parameters import check_job_id, is_same_job, quoted

ARN = "arn:aws:bedrock:us-east-1:123456789012:model-customization-job/amazon.nova-lite-v1:0:300k/x7=@~+"
LETTERS = "abcXYZ019._:-/+=~@"
plain_ids = st.text(LETTERS, min_size=1, max_size=200)
any_ids = st.text(LETTERS + "%25eEfF\x00 ?#", min_size=1, max_size=80)


def accepted(job_id: str) -> bool:
    try:
        return check_job_id(job_id) == job_id
    except FineTuningInputError:
        return False


@given(plain_ids)
def test_an_id_of_the_allowed_characters_is_accepted_unless_a_part_of_it_is_only_dots(job_id: str) -> None:
    parts = job_id.split("/")
    safe = any(parts) and not any(part and not part.strip(".") for part in parts)
    assert accepted(job_id) is safe


@given(plain_ids)
def test_a_plain_id_and_the_encoded_one_are_one_job_and_one_path(job_id: str) -> None:
    for encoded in (quote(job_id, safe=""), quote(job_id, safe=":"), quote(job_id, safe="").lower()):
        assume(unquote(encoded) == job_id)
        assert accepted(encoded) is (accepted(job_id) and len(encoded) <= 512)
        assert quoted(encoded) == quoted(job_id)
        assert is_same_job(encoded, job_id)


@given(any_ids)
def test_an_accepted_id_is_one_segment_and_stays_below_it_however_often_it_is_decoded(job_id: str) -> None:
    assume(accepted(job_id))
    segment = quoted(job_id)
    assert not set(segment) & set("/?#\\ ")
    assert quoted(segment) == segment
    while segment != (segment := unquote(segment)):
        assert segment.isprintable()
        assert segment.isascii()
        assert not {".", ".."} & set(segment.split("/"))
        assert not set(segment) & set("?#\\ ")


def test_ids_of_different_jobs_have_different_paths() -> None:
    assert quoted("a/b") != quoted("a:b")
    assert not is_same_job("a/b", "a:b")
    assert not is_same_job("a%252Fb", "a/b")


@pytest.mark.parametrize(
    ("job_id", "segment"),
    [
        ("ftjob-1", "ftjob-1"),
        (ARN, ARN.replace("/", "%2F").replace("=", "%3D").replace("@", "%40").replace("+", "%2B")),
        ("ft:a%2fb", "ft:a%2Fb"),
        ("50%", "50%25"),
    ],
)
def test_an_id_is_quoted_once(job_id: str, segment: str) -> None:
    assert quoted(job_id) == segment
