"""The report page in a real browser: curves appear, and no request leaves for any other host."""

from __future__ import annotations

import http.server
import math
import os
import random
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from airflow_ft_events.report.figure import report_page
from airflow_ft_events.simulator import Simulator

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
DRAWN = "html[data-drawn=yes]"
BIG = 100_000


def missing(reason: str) -> Any:
    """Skip, or fail where every system test has to run."""
    if os.environ.get("CI_REQUIRES_SYSTEM") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        missing("needs a Chromium on PATH")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=program, args=QUIET)
        yield running
        running.close()


@dataclass
class Seen:
    """A page that was opened, every request that its browser made for it, and every complaint."""

    page: Any
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    @property
    def hosts(self) -> set[str]:
        """Whom the requests were for; "" for files."""
        return {urlsplit(url).netloc for url in self.requests if not url.startswith(("data:", "blob:"))}

    def curves(self) -> dict[str, int]:
        """The curves that are drawn, and how many points each line has."""
        script = """() => [...document.querySelectorAll("#chart .scatterlayer .trace")].map((trace) => {
            const line = trace.querySelector("path.js-line");
            const points = line ? line.getAttribute("d").split(/[MLCQS]/).length - 1 : 0;
            return [trace.__data__[0].trace.name, points];
        })"""
        found: dict[str, int] = {}
        for name, points in self.page.evaluate(script):
            found[name] = max(points, found.get(name, 0))
        return found

    def points(self) -> int:
        """How many markers are drawn."""
        return int(self.page.locator("#chart .scatterlayer .points path").count())

    def legend(self) -> list[str]:
        """The legend's entries."""
        return [
            text.strip() for text in self.page.locator("#chart .infolayer .traces text").all_text_contents()
        ]

    def look(self, selector: str, css: str) -> str:
        """A computed style."""
        return str(
            self.page.eval_on_selector(selector, "(node, css) => getComputedStyle(node)[css]", css),
        )


Opened = Callable[..., Seen]


@pytest.fixture
def opened(browser: Any, tmp_path: Path) -> Iterator[Opened]:
    """Opens pages, each in a context of its own."""
    contexts: list[Any] = []

    def open_page(
        html: str | None = None, *, url: str = "", scheme: str = "light", width: int = 1200
    ) -> Seen:
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        seen = Seen(context.new_page())
        context.on("request", lambda request: seen.requests.append(request.url))
        seen.page.on("console", lambda said: seen.complaints.append(f"{said.type}: {said.text}"))
        seen.page.on("pageerror", lambda error: seen.complaints.append(str(error)))
        if html is not None:
            path = tmp_path / f"report-{len(contexts)}.html"
            path.write_bytes(html.encode())
            url = path.as_uri()
        seen.page.goto(url)
        if html is not None:
            seen.page.wait_for_selector(DRAWN, timeout=120_000)
        return seen

    yield open_page
    for context in contexts:
        context.close()


