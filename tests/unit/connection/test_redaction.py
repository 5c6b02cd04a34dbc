"""What is masked: secrets that are part of one another, and the secrets of a connection before its edits."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_ft_events.connection.credential import Key
from airflow_ft_events.connection.redaction import MASK, SHORTEST, Redactor
from airflow_ft_events.connection.settings import RETIRED, Settings, settings_of

# few letters, so that secrets are often part of one another, or overlap
SECRETS = st.lists(st.text("ab1-", min_size=SHORTEST, max_size=9), min_size=1, max_size=5)


@given(secrets=SECRETS, data=st.data())
def test_of_secrets_that_overlap_in_a_text_no_part_is_shown(secrets: list[str], data: st.DataObject) -> None:
    words = st.sampled_from([*secrets, " ", "the job ", "x"])
    text = "".join(data.draw(st.lists(words, max_size=8)))
    covered = {
        place
        for secret in secrets
        for start in range(len(text))
        if text.startswith(secret, start)
        for place in range(start, start + len(secret))
    }
    masked = Redactor(Key(secrets[0]), tuple(secrets[1:])).text(text)
    assert masked.replace(MASK, "") == "".join(each for at, each in enumerate(text) if at not in covered)
    assert not any(secret in masked for secret in secrets)


@pytest.mark.parametrize(
    ("secrets", "text", "masked"),
    [
        (("abcd1234", "abcd1234efgh5678ZZZZ"), "k=abcd1234efgh5678ZZZZ.", f"k={MASK}."),
        (("efgh5678", "abcd1234efgh5678ZZZZ"), "k=abcd1234efgh5678ZZZZ.", f"k={MASK}."),
        (("abcd1234", "1234efgh"), "k=abcd1234efgh.", f"k={MASK}."),
        (("abcd1234", "efgh5678"), "abcd1234efgh5678 abcd1234", f"{MASK}{MASK} {MASK}"),
        (("abab",), "ababab", MASK),
    ],
)
def test_what_secrets_cover_together_becomes_one_mask(
    secrets: tuple[str, ...], text: str, masked: str
) -> None:
    for listed in (secrets, secrets[::-1]):
        assert Redactor(Key(listed[0]), listed[1:]).text(text) == masked


def test_a_long_secret_in_a_value_for_xcom_is_masked_whole() -> None:
    redactor = Redactor(Key("sk-common-prefix"), ("sk-common-prefix-EXTRA9",))
    assert redactor.json({"said": "k=sk-common-prefix-EXTRA9"}) == {"said": f"k={MASK}"}


def of(key: str, *, values: int, edit: int = 0, field: str = "headers") -> Settings:
    """A connection with a key, and with so many other values that may be secrets."""
    extra = {field: {f"X-{n}": f"value-of-{n}-in-edit-{edit}" for n in range(values)}}
    return settings_of(conn_id="tuning", host="https://tuning.example/v1", password=key, extra=extra)


@pytest.mark.parametrize("changed", [False, True])
@pytest.mark.parametrize("field", ["headers", "params"])
@pytest.mark.parametrize("values", [0, 6, RETIRED - 1, RETIRED, 3 * RETIRED])
def test_an_earlier_key_is_masked_however_many_other_values_there_are(
    values: int, field: str, changed: bool
) -> None:
    keys = [f"key-number-{number:06}" for number in range(RETIRED + 1)]
    edits = [of(key, values=values, edit=n * changed, field=field) for n, key in enumerate(keys)]
    now = edits[0]
    for _, edited in pairwise(edits):
        now = edited.after(now)
    assert now.redact.text(" ".join(keys)) == " ".join([MASK] * len(keys))
    assert len(now.retired) <= RETIRED


def test_a_key_that_was_used_again_is_the_last_to_be_forgotten() -> None:
    now = of("key-used-again", values=0)
    for key in ("key-between", "key-used-again", *(f"key-number-{n:06}" for n in range(RETIRED))):
        now = of(key, values=0).after(now)
    assert now.redact.text("key-used-again key-between") == f"{MASK} key-between"


def test_only_values_that_are_no_longer_used_take_a_place_among_the_earlier_ones() -> None:
    now = of("key-number-0", values=2, edit=1).after(of("key-number-0", values=RETIRED))
    for number in range(5):
        now = of(f"key-number-{number}", values=RETIRED, edit=1).after(now)
    assert now.redact.text("value-of-0-in-edit-0") == MASK
