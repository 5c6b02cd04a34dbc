"""Every pair of answers of the two routes, at the first look, later, and after a restart: docs/verdict.md."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from airflow_ft_events.api.calls import ReadAgain
from airflow_ft_events.api.exchange import ApiFault, ApiRequest, ApiResponse, ApiResult, FaultKind
from airflow_ft_events.waiting.poller import JobPoller
from airflow_ft_events.waiting.state import PollResult

PAGE = Path(__file__).parents[3] / "docs" / "verdict.md"
JOB = "ftjob-1"
START = 1_800_000_000.0
STATES = {
    "At the first look": "first look",
    "Once the job was seen": "seen before",
    "Restarted, after a look that read the events and not the job": "restarted",
}


def refused(status: int) -> ApiResponse:
    return ApiResponse(status, {"content-type": "application/json"}, b'{"error": {"message": "Said no."}}')


SAYS: dict[str, ApiResult | None] = {
    "answered": None,
    "404": refused(404),
    "fault": ApiFault(FaultKind.CONNECT, "connection refused"),
    "429": refused(429),
    "401": refused(401),
    "403": refused(403),
    "unreadable": ApiResponse(200, {"content-type": "text/html"}, b"<html>Welcome</html>"),
}


def cells() -> list[Any]:
    """The cells of the page's tables: the state of the wait, what the job and the events said, then what."""
    found = []
    for heading, state in STATES.items():
        table = PAGE.read_text(encoding="utf-8").split(f"**{heading}**")[1]
        table = re.split(r"\*\*|##", table)[0]
        rows = [line.strip().split("|")[1:-1] for line in table.splitlines() if line.startswith("|")]
        columns = [_plain(cell) for cell in rows[0][1:]]
        for row in rows[2:]:
            job = _plain(row[0])
            for events, then in zip(columns, row[1:], strict=True):
                found.append(pytest.param(state, job, events, then.strip(), id=f"{state}-{job}-{events}"))
    return found


def _plain(cell: str) -> str:
    return re.sub(r"^(job|events)\s+", "", cell.strip())


class Looks:
    """A wait, and a server whose routes say what the test wants."""

    def __init__(self, kit: Any, *, state: str) -> None:
        self._kit = kit
        self._settings = kit.settings()
        self._events = kit.server([kit.event(1)])
        self._now = START
        self.ended = False
        self.poller = JobPoller(
            settings=self._settings, job_id=JOB, job_seen=False, first=state != "restarted"
        )
        if state == "seen before":
            self.look(None, None)

    def look(self, job: ApiResult | None, events: ApiResult | None) -> tuple[PollResult, set[str]]:
        """Poll once; return the result, and which routes were asked."""
        asked = set()
        polling = self.poller.poll(now=self._now)
        try:
            request = next(polling)
            while True:
                if isinstance(request, ReadAgain):
                    request = polling.send(self._settings)
                    continue
                route = "events" if request.path.endswith("/events") else "job"
                asked.add(route)
                said = events if route == "events" else job
                request = polling.send(said if said is not None else self._answer(route, request))
        except StopIteration as end:
            result: PollResult = end.value
        self._now += result.wait
        return result, asked

    def _answer(self, route: str, request: ApiRequest) -> ApiResult:
        if route == "events":
            reply: ApiResult = self._events(request)
            return reply
        told: ApiResult = self._kit.answer({"id": JOB, "status": "succeeded" if self.ended else "running"})
        return told


def then_of(result: PollResult) -> str:
    """The page's word for what came of a poll."""
    text = " ".join(text for _, text in result.notes)
    if result.error is not None:
        return "fails"
    if result.confirming or "refuses everything" in text:
        return "confirmed"
    if "Poll failed" in text:
        return "failure"
    if "is not found now" in text:
        return "absent"
    if "only its events, so these decide" in text:
        return "events decide"
    if result.paused:
        return "goes on" if result.asked else "pause"
    assert result.asked
    return "goes on"


CELLS = cells()


def test_the_page_has_a_cell_for_every_pair_in_every_state() -> None:
    met = {tuple(cell.values[:3]) for cell in CELLS}
    assert met == {(state, job, events) for state in STATES.values() for job in SAYS for events in SAYS}


@pytest.mark.parametrize(("state", "job", "events", "then"), CELLS)
def test_a_pair_of_answers_comes_to_what_the_page_says(
    state: str, job: str, events: str, then: str, kit: Any
) -> None:
    result, asked = Looks(kit, state=state).look(SAYS[job], SAYS[events])
    assert asked == {"job", "events"} if then != "fails" else asked
    assert then_of(result) == then


@pytest.mark.parametrize(("state", "job", "events", "then"), CELLS)
def test_after_any_pair_of_answers_the_end_is_seen_within_two_polls_of_a_job_that_shows_it(
    state: str, job: str, events: str, then: str, kit: Any
) -> None:
    looks = Looks(kit, state=state)
    result, _ = looks.look(SAYS[job], SAYS[events])
    if then == "fails":
        return
    looks.ended = True
    for _ in range(2):
        result, _ = looks.look(None, SAYS[events])
        if result.outcome is not None:
            break
    assert result.outcome is not None
    assert result.outcome.decided_by == "status"