@pytest.fixture
def listener() -> Iterator[tuple[str, list[str]]]:
    """A server of our own, and the paths that anybody asked it for."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            body = report_page(supervised()).encode() if self.path == "/report.html" else b"<p>Nothing</p>"
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Access-Control-Allow-Origin", "*")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *said: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    thread.join()
    server.server_close()


def supervised(*, outcome: str = "succeeded", steps: int = 240) -> list[dict[str, Any]]:
    """The log of a simulated job with validation."""
    simulator = Simulator([], clock=lambda: 1_767_225_600.0)
    job = simulator.find_job(simulator.add_job(outcome=outcome, steps=steps, ended=True, duration=3_600))
    assert job is not None
    return job.events


def reinforcement(*, steps: int = 60) -> list[dict[str, Any]]:
    """The log of a reinforcement job with the names, and the nesting, that recorded ones have."""
    rng = random.Random(3)
    events: list[dict[str, Any]] = []
    for step in range(1, steps + 1):
        reward = 0.8 * (1 - math.exp(-step / 25)) * rng.uniform(0.9, 1.1)
        data: dict[str, Any] = {
            "step": step,
            "total_steps": steps,
            "train_mean_reward": reward,
            "scores": {"graders": [{"name": "a"}], "train_reward_mean": reward},
            "usage": {"samples": {f"{kind}_tokens_mean": rng.uniform(1e3, 4e3) for kind in "abcdefgh"}},
            "timing": {"step": {"eval": 100.0, "sampling": rng.uniform(200, 240)}},
        }
        if step % 10 == 0:
            data |= {"full_valid_mean_reward": reward * 1.05, "full_valid_mean_parse_error": 0.1}
        events.append({"type": "metrics", "message": f"Step {step}/{steps}", "data": data})
    events.append({"level": "warn", "message": "3 grader calls timed out"})
    return [*events, {"level": "info", "message": "The job has successfully completed"}]


def large() -> list[dict[str, Any]]:
    """A log of 100,000 events with one loss that stands out."""
    rng = random.Random(1)
    events: list[dict[str, Any]] = []
    for step in range(1, BIG):
        data: dict[str, Any] = {
            "step": step,
            "train_loss": 2 * math.exp(-step / 20_000) * rng.uniform(0.8, 1.2),
        }
        data["train_mean_token_accuracy"] = 1 - data["train_loss"] / 4
        if step % 500 == 0:
            data |= {"valid_loss": data["train_loss"] * 1.1, "valid_mean_token_accuracy": 0.5}
        events.append({"type": "metrics", "created_at": 1_767_225_600 + step, "data": data})
    events[61_233]["data"]["train_loss"] = 9.5
    return [*events, {"created_at": 1_767_400_000, "message": "The job has successfully completed"}]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_supervised_job_shows_its_curves_and_asks_no_host_for_anything(opened: Opened, scheme: str) -> None:
    about = {"job_id": "ftjob-shown", "vendor": "openai", "outcome": "succeeded"}
    seen = opened(report_page(supervised(), about=about), scheme=scheme)
    curves = seen.curves()
    assert curves["train_loss"] > 200
    assert curves["valid_loss"] >= 10
    assert curves["train_mean_token_accuracy"] > 200
    assert seen.points() > 25
    assert seen.legend() == [
        f"{data}{metric}"
        for metric in ("loss", "mean_token_accuracy")
        for data in ("train_", "valid_", "full_valid_")
    ]
    assert seen.page.locator("#chart .shapelayer path").count() == 3
    assert seen.page.locator("h1").inner_text().startswith("ftjob-shown")
    assert seen.complaints == []
    assert seen.hosts == {""}


def test_light_and_dark_have_colours_of_their_own_and_follow_the_reader(opened: Opened) -> None:
    seen = opened(report_page(supervised()))
    parts = [("body", "backgroundColor"), ("body", "color"), ("#chart .xtick text", "fill")]
    light = [seen.look(*part) for part in parts]
    seen.page.emulate_media(color_scheme="dark")
    seen.page.wait_for_function(
        "old => getComputedStyle(document.querySelector('#chart .xtick text')).fill !== old", arg=light[2]
    )
    dark = [seen.look(*part) for part in parts]
    assert all(one != other for one, other in zip(light, dark, strict=True))
    assert opened(report_page(supervised()), scheme="dark").look(*parts[2]) == dark[2]
    assert seen.complaints == []


def test_a_reinforcement_job_shows_rewards_and_the_legend_switches_nested_numbers_on(opened: Opened) -> None:
    seen = opened(report_page(reinforcement()))
    before = seen.curves()
    assert before["train_mean_reward"] == 60
    assert "full_valid_mean_reward" in before
    assert "scores.train_reward_mean" not in before
    entry = seen.page.locator("#chart .infolayer .traces", has_text="scores.train_reward_mean")
    entry.locator("rect").click()
    seen.page.wait_for_function(
        "() => [...document.querySelectorAll('#chart .scatterlayer .trace')].some("
        "trace => trace.__data__[0].trace.name === 'scores.train_reward_mean')"
    )
    assert seen.curves()["scores.train_reward_mean"] == 60
    assert seen.complaints == []
    assert seen.hosts == {""}


def test_a_job_that_failed_early_shows_its_points_and_its_error(opened: Opened) -> None:
    seen = opened(report_page(supervised(outcome="failed", steps=12), about={"outcome": "failed"}))
    assert seen.curves()["train_loss"] == 8
    assert "internal error while training" in seen.page.locator(".note.error").inner_text()
    assert seen.page.locator(".messages .error").count() == 1
    assert seen.complaints == []


def test_a_log_without_numbers_shows_a_sentence(opened: Opened) -> None:
    seen = opened(report_page([{"message": "Fine tune request created"}]))
    assert "This log has no metrics to draw." in seen.page.locator("#chart").inner_text()
    assert seen.page.locator(".messages tbody tr").count() == 1
    assert seen.complaints == []


def test_a_log_of_100_000_events_makes_a_page_of_modest_size_that_shows_its_highest_loss(
    opened: Opened,
) -> None:
    html = report_page(large())
    assert len(html.encode()) < 6_000_000
    seen = opened(html)
    assert 1_000 < seen.curves()["train_loss"] < 3_000
    highest = seen.page.evaluate("() => Math.max(...document.querySelector('#chart').data[1].y)")
    assert highest == 9.5
    assert seen.complaints == []
    assert seen.hosts == {""}


def test_a_phone_shows_everything_within_its_width_with_keys_that_switch_curves(opened: Opened) -> None:
    seen = opened(report_page(reinforcement()), width=390)
    assert seen.page.evaluate("document.documentElement.scrollWidth") == 390
    assert seen.legend() == []
    key = seen.page.locator("#keys button", has_text="full_valid_mean_reward")
    assert key.get_attribute("aria-pressed") == "true"
    key.click()
    seen.page.wait_for_function(
        "() => [...document.querySelectorAll('#keys button')].some(key => "
        "key.textContent === 'full_valid_mean_reward' && key.getAttribute('aria-pressed') === 'false')"
    )
    assert "full_valid_mean_reward" not in seen.curves()
    assert seen.complaints == []


def test_the_loss_can_be_seen_on_a_logarithmic_scale(opened: Opened) -> None:
    seen = opened(report_page(supervised()))
    seen.page.click("#scale")
    seen.page.wait_for_function("() => document.querySelector('#chart').layout.yaxis2.type === 'log'")
    assert seen.page.locator("#scale").get_attribute("aria-pressed") == "true"
    assert seen.curves()["train_loss"] > 200


def test_a_dark_page_is_printed_in_light_colours_at_the_width_of_paper(opened: Opened) -> None:
    seen = opened(report_page(supervised()), scheme="dark")
    seen.page.evaluate("() => dispatchEvent(new Event('beforeprint'))")
    seen.page.wait_for_function("() => document.querySelector('#chart .main-svg').clientWidth === 670")
    assert seen.page.evaluate("() => document.querySelector('#chart').layout.paper_bgcolor") == "#ffffff"
    seen.page.evaluate("() => dispatchEvent(new Event('afterprint'))")
    seen.page.wait_for_function("() => document.querySelector('#chart .main-svg').clientWidth > 900")
    assert len(seen.page.pdf(format="A4")) > 10_000
    assert seen.complaints == []


def test_the_page_opens_from_a_server_as_well_and_asks_it_for_nothing_more(
    opened: Opened, listener: tuple[str, list[str]]
) -> None:
    address, asked = listener
    seen = opened(url=f"{address}/report.html")
    seen.page.wait_for_selector(DRAWN)
    assert seen.curves()["train_loss"] > 200
    assert asked == ["/report.html"]
    assert seen.complaints == []


def test_the_pages_own_policy_stops_a_request_that_any_other_page_may_make(
    opened: Opened, listener: tuple[str, list[str]]
) -> None:
    address, asked = listener
    ask = "url => fetch(url).then(() => 'came', () => 'stopped')"
    free = opened(url=f"{address}/other.html")
    assert free.page.evaluate(ask, f"{address}/from-other") == "came"
    bound = opened(report_page(supervised()))
    assert bound.page.evaluate(ask, f"{address}/from-report") == "stopped"
    assert [path for path in asked if path.startswith("/from")] == ["/from-other"]


def test_a_servers_words_run_nothing_and_load_nothing(
    opened: Opened, listener: tuple[str, list[str]]
) -> None:
    address, asked = listener
    bad = f'</script><script>window.taken = 1</script><img src="{address}/x" onerror="window.taken = 1">'
    link = f'<a href="{address}/y">loss</a>'
    events = [
        {"type": "metrics", "data": {"step": 1, link: 1.0, f"loss {bad}": 2.0}},
        {"type": "metrics", "data": {"step": 2, link: 0.5, f"loss {bad}": 1.0}},
        {"level": "error", "message": bad},
    ]
    seen = opened(report_page(events, about={"job_id": bad, "outcome": "failed", "error": {"message": bad}}))
    box = seen.page.locator("#chart .nsewdrag").last.bounding_box()
    seen.page.mouse.move(box["x"] + box["width"] * 0.9, box["y"] + box["height"] / 2)
    seen.page.wait_for_selector("#chart .hoverlayer .legend")
    assert seen.page.evaluate("window.taken") is None
    assert seen.page.locator("a[href], svg a, img").count() == 0
    assert seen.page.locator(".messages .said").inner_text() == bad
    assert asked == []
    assert seen.complaints == []
