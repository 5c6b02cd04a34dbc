"""Run the benchmarks: `python -m benchmarks.run [NAME …]`; exit status 1 if a limit is missed."""

from __future__ import annotations

import os
import sys

from benchmarks import archive, imports, read_log, waits

BENCHMARKS = {"imports": imports.run, "read_log": read_log.run, "archive": archive.run, "waits": waits.run}


def _detection() -> bool:
    # imported only when needed: it requires what the system tests require
    from benchmarks import detection

    return detection.run()


BY_NAME = {**BENCHMARKS, "detection": _detection}
"""Also the one that runs only when named: it needs PostgreSQL and takes about ten minutes."""


def main(names: list[str]) -> int:
    """
    Run the named benchmarks, or all of them.

    :param names: names of benchmarks.
    :returns: the exit status.
    """
    unknown = [name for name in names if name not in BY_NAME]
    if unknown:
        print(f"Unknown: {', '.join(unknown)}. Choose from: {', '.join(BY_NAME)}.")
        return 2
    # before Airflow is imported: its own lines would stand between those of the tables
    os.environ["AIRFLOW__LOGGING__LOGGING_LEVEL"] = "ERROR"
    good = [BY_NAME[name]() for name in names or BENCHMARKS]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
