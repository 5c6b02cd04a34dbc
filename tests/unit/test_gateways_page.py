"""The page about gateways promises nothing that no test shows."""

from __future__ import annotations

import re
from pathlib import Path


def test_each_row_names_a_test_that_exists(project: Path) -> None:
    page = (project / "docs" / "gateways.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| ") and not line.endswith("| test |")]
    assert len(rows) > 20
    for row in rows:
        named = re.fullmatch(r".* \| `(tests/[\w/]+\.py)::(test_\w+)` \|", row)
        assert named, f"no test is named here: {row}"
        file, test = named.groups()
        assert f"def {test}(" in (project / file).read_text(encoding="utf-8"), f"{file} has no {test}"
