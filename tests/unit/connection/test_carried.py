"""What Airflow can carry: whatever a server says is made to fit, and what fits already stays as it is."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_ft_events.connection.carried import DEEPEST, TOO_DEEP, Carrier, carried

TEXTS = st.one_of(
    st.text(st.characters(codec=None), max_size=12),
    st.sampled_from(["\x00", "\ud800", "a\x00b", "__classname__", "__type", "~__var", "__", "\ufffd"]),
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.integers(-(2**70), 2**70) | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=20,
)


def nested(levels: int) -> Any:
    value: Any = "bottom"
    for _ in range(levels):
        value = {"a": [value]}
    return value


def parts(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [*value, *(part for each in value.values() for part in parts(each))]
    if isinstance(value, list):
        return [part for each in value for part in parts(each)]
    return [value]


@pytest.mark.parametrize(
    ("came", "goes"),
    [
        ("a\x00b", "a\ufffdb"),
        ("\ud83d half", "\ufffd half"),
        ("\U0001f600", "\U0001f600"),
        (2**63 - 1, 2**63 - 1),
        (-(2**63), -(2**63)),
        (2**63, "9223372036854775808"),
        (-(2**70), "-1180591620717411303424"),
        (math.nan, None),
        (math.inf, None),
        (True, True),
        ({"__classname__": 1, "__type": 2, "_a": 3}, {"~__classname__": 1, "~__type": 2, "_a": 3}),
        ({"a\x00": 1, "a\ufffd": 2}, {"a\ufffd": 1, "a\ufffd~2": 2}),
        ({"__a": 1, "~__a": 2}, {"~__a": 1, "~__a~2": 2}),
    ],
    ids=lambda value: None,
)
def test_a_value_is_changed_only_as_far_as_airflow_cannot_carry_it(came: Any, goes: Any) -> None:
    carrier = Carrier()
    assert carrier.fit(came) == goes
    assert (carrier.changed > 0) is (repr(came) != repr(goes))


def test_an_integer_of_more_digits_than_python_writes_is_written_in_hexadecimal() -> None:
    assert carried(10**5000) == hex(10**5000)


def test_what_is_nested_too_deeply_is_left_out_and_said() -> None:
    text = json.dumps(carried(nested(300)))
    assert TOO_DEEP in text
    assert text.count("{") + text.count("[") == DEEPEST
    assert carried(nested(DEEPEST // 2)) == nested(DEEPEST // 2)


@given(VALUES)
def test_whatever_comes_fits_every_transport_and_database_and_loses_no_name(came: Any) -> None:
    goes = carried(came)
    text = json.dumps(goes, ensure_ascii=False, allow_nan=False)
    assert "\x00" not in text.encode().decode()
    for part in parts(goes):
        assert not isinstance(part, int) or -(2**63) <= part < 2**63
    assert len(parts(goes)) == len(parts(came))
    again = Carrier()
    assert again.fit(goes) == goes
    assert again.changed == 0


def test_thousands_of_names_that_become_the_same_are_numbered() -> None:
    names = [chr(0xD800 + number) + chr(0xD800 + each) for number in range(64) for each in range(64)]
    goes = carried(dict.fromkeys(names, 1))
    assert len(goes) == len(names)
    assert max(map(len, goes)) <= 8
