"""Which events a walk has met."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from airflow_ft_events.api.matching import Seen, server_ids

EVENTS = st.fixed_dictionaries(
    {"message": st.sampled_from(["a", "b", "c"])},
    optional={
        "id": st.sampled_from(["1", "2", "3", "4", "", None, 5]),
        "created_at": st.sampled_from([1, 2, None]),
        "level": st.sampled_from(["info", "error", ["odd"]]),
    },
)


def _walk(seen: Seen, pages: list[list[dict[str, Any]]]) -> list[list[dict[str, Any]]]:
    return [seen.unseen(page, server_ids(page)) for page in pages]


@given(st.lists(st.lists(EVENTS, max_size=4), max_size=5))
def test_an_event_with_an_id_is_new_once_and_all_that_say_something_else_are_new_too(
    pages: list[list[dict[str, Any]]],
) -> None:
    met: set[str] = set()
    expected = []
    for page in pages:
        new = []
        for raw in page:
            given_id, said = raw.get("id"), [raw.get(name) for name in ("created_at", "message", "level")]
            if given_id not in (None, ""):
                key = repr((str(given_id), said))
                if key in met:
                    continue
                met.add(key)
            new.append(raw)
        expected.append(new)
    assert _walk(Seen(), pages) == expected


def test_after_clear_every_event_is_new_again() -> None:
    pages = [[{"id": str(number), "message": "a"}] for number in (1, 2, 1)]
    seen = Seen()
    assert _walk(seen, pages) == [pages[0], pages[1], []]
    seen.clear()
    assert _walk(seen, pages) == [pages[0], pages[1], []]
