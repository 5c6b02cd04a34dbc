"""A live Airflow on PostgreSQL for all tests of a session, and a simulated server for each."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from airflow_ft_events.simulator import Simulator
from tests.system.gateways import Gateways, Waits
from tests.system.live import (
    Component,
    Database,
    Lever,
    LiveAirflow,
    MissingError,
    all_ended,
    folder_for_all,
    postgresql,
    unprivileged,
)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show with a failed test what Airflow's components printed last."""
    report = yield
    live = getattr(item, "funcargs", {}).get("airflow")
    if report.failed and isinstance(live, LiveAirflow):
        report.sections.append(("What the components of Airflow printed", live.tails()))
    return report


@pytest.fixture(scope="session")
def started() -> Iterator[list[Component]]:
    """Everything that this session started; it is ended here."""
    with all_ended() as components:
        yield components


@contextlib.contextmanager
def skipped_where_missing() -> Iterator[None]:
    """Skip a test whose programs are missing; in CI it fails."""
    try:
        yield
    except MissingError as missing:
        if os.environ.get("CI_REQUIRES_SYSTEM") == "1":
            pytest.fail(str(missing))
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def database(started: list[Component]) -> Iterator[Database]:
    """A PostgreSQL server of the session's own; without its programs its tests are skipped."""
    with skipped_where_missing(), postgresql(started) as found:
        yield found


@pytest.fixture(scope="session")
def airflow_stack(
    database: Database, started: list[Component], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LiveAirflow]:
    """API server, scheduler and Dag processor on PostgreSQL, for all tests of this session."""
    live = LiveAirflow(tmp_path_factory.mktemp("airflow"), database, started)
    try:
        live.start()
        yield live
    finally:
        live.end()


@pytest.fixture
def airflow(airflow_stack: LiveAirflow) -> Iterator[LiveAirflow]:
    """A live Airflow on PostgreSQL without a triggerer; those that the test starts end with it."""
    yield airflow_stack
    airflow_stack.restore()


@pytest.fixture
def lever() -> Lever:
    """The clock of the simulator of this test."""
    return Lever()


@pytest.fixture
def sim(lever: Lever) -> Iterator[Simulator]:
    """A server without jobs, by a clock that the test moves."""
    with Simulator([], clock=lever) as running:
        yield running


@pytest.fixture
def conn_id(airflow: LiveAirflow, sim: Simulator) -> str:
    """A connection to the simulator, in Airflow's database, for this test alone."""
    name = f"ft_{sim.base_url.rsplit(':', 1)[1].split('/')[0]}"
    airflow.api.add_connection(name, sim)
    return name


@pytest.fixture
def gateways(started: list[Component], tmp_path: Path) -> Iterator[Gateways]:
    """Start gateways, not as root; where root tests, others may not enter tmp_path."""
    with contextlib.ExitStack() as stack:
        folder = tmp_path
        with skipped_where_missing():
            as_user = unprivileged()
        if as_user:
            made = tempfile.TemporaryDirectory(
                prefix="ft-events-", dir=folder_for_all(), ignore_cleanup_errors=True
            )
            folder = Path(stack.enter_context(made))
            folder.chmod(0o755)
        before = len(started)
        stack.callback(lambda: [component.end() for component in started[before:]])
        yield Gateways(folder, started)


@pytest.fixture
def wait(monkeypatch: pytest.MonkeyPatch) -> Waits:
    """Wait for a job in real time: ``wait("poke" | "reschedule" | "deferrable", job_id)``."""
    return Waits(monkeypatch)


@pytest.fixture(params=["poke", "reschedule", "deferrable"])
def mode(request: pytest.FixtureRequest) -> str:
    """Each way to wait."""
    return str(request.param)


@pytest.fixture
def training(request: pytest.FixtureRequest) -> Iterator[Simulator]:
    """A server with one job that runs for some seconds and logs several events in each."""
    with Simulator([{"duration": 3, "steps": 15, "outcome": getattr(request, "param", "succeeded")}]) as sim:
        yield sim
