"""The connection test: whether a server has the API and takes the key, also where it does not list jobs."""

from __future__ import annotations

import re
from collections.abc import Generator
from dataclasses import replace
from urllib.parse import urlsplit

from airflow_ft_events.api.calls import job_request, jobs_request, read_jobs
from airflow_ft_events.api.exchange import (
    ApiFault,
    ApiRequest,
    ApiResponse,
    ApiResult,
    FaultKind,
    decode,
    error_of,
)
from airflow_ft_events.api.routes import Route, route_of
from airflow_ft_events.connection.settings import Settings
from airflow_ft_events.errors import FineTuningApiError, FineTuningError
from airflow_ft_events.events import one_line

NOBODY = "connection-test"
"""The id of a job that no server has, and the name of a path that none has."""
_NOT_REACHED = (FaultKind.CONNECT, FaultKind.TLS, FaultKind.NO_TOKEN)
_VARYING = re.compile(r"[0-9a-fA-F-]{6,}")
"""Numbers and request ids, which differ from answer to answer."""
_JOBS = re.compile(r"(?P<root>.*?)(?P<jobs>/(?:fine_tuning/jobs|fine-tunes))(?=/|$)")
"""The path of a job list, of any server family."""
Probe = Generator[ApiRequest, ApiResult, tuple[bool, str]]


def examine(settings: Settings) -> Probe:
    """
    List one job; where that fails, ask for a job that cannot exist, and compare with a path that cannot.

    :param settings: the connection.
    :returns: whether the connection works as far as that shows, and a line that says what was found.
    """
    request = jobs_request(settings, limit=1)
    reply = yield request
    try:
        jobs, _ = read_jobs(request, reply, settings)
    except FineTuningError as error:
        return (yield from _without_list(settings, reply, error))
    found = f"the newest job is {one_line(jobs[0].get('id'), limit=80)}" if jobs else "there are no jobs yet"
    return True, f"{_connected(settings)}; {found}."


def _connected(settings: Settings) -> str:
    return f"Connected to {settings.root} (vendor {settings.vendor.name})"


def _without_list(settings: Settings, reply: ApiResult, error: FineTuningError) -> Probe:
    """Judge a server whose job list could not be read."""
    if isinstance(reply, ApiFault):
        if reply.kind in _NOT_REACHED:
            return False, str(error)
        status = "no answer"
    else:
        status = str(reply.status)
        if reply.status in (401, 407, 429) or (200 <= reply.status < 300 and not _is_json(reply)):
            return False, str(error) + _below_the_root(settings)
    if hint := _below_the_root(settings):
        # below a job list every path is some job's: no answer there shows a root of its own
        return False, f"{error}{hint}"
    request = job_request(settings, NOBODY)
    answer = yield request
    told = f"{_connected(settings)}. It does not list jobs ({status})"
    if isinstance(answer, ApiResponse):
        if 200 <= answer.status < 300 and _is_json(answer):
            return (
                True,
                f"{told}, but its job route answers. Not verified: that it shows the jobs of this key.",
            )
        refusal = error_of(request, answer, settings)
        if route_of(refusal) is Route.DENIED:
            return False, str(refusal)
        if answer.status in (400, 404, 410, 422) and _is_json(answer):
            other = replace(request, path=f"/{NOBODY}/{NOBODY}")
            elsewhere = yield other
            if isinstance(elsewhere, ApiResponse) and (
                _says(answer, request, settings) != _says(elsewhere, other, settings)
            ):
                return True, (
                    f"{told}, but its job route answers {answer.status} for a job that does not exist, as it "
                    "should. Not verified: that it shows the jobs of this key."
                )
        if answer.status == 501:
            return False, f"{told}, and has no job route either (501): this server has no fine-tuning API."
    if isinstance(error, FineTuningApiError) and error.status in (405, 501):
        return True, f"{told}; individual jobs may work. Not verified: its job route, which {_did(answer)}."
    return False, (
        f"{error} Its job route {_did(answer)}, so nothing shows that there is a fine-tuning API; a server "
        "without a job list may still know individual jobs."
    )


def _did(answer: ApiResult) -> str:
    if isinstance(answer, ApiFault):
        return "did not answer"
    as_others = " as any other path does" if answer.status == 404 else ""
    return f"answers {answer.status}{as_others}"


def _is_json(answer: ApiResponse) -> bool:
    try:
        return isinstance(decode(answer.body), dict | list)
    except (ValueError, RecursionError):
        return False


def _below_the_root(settings: Settings) -> str:
    """Say what the base URL should be if it was copied with the path of the jobs."""
    found = _JOBS.search(urlsplit(settings.root).path)
    if found is None:
        return ""
    root = urlsplit(settings.root)._replace(path=found["root"]).geturl()
    return (
        f" 'Host' contains the path of the jobs ({found['jobs']}), which is appended to it: put {root} into "
        "'Host'."
    )


def _says(answer: ApiResponse, request: ApiRequest, settings: Settings) -> tuple[int, str]:
    """Reduce an answer to what does not depend on the path that was asked for."""
    text = answer.body[:4000].decode("utf-8", "replace").replace("\\/", "/")
    # servers repeat the path as asked, or without what a gateway before them took off
    rest = f"{urlsplit(settings.root).path}{request.path}".lstrip("/")
    while rest:
        text = text.replace(f"/{rest}", "").replace(rest, "")
        rest = rest.partition("/")[2]
    return answer.status, _VARYING.sub("", text)
