"""FineTuningHook over real sockets: both faces, retries, and what the wire can do."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
from email.utils import formatdate
from typing import Any
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import pytest

from airflow_ft_events.api import calls
from airflow_ft_events.exceptions import (
    FineTuningAnswerError,
    FineTuningApiError,
    FineTuningAuthError,
    FineTuningError,
    FineTuningInputError,
    FineTuningJobNotFound,
    FineTuningPagingError,
    FineTuningRateLimited,
)
from airflow_ft_events.hooks.fine_tuning import FineTuningHook
from airflow_ft_events.simulator import Answer
from airflow_ft_events.transport import aio, sync

JOB = {"id": "ftjob-1", "object": "fine_tuning.job", "status": "running"}
EVENTS = 110
pagers = pytest.mark.parametrize("vendor", ["openai", "azure", "azure-v1", "nebius"])


@pytest.fixture
def logged(simulated: Any, connect: Any, clock: Any) -> Any:
    """Serve one log of 110 events, three a second, in either order."""

    def start(order: str) -> Any:
        sim = simulated([], order=order)
        sim.add_job(events=[{"message": f"Line {n}", "offset": n // 3} for n in range(EVENTS)])
        connect(sim)
        clock.sleep(EVENTS)
        clock.naps.clear()
        return sim

    return start


def ids_of(job_id: str) -> list[str]:
    """The ids of a job's events, oldest first, the server's or made ones."""
    return [event.id for event in FineTuningHook().read_events(job_id).collected_events()]


def told(found: Any) -> Any:
    """A result in a form that can be compared: pages and errors as plain data."""
    if isinstance(found, FineTuningError):
        facts = found.as_dict()
        # a request id differs from request to request
        return facts | {"request_id": None, "message": facts["message"].partition("request id")[0]}
    if isinstance(found, list) and found and hasattr(found[0], "has_more"):
        return [(page.data, page.has_more, page.order, page.new) for page in found]
    return found


@pytest.mark.every_family
@pytest.mark.parametrize("order", ["newest", "oldest"])
@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("iter_pages", {}),
        ("iter_pages", {"page_size": 7}),
        ("iter_pages", {"after": "EVENT"}),
        ("list_events", {}),
        ("list_events", {"newer_than": "EVENT"}),
        ("list_events", {"newer_than": "ftevent-unknown"}),
        ("list_events", {"max_events": 5}),
        ("list_events", {"newer_than": "EVENT", "max_events": 3}),
        ("get_job", {}),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value) or "plain",
)
def test_both_faces_give_the_same(
    method: str, options: dict[str, Any], order: str, logged: Any, both: Any
) -> None:
    sim = logged(order)
    middle = ids_of(sim.job_id)[50]
    given = {name: middle if value == "EVENT" else value for name, value in options.items()}
    one, other = (told(found) for found in both(FineTuningHook(), method, sim.job_id, **given))
    assert one
    assert not isinstance(one, Exception)
    assert one == other


@pytest.mark.every_family
@pytest.mark.parametrize("order", ["newest", "oldest"])
def test_list_events_gives_what_is_newer_than_an_event_oldest_first(
    order: str, logged: Any, call: Any
) -> None:
    sim = logged(order)
    events, ids = sim.list_events(sim.job_id), ids_of(sim.job_id)
    hook = FineTuningHook()
    assert call(hook, "list_events", sim.job_id) == events
    for known in (0, 50, len(events) - 2, len(events) - 1):
        newer = call(hook, "list_events", sim.job_id, newer_than=ids[known])
        assert newer == events[known + 1 :]
    assert call(hook, "list_events", sim.job_id, newer_than="ftevent-gone") == events
    assert call(hook, "list_events", sim.job_id, max_events=7) == events[-7:]
    assert call(hook, "list_events", sim.job_id, newer_than=ids[-4], max_events=2) == events[-2:]


@pytest.mark.every_family
@pytest.mark.parametrize("limit", [None, 1, 2, 3, 50])
def test_list_jobs_with_a_limit_gives_the_newest(
    limit: int | None, simulated: Any, connect: Any, both: Any
) -> None:
    sim = simulated(3)
    connect(sim, page_size=2)
    one, other = both(FineTuningHook(), "list_jobs", limit=limit)
    assert [job["id"] for job in one] == sim.job_ids[::-1][:limit]
    assert one == other


@pytest.mark.every_family
def test_cancel_job_cancels(family: Any, simulated: Any, connect: Any, call: Any, clock: Any) -> None:
    sim = simulated()
    connect(sim)
    assert call(FineTuningHook(), "cancel_job", sim.job_id)["status"] == family.cancelling
    clock.sleep(60)
    assert sim.get_job(sim.job_id)["status"] == family.word("cancelled")
    with pytest.raises(FineTuningApiError) as refused:
        call(FineTuningHook(), "cancel_job", sim.job_id)
    assert refused.value.status == 400


@pytest.mark.parametrize("way", ["500", "a page", "half a body", "nothing"])
def test_cancel_job_tells_the_truth_behind_a_gateway_that_fails_after_it_acted(
    way: str, odd_server: Any, answer_bytes: Any, connect: Any, call: Any, clock: Any
) -> None:
    job = {"id": "ftjob-1", "status": "running"}

    def answer(request: Any) -> bytes | None:
        if request.method == "GET":
            return answer_bytes(job)
        if job["status"] == "cancelled":
            said = {"error": {"message": "Job has already completed", "code": "invalid_state"}}
            return answer_bytes(said, status="400 Bad Request")
        job["status"] = "cancelled"
        return {
            "500": answer_bytes({"error": "upstream"}, status="500 Internal Server Error"),
            "a page": answer_bytes(b"<html>Bad gateway</html>", status="502 Bad Gateway"),
            "half a body": answer_bytes(b'{"id": "ftjo'),
        }.get(way)

    server = odd_server(answer)
    connect(server)
    assert call(FineTuningHook(), "cancel_job", "ftjob-1") == job
    posts = [request.method for request in server.requests]
    assert posts == (["POST", "GET"] if way == "half a body" else ["POST", "POST", "GET"])


def test_cancel_job_tells_the_truth_where_a_kept_connection_closes_after_the_act(
    odd_server: Any, answer_bytes: Any, connect: Any, call: Any, clock: Any
) -> None:
    job = {"id": "ftjob-1", "status": "running"}

    def answer(request: Any) -> bytes | None:
        if request.method == "GET":
            return answer_bytes(job)
        if job["status"] == "cancelled":
            return answer_bytes({"error": {"message": "Already"}}, status="400 Bad Request")
        job["status"] = "cancelled"
        return None

    server = odd_server(answer)
    connect(server)
    hook = FineTuningHook()
    call(hook, "get_job", "ftjob-1")
    assert call(hook, "cancel_job", "ftjob-1") == job


@pytest.mark.every_family
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, FineTuningApiError),
        (401, FineTuningAuthError),
        (403, FineTuningAuthError),
        (404, FineTuningJobNotFound),
        (422, FineTuningApiError),
        (302, FineTuningApiError),
    ],
)
def test_a_refusal_is_a_typed_error_at_once(
    status: int,
    kind: type[FineTuningApiError],
    family: Any,
    simulated: Any,
    connect: Any,
    call: Any,
    clock: Any,
) -> None:
    sim = simulated()
    connect(sim)
    body, code = family.refusal(status, "No such luck.", code="no_luck")
    sim.fail_next(9, status=status, body=body)
    with pytest.raises(kind) as refused:
        call(FineTuningHook(), "get_job", sim.job_id)
    assert type(refused.value) is kind
    assert (refused.value.status, refused.value.code) == (status, code)
    assert refused.value.request_id
    assert refused.value.job_id == sim.job_id
    words = "No such luck" if status >= 400 else "redirects are not followed"
    for said in (words, sim.job_id, "fine_tuning_default", str(status), refused.value.request_id):
        assert said in str(refused.value)
    assert clock.naps == []
    assert len(sim.requests) == 1


@pytest.mark.parametrize(
    "fault",
    [{"status": status} for status in (408, 409, 429, 500, 502, 503, 504, 520)]
    + [{"drop": True}, {"truncate": True}],
    ids=lambda fault: "-".join(str(part) for part in fault.values()),
)
def test_a_fault_is_tried_again(
    fault: dict[str, Any], simulated: Any, connect: Any, call: Any, clock: Any
) -> None:
    sim = simulated()
    connect(sim)
    # an async client may try a lost connection again by itself: more faults than any of its tries
    sim.fail_next(3, **fault)
    clock.drawn_jitter = 1.0
    assert call(FineTuningHook(), "get_job", sim.job_id)["id"] == sim.job_id
    if "status" in fault or "truncate" in fault:
        assert clock.naps == [1.0, 2.0, 4.0]
        assert len(sim.requests) == 4


def test_the_tries_end_and_the_error_counts_them(simulated: Any, connect: Any, call: Any, clock: Any) -> None:
    sim = simulated()
    connect(sim, max_retries=2)
    sim.fail_next(9, status=500)
    with pytest.raises(FineTuningApiError, match="after 3 tries"):
        call(FineTuningHook(), "get_job", sim.job_id)
    assert len(sim.requests) == 3
    assert len(clock.naps) == 2


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"Retry-After": "DATE"}, 30.0),
        ({"Retry-After": "0"}, 0.0),
        ({"Retry-After": "soon"}, 0.5),
    ],
    ids=["seconds", "milliseconds", "http date", "zero", "nonsense"],
)
def test_a_429_is_waited_for_as_long_as_it_asks(
    headers: dict[str, str], wait: float, simulated: Any, connect: Any, call: Any, clock: Any
) -> None:
    sim = simulated()
    connect(sim)
    if headers.get("Retry-After") == "DATE":
        headers = {"Retry-After": formatdate(clock.now() + 30, usegmt=True)}
    sim.fail_next(1, status=429, headers=headers)
    call(FineTuningHook(), "get_job", sim.job_id)
    assert clock.naps == [wait]


def test_a_429_that_asks_for_more_than_two_minutes_is_an_error(
    simulated: Any, connect: Any, call: Any, clock: Any
) -> None:
    sim = simulated()
    connect(sim)
    sim.fail_next(1, status=429, headers={"Retry-After": "3600"})
    with pytest.raises(FineTuningRateLimited, match="3600"):
        call(FineTuningHook(), "get_job", sim.job_id)
    assert clock.naps == []


@pytest.mark.parametrize(("verdict", "tries"), [("true", 2), ("false", 1)])
def test_x_should_retry_overrides(
    verdict: str, tries: int, simulated: Any, connect: Any, call: Any, clock: Any
) -> None:
    sim = simulated()
    connect(sim)
    status = 400 if verdict == "true" else 500
    sim.fail_next(1, status=status, headers={"x-should-retry": verdict})
    with contextlib.suppress(FineTuningApiError):
        call(FineTuningHook(), "get_job", sim.job_id)
    assert len(sim.requests) == tries


def test_a_server_that_says_nothing_is_given_up_after_the_timeout(
    simulated: Any, connect: Any, call: Any
) -> None:
    sim = simulated()
    connect(sim, timeout=0.2, max_retries=1)
    sim.fail_next(2, stall=2)
    with pytest.raises(FineTuningApiError, match=r"no answer in 0\.2 s") as error:
        call(FineTuningHook(), "get_job", sim.job_id)
    assert error.value.status is None
    assert len(sim.requests) == 2


def test_a_server_that_is_not_listening_is_an_error_that_names_it(
    simulated: Any, connect: Any, call: Any
) -> None:
    sim = simulated()
    connect(sim, max_retries=1)
    sim.stop()
    with pytest.raises(FineTuningApiError, match="could not connect") as error:
        call(FineTuningHook(), "get_job", sim.job_id)
    assert sim.base_url in str(error.value)
    assert "says nothing about the job" in str(error.value)


class TestTheWire:
    """What a simulator does not do by itself."""

    def test_a_reused_connection_that_the_server_closed_is_tried_again_once_uncounted(
        self, odd_server: Any, answer_bytes: Any, connect: Any, clock: Any
    ) -> None:
        server = odd_server(lambda asked: answer_bytes(JOB) if asked.nth == 1 else None)
        connect(server, max_retries=0)
        hook = FineTuningHook()
        for _ in range(4):
            assert hook.get_job("ftjob-1") == JOB
        assert clock.naps == []
        # the first on a fresh connection, each other one on a closed one and then on a fresh one
        assert [(asked.connection, asked.nth) for asked in server.requests] == [
            (1, 1),
            (1, 2),
            (2, 1),
            (2, 2),
            (3, 1),
            (3, 2),
            (4, 1),
        ]

    async def _many(self, hook: FineTuningHook) -> list[Any]:
        async with hook.async_transport() as transport:
            return [
                (await calls.aconverse(calls.get_job(transport.settings, "ftjob-1"), transport.send)).raw
                for _ in range(4)
            ]

    def test_a_reused_connection_that_the_server_closed_is_tried_again_in_an_event_loop(
        self, odd_server: Any, answer_bytes: Any, connect: Any, clock: Any
    ) -> None:
        server = odd_server(lambda asked: answer_bytes(JOB) if asked.nth == 1 else None)
        connect(server, max_retries=0)
        assert asyncio.run(self._many(FineTuningHook())) == [JOB] * 4
        assert clock.naps == []
        assert len(server.requests) == 7

    def test_a_server_that_never_answers_is_not_asked_without_end(
        self, odd_server: Any, connect: Any, call: Any
    ) -> None:
        server = odd_server(lambda asked: None)
        connect(server, max_retries=0)
        with pytest.raises(FineTuningApiError, match="connection broke"):
            call(FineTuningHook(), "get_job", "ftjob-1")
        assert len(server.requests) <= 2

    @pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary", "308 Permanent"])
    def test_a_redirect_is_not_followed_and_the_key_not_sent_on(
        self, status: str, odd_server: Any, answer_bytes: Any, connect: Any, call: Any, clock: Any
    ) -> None:
        target = odd_server(lambda asked: answer_bytes(JOB))
        elsewhere = {"Location": f"{target.url}/fine_tuning/jobs/ftjob-1"}
        server = odd_server(lambda asked: answer_bytes({}, status=status, headers=elsewhere))
        connect(server)
        with pytest.raises(FineTuningApiError, match="redirects are not followed") as error:
            call(FineTuningHook(), "get_job", "ftjob-1")
        assert target.url in str(error.value)
        assert target.requests == []
        assert len(server.requests) == 1

    def test_cookies_are_not_kept(self, odd_server: Any, answer_bytes: Any, connect: Any, call: Any) -> None:
        page = {"data": [{"id": "e1", "created_at": 5}], "has_more": True}
        last = {"data": [{"id": "e0", "created_at": 4}], "has_more": False}
        server = odd_server(
            lambda asked: answer_bytes(
                last if "after" in asked.target else page, headers={"Set-Cookie": "route=a; Path=/"}
            )
        )
        connect(server)
        assert len(call(FineTuningHook(), "list_events", "ftjob-1")) == 2
        assert len(server.requests) == 2
        assert not any("cookie" in asked.headers for asked in server.requests)

    @pytest.mark.every_family
    def test_both_clients_send_the_same(
        self, family: Any, odd_server: Any, answer_bytes: Any, connect: Any, both: Any
    ) -> None:
        page = {"data": [{"id": "e 1/ü&x=1+2%41?#", "created_at": 5}], "has_more": True}
        last = {"data": [{"id": "e0", "created_at": 4}], "has_more": False}
        server = odd_server(lambda asked: answer_bytes(last if "after" in asked.target else page))
        connect(server, organization="org-1", project="proj-1", headers={"X-Gateway": "g"})
        both(FineTuningHook(), "list_events", "ftjob:a.b_c-1")
        asks = 2 if family.pages else 1
        assert len(server.requests) == 2 * asks
        first, second = server.requests[:asks], server.requests[asks:]

        def asked(request: Any) -> Any:
            parts = urlsplit(request.target)
            kept = {
                name: value
                for name, value in request.headers.items()
                if name not in ("user-agent", "connection", "accept-encoding")
            }
            return request.method, parts.path, parse_qs(parts.query), kept

        assert [asked(request) for request in first] == [asked(request) for request in second]
        sent = first[-1]
        query = parse_qs(urlsplit(sent.target).query)
        assert query.get("after") == ([page["data"][0]["id"]] if family.pages else None)
        keys = {name: sent.headers[name] for name in ("authorization", "api-key") if name in sent.headers}
        assert keys == {family.key_header: family.key_sent("sk-simulator")}
        assert sent.headers["openai-organization"] == "org-1"
        assert sent.headers["openai-project"] == "proj-1"
        assert sent.headers["x-gateway"] == "g"

    @pytest.mark.parametrize("how", ["plain", "gzip bomb", "chunked without end"])
    def test_a_body_beyond_the_limit_is_refused_without_reading_it_all(
        self,
        how: str,
        odd_server: Any,
        answer_bytes: Any,
        connect: Any,
        call: Any,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        size = 3 * 1024 * 1024
        if how == "plain":
            answer = answer_bytes(b" " * size)
        elif how == "gzip bomb":
            bomb = gzip.compress(b" " * (8 * size))
            assert len(bomb) < size
            answer = answer_bytes(bomb, headers={"Content-Encoding": "gzip"})
        else:
            chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
            answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk * (size // 65536)
        server = odd_server(lambda asked: answer)
        connect(server)
        for module, name in ((sync, "SyncTransport"), (aio, "AsyncTransport")):
            original = getattr(module, name).__init__

            def init(self: Any, *args: Any, original: Any = original, **kwargs: Any) -> None:
                original(self, *args, **{**kwargs, "body_limit": 1024 * 1024})

            monkeypatch.setattr(getattr(module, name), "__init__", init)
        with pytest.raises(FineTuningAnswerError, match="1 MiB"):
            call(FineTuningHook(), "get_job", "ftjob-1")
        assert len(server.requests) == 1

    @pytest.mark.parametrize(
        "answer",
        [
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\n"
            b"Content-Length: 9\r\n\r\nnot gzip!",
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 20\r\n\r\n"
            + gzip.compress(b'{"id": "ftjob-1", "status": "running"}')[:20],
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nnonsense\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: nine\r\n\r\n{}",
            b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000 + b"\r\n\r\n{}",
            b"HTTP/1.1 999 Odd\r\nContent-Length: 2\r\n\r\n{}",
            b"\x00\x01\x02\x03\r\n\r\n",
        ],
        ids=["no gzip", "cut gzip", "bad chunk", "bad length", "ssh", "huge header", "999", "binary"],
    )
    def test_nonsense_on_the_wire_is_a_typed_error(
        self, answer: bytes, odd_server: Any, connect: Any, call: Any
    ) -> None:
        sent: list[int] = []

        def once(asked: Any) -> bytes | None:
            if asked.nth > 1:
                return None
            sent.append(1)
            return answer

        server = odd_server(once)
        connect(server, max_retries=0, timeout=1)
        with pytest.raises(FineTuningError, match="ftjob-1"):
            call(FineTuningHook(), "get_job", "ftjob-1")
        assert sent

    @pagers
    def test_a_cursor_that_does_not_advance_ends_in_an_error(
        self, odd_server: Any, answer_bytes: Any, connect: Any, call: Any
    ) -> None:
        page = {"data": [{"id": f"e{n}", "created_at": 9 - n} for n in range(5)], "has_more": True}
        server = odd_server(lambda asked: answer_bytes(page))
        connect(server)
        with pytest.raises(FineTuningPagingError):
            call(FineTuningHook(), "list_events", "ftjob-1")
        assert len(server.requests) < 5


class TestConnections:
    """Every type of connection, as JSON and as a URI."""

    def test_the_simulators_connection_works_as_a_uri(
        self, simulated: Any, monkeypatch: pytest.MonkeyPatch, call: Any
    ) -> None:
        sim = simulated(api_key="sk-odd/key:with@signs")
        monkeypatch.setenv("AIRFLOW_CONN_FINE_TUNING_DEFAULT", sim.connection_uri)
        assert call(FineTuningHook(), "get_job", sim.job_id)["id"] == sim.job_id

    def test_type_fine_tuning_works_as_a_uri_with_extra(
        self, simulated: Any, monkeypatch: pytest.MonkeyPatch, call: Any
    ) -> None:
        sim = simulated()
        uri = f"fine-tuning://:{sim.api_key}@{quote(sim.base_url, safe='')}"
        uri += "?page_size=3&timeout=5&vendor=openai"
        monkeypatch.setenv("AIRFLOW_CONN_FINE_TUNING_DEFAULT", uri)
        hook = FineTuningHook()
        assert call(hook, "get_job", sim.job_id)["id"] == sim.job_id
        assert (hook.settings.page_size, hook.settings.timeout) == (3, 5.0)

    @pytest.mark.parametrize(
        "fields",
        [
            {"host": "BASE", "password": "KEY"},
            {"password": "KEY", "extra": {"openai_client_kwargs": {"base_url": "BASE"}}},
            {"extra": {"openai_client_kwargs": {"base_url": "BASE", "api_key": "KEY"}}},
            {
                "host": "http://127.0.0.1:1/v1",
                "password": "other",
                "extra": {"openai_client_kwargs": {"base_url": "BASE", "api_key": "KEY", "timeout": 7}},
            },
        ],
        ids=["host and password", "base_url", "api_key", "kwargs win"],
    )
    def test_type_openai_works_as_json(
        self,
        fields: dict[str, Any],
        simulated: Any,
        monkeypatch: pytest.MonkeyPatch,
        call: Any,
    ) -> None:
        sim = simulated()
        extra = {**fields.get("extra", {}), **sim.connection_extra}
        text = json.dumps({"conn_type": "openai", **fields, "extra": extra})
        text = text.replace("BASE", sim.base_url).replace("KEY", sim.api_key)
        monkeypatch.setenv("AIRFLOW_CONN_OPENAI_DEFAULT", text)
        assert call(FineTuningHook("openai_default"), "get_job", sim.job_id)["id"] == sim.job_id

    def test_type_openai_sends_its_organization_project_and_headers(
        self, simulated: Any, monkeypatch: pytest.MonkeyPatch, call: Any
    ) -> None:
        sim = simulated()
        kwargs = {"organization": "org-7", "project": "proj-7", "default_headers": {"X-Mine": "m"}}
        made = {"conn_type": "openai", "host": sim.base_url, "password": sim.api_key}
        made["extra"] = {"openai_client_kwargs": kwargs, **sim.connection_extra}
        monkeypatch.setenv("AIRFLOW_CONN_OPENAI_DEFAULT", json.dumps(made))
        call(FineTuningHook("openai_default"), "get_job", sim.job_id)
        sent = {name.lower(): value for name, value in sim.requests[0].headers.items()}
        assert sent["openai-organization"] == "org-7"
        assert sent["openai-project"] == "proj-7"
        assert sent["x-mine"] == "m"

    def test_type_openai_with_an_unsupported_setting_is_refused_by_name(
        self, monkeypatch: pytest.MonkeyPatch, call: Any
    ) -> None:
        kwargs = {"workload_identity": {"provider": "x"}}
        made = {"conn_type": "openai", "password": "sk-1", "extra": {"openai_client_kwargs": kwargs}}
        monkeypatch.setenv("AIRFLOW_CONN_OPENAI_DEFAULT", json.dumps(made))
        with pytest.raises(FineTuningInputError, match="workload_identity"):
            call(FineTuningHook("openai_default"), "get_job", "ftjob-1")

    @pytest.mark.parametrize("form", ["json", "json with schema", "uri"])
    def test_type_http_works(
        self, form: str, simulated: Any, monkeypatch: pytest.MonkeyPatch, call: Any
    ) -> None:
        sim = simulated()
        port = int(sim.base_url.split(":")[2].split("/")[0])
        host = f"127.0.0.1{urlsplit(sim.base_url).path}"
        made: dict[str, Any] = {"conn_type": "http", "host": host, "port": port}
        made |= {"password": sim.api_key, "extra": sim.connection_extra}
        if form == "json with schema":
            made["schema"] = "http"
        text = json.dumps(made)
        if form == "uri":
            text = f"http://:{sim.api_key}@{quote(sim.base_url, safe='')}/?{urlencode(sim.connection_extra)}"
        monkeypatch.setenv("AIRFLOW_CONN_GATEWAY", text)
        assert call(FineTuningHook("gateway"), "get_job", sim.job_id)["id"] == sim.job_id


class TestTheButton:
    """test_connection() says in one line what is the matter, and never raises."""

    def test_with_a_good_connection(self, simulated: Any, connect: Any) -> None:
        sim = simulated()
        connect(sim)
        works, said = FineTuningHook().test_connection()
        assert works
        assert sim.base_url in said
        assert sim.job_id in said
        assert sim.count(route="list") == len(sim.requests) == 1

    def test_with_a_server_without_jobs(self, simulated: Any, connect: Any) -> None:
        connect(simulated([]))
        works, said = FineTuningHook().test_connection()
        assert works
        assert "no jobs yet" in said

    @pytest.mark.every_family
    def test_with_a_wrong_key(self, simulated: Any, connect: Any) -> None:
        connect(simulated(), key="sk-wrong-key-0123456789")
        works, said = FineTuningHook().test_connection()
        assert not works
        assert "401" in said
        assert "sk-wrong-key-0123456789" not in said

    def test_with_nobody_listening(self, connect: Any, clock: Any) -> None:
        connect("http://127.0.0.1:1/v1", max_retries=0)
        works, said = FineTuningHook().test_connection()
        assert not works
        assert "could not connect" in said

    def test_with_a_web_server(self, simulated: Any, connect: Any) -> None:
        sim = simulated()
        connect(sim)
        sim.fail_next(body="<html>It works!</html>", status=200)
        works, said = FineTuningHook().test_connection()
        assert not works
        assert "It works!" in said

    @pytest.mark.every_family
    @pytest.mark.parametrize("status", [400, 403, 404, 405, 501])
    def test_with_a_server_that_does_not_list_jobs(self, status: int, simulated: Any, connect: Any) -> None:
        sim = simulated()
        connect(sim)
        sim.fail_next(9, status=status, route="list")
        works, said = FineTuningHook().test_connection()
        assert works
        assert f"does not list jobs ({status})" in said
        assert "Not verified" in said
        assert [request.route for request in sim.requests if request.route != "list"] == ["job", None]

    @pytest.mark.every_family
    def test_with_the_wrong_path(self, simulated: Any, connect: Any) -> None:
        sim = simulated()
        connect(f"{sim.base_url}/wrong", key=sim.api_key, **{"vendor": sim.vendor, **sim.connection_extra})
        works, said = FineTuningHook().test_connection()
        assert not works
        assert "404" in said

    def test_with_a_broken_list_asks_no_more_than_it_must(
        self, simulated: Any, connect: Any, clock: Any
    ) -> None:
        sim = simulated(job_route=False)
        connect(sim, max_retries=2)
        sim.fault = lambda request: Answer(status=500)
        assert not FineTuningHook().test_connection()[0]
        assert [request.route for request in sim.requests] == ["list"] * 3 + ["job"]

    def test_with_a_connection_that_cannot_work(self, connect: Any) -> None:
        connect("ft.example/v1")
        works, said = FineTuningHook().test_connection()
        assert not works
        assert "https://ft.example/v1" in said

    def test_after_the_connection_was_corrected(self, simulated: Any, connect: Any) -> None:
        sim = simulated()
        hook = FineTuningHook()
        connect(sim, key="sk-wrong")
        assert not hook.test_connection()[0]
        connect(sim)
        assert hook.test_connection()[0]


@pytest.mark.every_family
def test_get_conn_is_ready_to_use_and_shows_nothing(family: Any, simulated: Any, connect: Any) -> None:
    sim = simulated(api_key="sk-very-secret-123")
    connect(sim)
    session = FineTuningHook().get_conn()
    answer = session.get(f"{sim.base_url}{family.jobs_path}/{sim.job_id}", timeout=10)
    assert answer.json()["id"] == sim.job_id
    assert "secret" not in repr(session.auth) + repr(vars(session))


# what else is no job id is in tests/unit/test_settings.py
@pytest.mark.parametrize("job_id", ["", "../x", None, 7])
@pytest.mark.parametrize("method", ["get_job", "list_events", "iter_pages", "cancel_job"])
def test_an_invalid_job_id_sends_no_request(
    method: str, job_id: Any, simulated: Any, connect: Any, call: Any
) -> None:
    sim = simulated()
    connect(sim)
    with pytest.raises(FineTuningInputError, match="job_id"):
        call(FineTuningHook(), method, job_id)
    assert sim.requests == []


@pytest.mark.parametrize("value", [0, -1, 1.5, "7", True])
@pytest.mark.parametrize(
    ("method", "name"), [("list_events", "max_events"), ("iter_pages", "page_size"), ("list_jobs", "limit")]
)
def test_an_invalid_count_sends_no_request(
    method: str, name: str, value: Any, simulated: Any, connect: Any, call: Any
) -> None:
    sim = simulated()
    connect(sim)
    args = () if method == "list_jobs" else (sim.job_id,)
    with pytest.raises(FineTuningInputError, match=name):
        call(FineTuningHook(), method, *args, **{name: value})
    assert sim.requests == []
