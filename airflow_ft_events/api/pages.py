"""Where a walk through a log keeps its pages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol


class Pages(Protocol):
    """Where a walk keeps the new events of each page, in the order in which they were read."""

    def append(self, page: Sequence[dict[str, Any]], /) -> None:
        """Keep one more page."""

    def drop_last(self, count: int) -> None:
        """Forget the last pages."""

    def clear(self) -> None:
        """Forget all pages."""

    def __iter__(self) -> Iterator[Sequence[dict[str, Any]]]:
        """Iterate over the pages in the order in which they were read."""


class PageList(list[Sequence[dict[str, Any]]]):
    """Pages in memory."""

    def drop_last(self, count: int) -> None:
        """Forget the last pages."""
        del self[-count:]


class NoPages(PageList):
    """No pages: each was passed on when it came."""

    def append(self, page: Sequence[dict[str, Any]], /) -> None:
        """Keep nothing of it."""
