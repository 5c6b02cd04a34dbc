"""One list of server families: the connection form, the report, the facts and the simulator read it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_ft_events import vendors
from airflow_ft_events.provider_info import get_provider_info
from airflow_ft_events.report.figure import report_page
from airflow_ft_events.simulator import DIALECTS
from airflow_ft_events.vendors import AUTO, FAMILIES, VENDORS, Vendor


def test_every_family_of_the_list_has_facts_under_its_own_name() -> None:
    assert [vendor.name for vendor in VENDORS.values()] == list(FAMILIES) == list(VENDORS)
    assert all(isinstance(vendor, Vendor) for vendor in VENDORS.values())


def test_the_connection_form_offers_auto_and_every_family() -> None:
    (connection_type,) = get_provider_info()["connection-types"]
    form = connection_type["conn-fields"]["vendor"]["schema"]
    assert (form["enum"], form["default"]) == ([AUTO, *FAMILIES], AUTO)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_report_calls_every_family_by_its_name_for_people(name: str) -> None:
    assert f">{FAMILIES[name]}<" in report_page([], about={"vendor": name})


def test_the_simulator_speaks_as_families_of_the_list_only() -> None:
    assert {dialect.vendor for dialect in DIALECTS.values()} <= set(FAMILIES)


def test_an_unknown_name_in_the_vendors_package_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'VENDOR'"):
        vendors.VENDOR  # noqa: B018
    assert not hasattr(vendors, "Order")


def test_the_provider_info_reads_the_list_without_the_facts_behind_it(project: Path) -> None:
    program = (
        "import json, sys; import airflow_ft_events.provider_info\n"
        "print(json.dumps(sorted(name for name in sys.modules if name.startswith('airflow'))))"
    )
    environment = os.environ | {"PYTHONPATH": str(project)}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment
    )
    assert json.loads(done.stdout) == [
        "airflow_ft_events",
        "airflow_ft_events.provider_info",
        "airflow_ft_events.vendors",
    ]
