"""Run the benchmarks: `python -m benchmarks.run [NAME …]`; exit status 1 where a figure misses its limit."""

from __future__ import annotations

import sys

from benchmarks import imports, read_log, waits

BENCHMARKS = {"imports": imports.run, "read_log": read_log.run, "waits": waits.run}


def main(names: list[str]) -> int:
    """
    Run what is named, or everything.

    :param names: names of benchmarks.
    :returns: the exit status.
    """
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        print(f"Unknown: {', '.join(unknown)}. There are: {', '.join(BENCHMARKS)}.")
        return 2
    good = [BENCHMARKS[name]() for name in names or BENCHMARKS]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
