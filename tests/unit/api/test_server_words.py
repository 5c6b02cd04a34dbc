"""What is read of a server's errors and pages."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_ft_events.api import server_words
from airflow_ft_events.api.exchange import ApiRequest, ApiResponse, error_of
from airflow_ft_events.api.server_words import MOST_OF_A_PAGE, readable, words_of

ERRORS: dict[str, tuple[Any, str | None, str | None]] = {
    "OpenAI": ({"error": {"message": "No", "type": "t", "code": "c"}}, "c", "No"),
    "only a type": ({"error": {"message": "No", "type": "t", "code": None}}, "t", "No"),
    "Cloudflare AI Gateway": (
        {"success": False, "result": [], "messages": [], "error": [{"code": 2008, "message": "No provider"}]},
        "2008",
        "No provider",
    ),
    "Cloudflare": ({"success": False, "errors": [{"code": 10000, "message": "No"}]}, "10000", "No"),
    "several": ({"errors": [{"message": "a"}, {"code": "c", "message": "b"}]}, "c", "a; b"),
    "the same twice": ({"errors": [{"message": "a"}, {"message": "a"}]}, None, "a"),
    "texts in a list": ({"errors": ["a", "b"]}, None, "a; b"),
    "nested": ({"error": {"error": {"message": "No", "code": "inner"}, "code": "outer"}}, "inner", "No"),
    "nested lists": ({"error": {"code": 400, "errors": [{"message": "No"}]}}, "400", "No"),
    "JSON:API": ({"errors": [{"status": "404", "title": "Gone", "detail": "No job"}]}, None, "No job"),
    "FastAPI": (
        {"detail": [{"loc": ["path", 0], "msg": "too short", "type": "e"}]},
        "e",
        "path.0: too short",
    ),
    "a detail with an error": ({"detail": {"error": {"message": "No", "code": "c"}}}, "c", "No"),
    "a text for an error": ({"error": "No"}, None, "No"),
    "OAuth": ({"error": {"error_description": "No"}}, None, "No"),
    "a list at the top": ([{"error": {"code": 403, "message": "No"}}], "403", "No"),
    "a text at the top": ("No", None, "No"),
    "a page for a message": ({"error": {"message": "<html><!-- x --><h1>Bad</h1></html>"}}, None, "Bad"),
    "an empty message": ({"error": {"message": "", "code": "c"}, "message": "No"}, "c", "No"),
    "no words": ({"error": {}}, None, None),
    "odd types": ({"error": {"message": 7, "code": {}, "type": True}}, None, None),
}


@pytest.mark.parametrize(("body", "code", "message"), ERRORS.values(), ids=ERRORS.keys())
def test_code_and_message_are_found_in_every_form(body: Any, code: str | None, message: str | None) -> None:
    assert words_of(body) == (code, message)


def test_an_error_without_words_is_shown_as_it_came(kit: Any) -> None:
    request = ApiRequest(path="/x", what="job ftjob-1")
    error = error_of(request, kit.answer({"status": 7, "error": {}}, status=400), kit.settings())
    assert '{"status": 7, "error": {}}' in str(error)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(
            st.sampled_from(["error", "errors", "detail", "message", "code", "loc"]) | st.text(), inner
        )
    ),
)


@given(json_values)
def test_any_json_is_read_without_an_error(body: Any) -> None:
    code, message = words_of(body)
    assert message is None or message
    assert code is None or code


def test_errors_nested_without_end_are_read_to_a_depth() -> None:
    body: Any = {"message": "No"}
    for _ in range(500):
        body = {"error": [body]}
    assert words_of(body) == (None, None)


SQUID = """<!DOCTYPE html PUBLIC "-//W3C//DTD HTML 4.01//EN" "http://www.w3.org/TR/html4/strict.dtd">
<html><head><meta type="copyright" content="Copyright (C) 1996-2021 The Squid Software Foundation">
<title>ERROR: The requested URL could not be retrieved</title>
<style type="text/css"><!--
 /* Copyright (C) 1996-2023 The Squid Software Foundation and contributors > < */
 html body { margin: 0; }
--></style></head><body id=ERR_ACCESS_DENIED>
<!-- %l a comment with <b>tags</b> -- and dashes -->
<script>if (a < b) { document.write("</b>"); }</script>
<h1>ERROR</h1><p>Access Denied &amp; logged.</p></body></html>"""
PAGES = {
    "squid": (SQUID, "ERROR: The requested URL could not be retrieved ERROR Access Denied & logged."),
    "a heading as the title": (
        "<title>404 Not Found</title><h1>404 Not Found</h1>nginx",
        "404 Not Found nginx",
    ),
    "a byte order mark": ("\ufeff\r\n<p>No", "No"),
    "a script without an end": ("<p>No<script>var a = 1;", "No"),
    "a comment without an end": ("<p>No<!-- Copyright", "No"),
    "XML": ("<?xml version='1.0'?><Error><Code>NoSuchKey</Code></Error>", "NoSuchKey"),
    "an odd declaration": ("<p>No<![foo[bar", "No"),
    "only scripts": ("<html><script>x</script></html>", ""),
    "no page": ("<urlopen error timed out>", "<urlopen error timed out>"),
    "a text with a tag": ("expected <b>", "expected <b>"),
}


@pytest.mark.parametrize(("page", "text"), PAGES.values(), ids=PAGES.keys())
def test_a_page_is_read_without_comments_scripts_and_styles(page: str, text: str) -> None:
    assert readable(page) == text


def test_the_licence_in_a_proxys_page_is_not_in_the_error(kit: Any) -> None:
    reply = ApiResponse(503, {"content-type": "text/html"}, SQUID.encode())
    text = str(error_of(ApiRequest(path="/x", what="job ftjob-1"), reply, kit.settings()))
    assert "Access Denied & logged" in text
    assert "Copyright" not in text
    assert "margin" not in text


@given(st.lists(st.sampled_from([*"<>!-/='\" &a", "<!--", "-->", "<script>", "</script>", "<svg", "<![x["])))
def test_no_page_breaks_the_reading(pieces: list[str]) -> None:
    assert isinstance(readable("<" + "".join(pieces)), str)


@pytest.mark.parametrize("piece", ["<", "<!", "<!--", "</", "<a ", "<a b='", "<![CDATA[", "<svg>", "&", "<?"])
def test_a_page_is_read_no_further_than_its_beginning(piece: str) -> None:
    # a reader that looks at all of it, or back at each tag, takes minutes and runs into the suite's limit
    assert len(readable("<p>" + piece * 3_000_000)) <= 2 * MOST_OF_A_PAGE


def test_json_of_any_depth_is_read_or_shown(kit: Any) -> None:
    body = b'{"error":' * 400 + b"1" + b"}" * 400
    assert json.loads(body)
    text = str(
        error_of(ApiRequest(path="/x", what="job ftjob-1"), kit.answer(body, status=400), kit.settings())
    )
    assert '{"error":{"error":' in text


def test_lists_in_lists_cost_no_more_texts_than_one_list(mocker: Any) -> None:
    read = mocker.spy(server_words, "readable")
    body: Any = ["It broke"] * 5
    for _ in range(2):
        body = [{"error": body}] * 5
    assert server_words.words_of(body).message == "It broke"
    assert read.call_count <= server_words.MOST_ERRORS
