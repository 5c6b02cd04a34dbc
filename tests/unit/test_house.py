"""The house: each module has its floor, imports lead down only, and no room grows too large."""

from __future__ import annotations

import ast
import graphlib
from pathlib import Path

import pytest

PACKAGE = "airflow_ft_events"
FLOORS = (
    ("errors", "clock"),
    ("events",),
    ("jobs", "parameters"),
    ("vendors",),
    ("provider_info",),
    ("connection",),
    ("gate",),
    ("api",),
    ("waiting",),
    ("report",),
    ("transport",),
    ("archive",),
    ("exceptions",),
    ("hooks",),
    ("triggers",),
    ("operators", "sensors"),
    ("transfers",),
    ("simulator",),
)
"""From the ground up, as docs/architecture.md draws them."""
LEVEL = {room: level for level, floor in enumerate(FLOORS) for room in floor}
PURE = ("events", "jobs", "errors", "parameters", "vendors", "gate", "api", "waiting", "report")
FROM_OUTSIDE = {"airflow", "requests", "urllib3", "aiohttp", "socket", "asyncio", "ssl", "plotly", "pyarrow"}
LONGEST = 400


def module_name(path: Path, project: Path) -> str:
    return ".".join(path.relative_to(project).with_suffix("").parts).removesuffix(".__init__")


def imports_of(path: Path) -> list[tuple[str, str, bool]]:
    """Module, name and whether it is imported with the file, of each import; those for type checkers too."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    at_once = {id(node) for node in tree.body}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, "", id(node) in at_once) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [(str(node.module), alias.name, id(node) in at_once) for alias in node.names]
    return found


@pytest.fixture(scope="module")
def paths(project: Path) -> dict[str, Path]:
    """The package's modules and their files."""
    return {module_name(path, project): path for path in sorted((project / PACKAGE).rglob("*.py"))}


@pytest.fixture(scope="module")
def graph(paths: dict[str, Path]) -> dict[str, set[str]]:
    """Whom each module imports, of the package's own."""
    found: dict[str, set[str]] = {}
    for name, path in paths.items():
        named = {
            f"{module}.{alias}" if f"{module}.{alias}" in paths else module
            for module, alias, _ in imports_of(path)
        }
        found[name] = (named & paths.keys()) - {name}
    return found


def room(module: str) -> str:
    """The room of a module: the second part of its name; the package itself stands outside."""
    return module.split(".")[1] if "." in module else ""


def test_every_module_has_a_layer_and_every_layer_has_a_module(paths: dict[str, Path]) -> None:
    assert {room(name) for name in paths} - {""} == set(LEVEL)


def test_no_module_imports_from_a_layer_above(graph: dict[str, set[str]]) -> None:
    up = [
        f"{name} -> {other}"
        for name, others in graph.items()
        for other in others
        if room(name) and room(other) and LEVEL[room(other)] > LEVEL[room(name)]
    ]
    assert up == []


def test_no_two_modules_import_each_other_even_indirectly(graph: dict[str, set[str]]) -> None:
    assert len(list(graphlib.TopologicalSorter(graph).static_order())) == len(graph)


def test_what_is_pure_imports_nothing_that_reaches_the_outside(paths: dict[str, Path]) -> None:
    outside = {
        f"{name} imports {module}"
        for name, path in paths.items()
        if room(name) in PURE
        for module, _, at_once in imports_of(path)
        if at_once and module.split(".")[0] in FROM_OUTSIDE
    }
    assert outside == set()


def test_what_is_pure_has_no_clock_of_its_own(paths: dict[str, Path]) -> None:
    asks = [
        name
        for name, path in paths.items()
        if room(name) in PURE
        and {"time", "airflow_ft_events.clock"} & {module for module, _, _ in imports_of(path)}
    ]
    assert asks == []


def test_no_module_is_longer_than_400_lines(paths: dict[str, Path]) -> None:
    lengths = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in paths.items()}
    assert {name: length for name, length in lengths.items() if length > LONGEST} == {}


def test_at_most_eight_modules_stand_at_the_top(project: Path) -> None:
    assert len(list((project / PACKAGE).glob("*.py"))) <= 8


def test_the_decision_of_a_wait_fits_on_a_screen(paths: dict[str, Path]) -> None:
    from airflow_ft_events.waiting.verdict import TABLE

    text = paths[f"{PACKAGE}.waiting.verdict"].read_text(encoding="utf-8")
    table = text[text.index("TABLE: ") : text.index("# fmt: on")]
    assert len(TABLE) <= table.count("\n") <= 40


def test_the_architecture_page_names_every_module(project: Path) -> None:
    text = (project / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert [room for room in LEVEL if room not in text] == []
