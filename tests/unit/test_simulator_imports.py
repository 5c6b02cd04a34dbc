"""Who imports whom in the simulator, imports for type checkers included."""

from __future__ import annotations

import ast
import graphlib
from pathlib import Path

SIMULATOR = "airflow_ft_events.simulator"


def module_name(path: Path, project: Path) -> str:
    return ".".join(path.relative_to(project).with_suffix("").parts).removesuffix(".__init__")


def imported_by(path: Path, modules: set[str]) -> set[str]:
    """The modules, of those given, that a file's import statements name."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            inner = {f"{node.module}.{alias.name}" for alias in node.names} & modules
            found |= inner or {str(node.module)}
    return found & modules


def test_no_two_modules_of_the_simulator_import_each_other(project: Path) -> None:
    paths = sorted((project / "airflow_ft_events" / "simulator").rglob("*.py"))
    names = {path: module_name(path, project) for path in paths}
    graph = {name: imported_by(path, set(names.values())) for path, name in names.items()}
    order = list(graphlib.TopologicalSorter(graph).static_order())
    assert order.index(f"{SIMULATOR}.state") < order.index(f"{SIMULATOR}.responder")
    assert order.index(f"{SIMULATOR}.responder") < order.index(f"{SIMULATOR}.simulator")
    assert len(order) == len(paths)
