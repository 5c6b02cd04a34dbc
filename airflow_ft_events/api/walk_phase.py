"""What the next response of a walk through a log is for."""

from __future__ import annotations

from enum import Enum, auto


class Phase(Enum):
    """What the next response of a walk is for."""

    WALKING = auto()
    """The next page of the log."""
    SEEKING = auto()
    """What is newer than the bookmark, if ``after`` is expected to lead to newer events."""
    PROBING = auto()
    """A cursor was refused: the first page shows whether the reason was the cursor or the job."""
    CHECKING = auto()
    """The first page shows whether the server honoured the bookmark's cursor or ignored it."""
    TELLING = auto()
    """The last page again, with a larger limit: does "more" only mean "as many as asked for"?"""
    DONE = auto()
