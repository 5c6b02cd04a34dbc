"""Run the benchmarks: `python -m benchmarks.run [NAME …]`; exit status 1 if a limit is missed."""

from __future__ import annotations

import sys

from benchmarks import archive, imports, read_log, waits

BENCHMARKS = {"imports": imports.run, "read_log": read_log.run, "archive": archive.run, "waits": waits.run}


def _detection() -> bool:
    # imported when asked for: it needs what the system tests need
    from benchmarks import detection

    return detection.run()


BY_NAME = {**BENCHMARKS, "detection": _detection}
"""Beside those, what runs only when it is named: it needs PostgreSQL and takes about ten minutes."""


def main(names: list[str]) -> int:
    """
    Run what is named, or everything.

    :param names: names of benchmarks.
    :returns: the exit status.
    """
    unknown = [name for name in names if name not in BY_NAME]
    if unknown:
        print(f"Unknown: {', '.join(unknown)}. There are: {', '.join(BY_NAME)}.")
        return 2
    good = [BY_NAME[name]() for name in names or BENCHMARKS]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
