"""The connection test: which answers show a server with the API that takes the key, list or no list."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from airflow_ft_events.api.exchange import ApiFault, ApiRequest, ApiResponse, FaultKind
from airflow_ft_events.api.probe import NOBODY, examine

GENERIC = {"detail": "Not Found"}
PAGE = b"<html><body>Not here</body></html>"
UNKNOWN_JOB = {"error": {"message": f"Could not find fine tune: {NOBODY}", "code": "fine_tune_not_found"}}
LIST, JOB, ELSEWHERE = "list", "job", "elsewhere"
Answers = dict[str, tuple[int, Any]]


def asked_of(request: ApiRequest) -> str:
    if request.path.startswith("/fine_tuning/jobs"):
        return JOB if request.path.endswith(NOBODY) else LIST
    return ELSEWHERE


def examined(kit: Any, answers: Answers, **fields: Any) -> tuple[bool, str, list[str]]:
    """What the connection test says, and what it asked."""
    asked = []

    def server(request: ApiRequest) -> ApiResponse | ApiFault:
        asked.append(asked_of(request))
        status, body = answers[asked[-1]]
        return ApiFault(FaultKind(body), "nothing came") if status == 0 else kit.answer(body, status=status)

    works, said = kit.converse(examine(kit.settings(**fields)), server)
    return works, said, asked


SHOWN: dict[str, Answers] = {
    "a job list, empty": {LIST: (200, {"data": [], "has_more": False})},
    "no list route": {LIST: (404, GENERIC), JOB: (404, UNKNOWN_JOB), ELSEWHERE: (404, GENERIC)},
    "no list route, by a page": {LIST: (404, PAGE), JOB: (404, UNKNOWN_JOB), ELSEWHERE: (404, PAGE)},
    "a list that is not allowed": {LIST: (403, GENERIC), JOB: (404, UNKNOWN_JOB), ELSEWHERE: (404, GENERIC)},
    "a method that is not allowed": {
        LIST: (405, GENERIC),
        JOB: (404, UNKNOWN_JOB),
        ELSEWHERE: (404, GENERIC),
    },
    "a list that breaks": {LIST: (500, GENERIC), JOB: (404, UNKNOWN_JOB), ELSEWHERE: (404, GENERIC)},
    "a list that wants more": {LIST: (400, GENERIC), JOB: (404, UNKNOWN_JOB), ELSEWHERE: (404, GENERIC)},
    "a list in another form": {LIST: (200, {"jobs": []}), JOB: (404, UNKNOWN_JOB), ELSEWHERE: (404, GENERIC)},
    "a list that moved": {LIST: (307, b""), JOB: (404, UNKNOWN_JOB), ELSEWHERE: (404, GENERIC)},
    "a list that hangs": {LIST: (0, "timeout"), JOB: (404, UNKNOWN_JOB), ELSEWHERE: (404, GENERIC)},
    "a job id that is refused": {
        LIST: (404, GENERIC),
        JOB: (422, {"detail": "id"}),
        ELSEWHERE: (404, GENERIC),
    },
    "a mock that knows every job": {LIST: (404, GENERIC), JOB: (200, {"id": "x", "status": "queued"})},
    "another status elsewhere": {LIST: (404, GENERIC), JOB: (404, GENERIC), ELSEWHERE: (403, GENERIC)},
    "not allowed, and no more is known": {
        LIST: (405, GENERIC),
        JOB: (404, GENERIC),
        ELSEWHERE: (404, GENERIC),
    },
    "not implemented, and no more is known": {LIST: (501, b""), JOB: (500, b"")},
}
NOT_SHOWN: dict[str, tuple[Answers, str]] = {
    "a wrong key": ({LIST: (401, GENERIC)}, "401"),
    "a wrong key behind no list": ({LIST: (404, GENERIC), JOB: (401, GENERIC)}, "401"),
    "a key that may read no job": ({LIST: (403, GENERIC), JOB: (403, GENERIC)}, "403"),
    "a proxy": ({LIST: (407, PAGE)}, "407"),
    "a limiter": ({LIST: (429, GENERIC)}, "429"),
    "a web page": ({LIST: (200, PAGE)}, "is not JSON"),
    "a wrong base URL": (
        {LIST: (404, GENERIC), JOB: (404, GENERIC), ELSEWHERE: (404, GENERIC)},
        "404 as any other path does",
    ),
    "a wrong base URL that is named in each answer": (
        {
            kind: (404, {"error": {"message": f"Invalid URL (GET {path}), request {number}abcdef"}})
            for kind, path, number in (
                (LIST, "/v1/fine_tuning/jobs", 1234),
                (JOB, f"/v1/fine_tuning/jobs/{NOBODY}", 4321),
                (ELSEWHERE, f"/v1/{NOBODY}/{NOBODY}", 5678),
            )
        },
        "404 as any other path does",
    ),
    "a web server": ({LIST: (404, PAGE), JOB: (404, PAGE)}, "nothing shows"),
    "a server without the API": ({LIST: (501, GENERIC), JOB: (501, GENERIC)}, "no fine-tuning API"),
    "a server that is down": ({LIST: (503, PAGE), JOB: (503, PAGE)}, "503"),
    "nobody": ({LIST: (0, "connect")}, "nothing came"),
    "a certificate": ({LIST: (0, "tls")}, "nothing came"),
    "no token": ({LIST: (0, "no_token")}, "nothing came"),
    "silence": ({LIST: (0, "timeout"), JOB: (0, "timeout")}, "did not answer"),
}


@pytest.mark.parametrize("answers", SHOWN.values(), ids=SHOWN.keys())
def test_a_server_that_shows_the_api_and_takes_the_key_works(answers: Answers, kit: Any) -> None:
    works, said, asked = examined(kit, answers)
    assert works
    assert asked == list(answers)
    assert said.startswith("Connected to https://tuning.example/v1 (vendor openai)")
    if answers[LIST][0] != 200 or JOB in answers:
        assert "does not list jobs" in said
        assert "Not verified" in said
    assert kit.key not in said


@pytest.mark.parametrize(("answers", "words"), NOT_SHOWN.values(), ids=NOT_SHOWN.keys())
def test_a_server_that_does_not_show_them_is_not_said_to_work(answers: Answers, words: str, kit: Any) -> None:
    works, said, asked = examined(kit, answers)
    assert not works
    assert words in said
    assert asked == list(answers)


def test_the_newest_job_is_named(kit: Any) -> None:
    found = examined(kit, {LIST: (200, {"data": [{"id": "ftjob-1\n"}], "has_more": True})})
    told = "Connected to https://tuning.example/v1 (vendor openai); the newest job is ftjob-1."
    assert found == (True, told, [LIST])


def test_an_address_with_a_path_is_not_mistaken_for_what_the_server_says(kit: Any) -> None:
    make: Callable[[str], tuple[int, Any]] = lambda path: (404, {"detail": f"no route for /team/v1{path}"})  # noqa: E731
    answers = {
        LIST: make("/fine_tuning/jobs"),
        JOB: make(f"/fine_tuning/jobs/{NOBODY}"),
        ELSEWHERE: make(f"/{NOBODY}/{NOBODY}"),
    }
    assert not examined(kit, answers, host="https://tuning.example/team/v1")[0]


@pytest.mark.parametrize("path", ["/v1/fine_tuning/jobs", "/v1/fine_tuning/jobs/ftjob-1", "/v1/fine-tunes"])
@pytest.mark.parametrize("says", ["{path}", "the resource is unknown", "no job {last}"])
def test_a_base_url_with_the_path_of_the_jobs_fails_and_is_told_its_root(
    path: str, says: str, kit: Any
) -> None:
    def server(request: ApiRequest) -> ApiResponse:
        told = says.format(path=f"{path}{request.path}", last=request.path.rpartition("/")[2])
        answer: ApiResponse = kit.answer({"detail": told}, status=404)
        return answer

    settings = kit.settings(host=f"https://tuning.example{path}")
    works, said = kit.converse(examine(settings), server)
    assert not works
    assert "put https://tuning.example/v1 into 'Host'" in said


@pytest.mark.parametrize("root", ["", "/v1", "/team/v1", "/v1/fine_tuning", "/v1/jobs", "/connection-test"])
@pytest.mark.parametrize("shown_from", range(3))
@pytest.mark.parametrize("slash", ["/", ""])
def test_a_server_that_repeats_the_path_or_its_end_has_not_shown_the_api(
    root: str, shown_from: int, slash: str, kit: Any
) -> None:
    def server(request: ApiRequest) -> ApiResponse:
        segments = f"{root}{request.path}".split("/")[1:]
        told = slash + "/".join(segments[min(shown_from, len(segments) - 1) :])
        answer: ApiResponse = kit.answer({"error": f"Cannot GET {told}"}, status=404)
        return answer

    works, said = kit.converse(examine(kit.settings(host=f"https://tuning.example{root}")), server)
    assert not works, said
