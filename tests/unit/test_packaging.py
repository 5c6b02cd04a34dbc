"""What the package says about itself, to pip and to Airflow."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import airflow
import jsonschema
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import airflow_ft_events
from airflow_ft_events.provider_info import UI_FIELD_BEHAVIOUR, get_provider_info

AIRFLOW = Path(airflow.__file__).parent
LINES = {"2.11": "constraints/airflow-2.11.txt", "3.3": "constraints/airflow-3.3.txt"}


def _airflow_schema(name: str) -> dict[str, Any]:
    return json.loads((AIRFLOW / name).read_text())


def _class_paths(info: dict[str, Any]) -> Iterator[str]:
    for connection_type in info["connection-types"]:
        yield connection_type["hook-class-name"]
    yield from info.get("extra-links", [])
    yield from info.get("notifications", [])


def _modules(info: dict[str, Any]) -> Iterator[str]:
    for section in ("hooks", "triggers", "sensors", "operators"):
        for entry in info[section]:
            yield from entry["python-modules"]
    for transfer in info.get("transfers", []):
        yield transfer["python-module"]


def _pins(path: Path) -> list[Requirement]:
    lines = [line.partition("#")[0].strip() for line in path.read_text().splitlines()]
    return [Requirement(line) for line in lines if line]


def test_provider_info_passes_the_schema_of_the_installed_airflow():
    jsonschema.validate(get_provider_info(), _airflow_schema("provider_info.schema.json"))


def test_connection_form_passes_the_schema_that_airflow_3_holds_its_own_providers_to():
    path = AIRFLOW / "provider.yaml.schema.json"
    schema = json.loads(path.read_text()) if path.exists() else {"properties": {"connection-types": {}}}
    form = schema["properties"]["connection-types"]
    if "conn-fields" not in form.get("items", {}).get("properties", {}):
        pytest.skip("this Airflow has no schema for connection fields")
    jsonschema.validate(get_provider_info()["connection-types"], form)


def test_ui_field_behaviour_passes_the_schema_for_what_hooks_return():
    jsonschema.validate(UI_FIELD_BEHAVIOUR, _airflow_schema("customized_form_field_behaviours.schema.json"))


def test_default_of_every_connection_field_passes_the_fields_own_schema():
    (connection_type,) = get_provider_info()["connection-types"]
    checked = 0
    for name, field in connection_type["conn-fields"].items():
        jsonschema.Draft202012Validator.check_schema(field["schema"])
        # A form that was left empty stores null.
        if "enum" not in field["schema"]:
            jsonschema.validate(None, field["schema"])
        if "default" in field["schema"]:
            jsonschema.validate(field["schema"]["default"], field["schema"])
            checked += 1
        assert field["description"], name
    assert checked


def test_every_class_named_in_the_provider_info_can_be_imported():
    paths = list(_class_paths(get_provider_info()))
    for path in paths:
        module, _, name = path.rpartition(".")
        assert isinstance(getattr(importlib.import_module(module), name), type), path
    assert paths


def test_every_module_named_in_the_provider_info_can_be_imported():
    modules = list(_modules(get_provider_info()))
    for module in modules:
        assert importlib.import_module(module).__name__ == module
    assert len(modules) >= 4


def test_hook_and_provider_info_name_the_same_connection_type():
    (connection_type,) = get_provider_info()["connection-types"]
    module, _, name = connection_type["hook-class-name"].rpartition(".")
    hook = getattr(importlib.import_module(module), name)
    assert (hook.conn_type, hook.hook_name) == (
        connection_type["connection-type"],
        connection_type["hook-name"],
    )
    assert hook.get_ui_field_behaviour() == UI_FIELD_BEHAVIOUR


def test_reading_the_provider_info_imports_nothing_but_the_standard_library():
    code = (
        "import sys; before = set(sys.modules)\n"
        "from airflow_ft_events.provider_info import get_provider_info; get_provider_info()\n"
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) - set(sys.stdlib_module_names) == {"airflow_ft_events"}


def test_installed_version_is_the_one_in_the_package():
    assert importlib.metadata.version("airflow-ft-events") == airflow_ft_events.__version__


def test_version_is_written_in_one_place(project: Path):
    assert "version" not in tomllib.loads((project / "pyproject.toml").read_text())["project"]
    written = re.compile(rf"""version\W*_*\s*=\W+{re.escape(airflow_ft_events.__version__)}""", re.IGNORECASE)
    sources = [*project.glob("airflow_ft_events/**/*.py"), project / "pyproject.toml", project / "Makefile"]
    places = [path.name for path in sources if written.search(path.read_text())]
    assert places == ["__init__.py"]


def test_airflow_finds_the_provider_through_its_entry_point():
    entry_points = importlib.metadata.entry_points(group="apache_airflow_provider")
    (ours,) = [point for point in entry_points if point.value.startswith("airflow_ft_events.")]
    assert ours.load()() == get_provider_info()


@pytest.mark.parametrize("line", LINES)
def test_constraints_pin_everything_that_the_package_and_its_extras_ask_for(project: Path, line: str):
    declared = tomllib.loads((project / "pyproject.toml").read_text())["project"]
    extras = declared["optional-dependencies"]
    wanted = [Requirement(text) for text in [*declared["dependencies"], *extras["test"], *extras["lint"]]]
    pins = {canonicalize_name(pin.name): pin for pin in _pins(project / LINES[line])}
    for requirement in wanted:
        (exact,) = pins[canonicalize_name(requirement.name)].specifier
        assert exact.operator == "=="
        assert requirement.specifier.contains(exact.version), requirement


@pytest.mark.parametrize("line", LINES)
def test_constraints_are_of_the_airflow_line_that_they_are_named_after(project: Path, line: str):
    (airflow_pin,) = [pin for pin in _pins(project / LINES[line]) if pin.name == "apache-airflow"]
    assert str(airflow_pin.specifier).startswith(f"=={line}.")


@pytest.mark.parametrize("line", LINES)
def test_constraints_hold_only_plain_version_pins_that_pip_takes(project: Path, line: str):
    pins = _pins(project / LINES[line])
    assert len(pins) > 100
    for pin in pins:
        assert (len(pin.specifier), pin.extras, pin.url) == (1, set(), None), pin


# Everywhere, nowhere, and where Debian keeps a server; every other absolute path is one machine's.
EVERYWHERE = ("/bin/sh", "/dev/null", "/path/to/", "/usr/lib/postgresql")


@pytest.mark.parametrize("name", ["pyproject.toml", "Makefile", ".ci/run", *LINES.values()])
def test_no_file_that_drives_the_build_names_a_registry_or_a_place_on_one_machine(project: Path, name: str):
    text = (project / name).read_text()
    assert not re.findall(r"(?:--|_)(?:extra-)?index|find-links=|pypi|https?://", text, re.IGNORECASE)
    absolute = re.findall(r"(?<![\w.$)*\"])/(?:\w[\w.-]*/)+[\w.-]+", text)
    assert not [path for path in absolute if not path.startswith(EVERYWHERE)]
