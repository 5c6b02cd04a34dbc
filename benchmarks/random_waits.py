"""
Records some thousand random waits: what each requested, when, and how it ended.

An internal change of the package must not change them. Record them before and after, and compare::

    python -m benchmarks.random_waits record --count 3000 FILE
    python -m benchmarks.random_waits compare BEFORE AFTER

The servers and their faults are generated here from a seed, without using the package, so the same seed gives
the same world whatever the package does. Time is simulated: nothing sleeps, nothing leaves the process.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib
import json
import logging
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path
from types import ModuleType
from typing import Any

START = 1_800_000_000.0
JOB = "ftjob-1"
KEY, NEW_KEY = "sk-first-Zx81QmRt44LpWv09", "sk-second-Ab72KdFs55MnYt18"
MODES = ("poke", "reschedule", "deferrable", "restarted")
ROUTES = ("job", "events")
REFUSALS = (301, 400, 401, 403, 404, 405, 408, 409, 410, 422, 429, 500, 501, 502, 503)
NO_ANSWERS = ("connect", "timeout", "broken", "too_large")
ODD_BODIES = ("html", "list", "no_status", "another_job", "no_data")
WORDS = {
    "openai": {
        "succeeded": [(0.0, {"message": "The job has successfully completed"})],
        "failed": [(0.0, {"message": "Training file is bad", "level": "error"})],
        "cancelled": [
            (0.0, {"message": "The job was stopped due to a cancellation request", "level": "warn"})
        ],
        "model": [(-4.0, {"message": "New fine-tuned model created: ft:m:1"})],
    },
    "azure": {
        "succeeded": [
            (0.0, {"message": "Job succeeded."}),
            (30.0, {"message": "Postprocessing started."}),
            (45.0, {"message": "Training tokens billed: 12"}),
        ],
        "failed": [(0.0, {"message": "Job failed.", "level": "error", "data": {"error_code": "bad"}})],
        "cancelled": [(0.0, {"message": "Job canceled."})],
        "model": [],
    },
    "nebius": {
        "succeeded": [(0.0, {"message": "Training completed successfully"})],
        "failed": [(0.0, {"message": "Out of memory", "level": "error", "data": {"error_code": "oom"}})],
        "cancelled": [],
        "model": [],
    },
    "together": {
        "succeeded": [(0.0, {"message": "Job finished at noon", "type": "JOB_COMPLETE"})],
        "failed": [(0.0, {"message": "Job failed", "type": "JOB_ERROR", "level": "error"})],
        "cancelled": [(0.0, {"message": "Job stopped", "type": "JOB_STOPPED"})],
        "model": [],
    },
}
STATUS = {"together": {"succeeded": "completed", "failed": "error"}, "azure": {"cancelled": "canceled"}}


def room(name: str) -> ModuleType:
    """Import one of the package's modules, only when it is needed: the drawing needs none of them."""
    return importlib.import_module(f"airflow_ft_events.{name}")


@dataclass
class World:
    """One drawn server, its job, and what goes wrong with it; times are seconds since the wait began."""

    seed: int
    vendor: str
    mode: str
    interval: float
    timeout: float
    states: list[tuple[float, str]]
    log: list[tuple[float, dict[str, Any]]]
    job: dict[str, Any]
    newest_first: bool
    ids: str
    says_more: bool
    dated: bool
    skew: float
    faults: list[tuple[str, float, float, str, Any]]
    rotated_at: float | None
    restarts: list[float]
    options: dict[str, Any]
    page_size: int
    requests: list[Any] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    def fault(self, route: str, now: float) -> tuple[str, Any] | None:
        """What goes wrong with a route now."""
        for where, begin, end, kind, value in self.faults:
            if where in (route, "both") and begin <= now < end:
                return kind, value
        return None


def drawn(seed: int) -> World:
    """Draw a world from a seed."""
    luck = random.Random(seed)
    vendor = luck.choice(list(WORDS))
    interval = luck.choice([5.0, 30.0, 60.0, 60.0, 120.0, 400.0])
    over = luck.uniform(0, 3) * luck.choice([60, 600, 3600])
    outcome = luck.choice(["succeeded", "succeeded", "failed", "failed", "cancelled", "never"])
    faults = []
    for _ in range(luck.choice([0, 1, 1, 2, 2, 3, 4])):
        begin = luck.choice([0.0, 0.0, luck.uniform(0, over + 300)])
        lasts = luck.choice([1e9, interval * 1.5, luck.uniform(1, 400), luck.uniform(60, 4000)])
        kind = luck.choice(["status", "status", "status", "none", "body"])
        value: Any = luck.choice({"status": REFUSALS, "none": NO_ANSWERS, "body": ODD_BODIES}[kind])
        if value == 429:
            kind, value = "pause", luck.choice([None, "7", "90", "3000"])
        faults.append((luck.choice([*ROUTES, *ROUTES, "both"]), begin, begin + lasts, kind, value))
    mode = luck.choice(MODES)
    world = World(
        seed=seed,
        vendor=vendor,
        mode=mode,
        interval=interval,
        timeout=luck.choice([over * 2 + 1500, over + 4000, over / 2 + 30, 20_000]),
        states=_drawn_states(luck, vendor, outcome, over),
        log=_drawn_log(luck, vendor, outcome, over),
        job={},
        newest_first=vendor in ("openai", "azure"),
        ids="none" if vendor == "together" else luck.choice(["kept"] * 8 + ["changing", "none"]),
        says_more=luck.random() < 0.85,
        dated=luck.random() < 0.8,
        skew=luck.choice([0.0, 0.0, 0.0, 45.0, -200.0, 3600.0]),
        faults=faults,
        rotated_at=luck.choice([None, None, None, None, 0.0, luck.uniform(0, over + 60)]),
        restarts=sorted(luck.uniform(0, over + 200) for _ in range(luck.choice([1, 2])))
        if mode == "restarted"
        else [],
        options=luck.choice(
            [{}, {}, {}, {"log_events": "none"}, {"log_events": "all"}, {"raise_on_failure": False}]
        )
        | luck.choice([{}, {}, {"max_poll_failures": 1}, {"silent_fail": True}]),
        page_size=luck.choice([100, 100, 20, 7]),
    )
    if outcome != "never" and luck.random() < 0.7:
        world.job["finished_at"] = int(START + over - luck.uniform(0, 8))
    if outcome == "failed" and luck.random() < 0.5:
        world.job["error"] = {"code": "bad", "message": "It went wrong", "param": None}
    return world


def _drawn_states(luck: random.Random, vendor: str, outcome: str, over: float) -> list[tuple[float, str]]:
    states = [(-1e9, luck.choice(["queued", "running", "pending"]))]
    states += [
        (luck.uniform(0, over), luck.choice(["running", "running", "paused", "odd_word"]))
        for _ in range(luck.choice([0, 1, 1, 2]))
    ]
    if outcome != "never":
        states.append((over + luck.choice([0, 0, 1, 70, 400]), STATUS.get(vendor, {}).get(outcome, outcome)))
    return sorted(states)


def _drawn_log(
    luck: random.Random, vendor: str, outcome: str, over: float
) -> list[tuple[float, dict[str, Any]]]:
    words, log = WORDS[vendor], [(-luck.uniform(0, 900), {"message": "Created job"})]
    steps = luck.choice([0, 5, 30, 150])
    for step in range(steps):
        at = over * (step + 1) / (steps + 2) - luck.choice([0, 0, 2000])
        metrics = {"step": step + 1, "total_steps": steps, "train_loss": round(luck.random(), 3)}
        log.append((at, {"message": f"Step {step + 1}/{steps}", "type": "metrics", "data": metrics}))
    for _ in range(luck.choice([0, 0, 1, 3])):
        said = luck.choice(
            [
                {"message": "A warning", "level": "warn"},
                {"message": "A bad batch", "level": "error"},
                {"message": "Checkpoint created at step 3"},
            ]
        )
        log.append((luck.uniform(-100, over + 100), said))
    if outcome != "never" and luck.random() < 0.85:
        for after, said in [*(words["model"] if outcome == "succeeded" else []), *words[outcome]]:
            log.append((over + after, said))
    elif luck.random() < 0.15:
        log.append((over, words["succeeded"][0][1]))
    if luck.random() < 0.08:
        log.append((over + luck.uniform(1, 200), {"message": "Job restarted", "type": "JOB_RESTARTED"}))
    return sorted(log, key=lambda pair: pair[0])


class Server:
    """Answers as its world says."""

    def __init__(self, world: World, clock: Any, exchange: ModuleType) -> None:
        self.world, self.clock = world, clock
        self.response = exchange.ApiResponse
        self.no_answer, self.kinds = exchange.ApiFault, exchange.FaultKind
        self.answers = 0

    def __call__(self, request: Any, key: str) -> Any:
        world, now = self.world, self.clock.now() - START
        self.answers += 1
        params = dict(request.params)
        world.requests.append([round(now, 3), request.method, request.path, params])
        route = "events" if request.path.endswith("/events") else "job"
        if key != (NEW_KEY if world.rotated_at is not None and now >= world.rotated_at else KEY):
            return self._json({"error": {"message": "Incorrect key", "code": "invalid_api_key"}}, status=401)
        fault = world.fault(route, now)
        if fault is not None:
            return self._wrong(*fault)
        if route == "job":
            status = [status for since, status in world.states if since <= now][-1]
            ended = status in ("succeeded", "failed", "cancelled", "canceled", "completed", "error")
            return self._json({"id": JOB, "status": status} | (world.job if ended else {}))
        return self._page(params, now)

    def _page(self, params: dict[str, str], now: float) -> Any:
        world, shown = self.world, []
        for number, (at, said) in enumerate(world.log):
            if at > now:
                break
            event = {"created_at": int(START + at + world.skew), "level": "info", "type": "message"} | said
            if world.ids == "kept":
                event["id"] = f"ftevent-{number}"
            elif world.ids == "changing":
                event["id"] = f"answer-{self.answers}-{number}"
            shown.append(event)
        if world.newest_first:
            shown.reverse()
        if world.vendor == "together":
            return self._json({"data": shown})
        start, after = 0, params.get("after")
        if after is not None:
            ids = [event.get("id") for event in shown]
            if after not in ids:
                return self._json({"error": {"message": "No such event", "code": "not_found"}}, status=404)
            start = ids.index(after) + 1
        end = start + int(params.get("limit", 20))
        more = {"has_more": end < len(shown)} if world.says_more else {}
        return self._json({"object": "list", "data": shown[start:end], **more})

    def _wrong(self, kind: str, value: Any) -> Any:
        if kind == "none":
            return self.no_answer(self.kinds(value), f"no answer: {value}")
        if kind == "pause":
            return self._json({"error": "slow down"}, status=429, **({"retry-after": value} if value else {}))
        if kind == "status":
            return self._json({"error": {"message": "refused", "code": "odd"}}, status=value)
        bodies: dict[str, Any] = {
            "list": [1],
            "no_status": {"id": JOB},
            "another_job": {"id": "ftjob-2", "status": "succeeded"},
            "no_data": {"data": 3},
        }
        return self._json(bodies.get(value, b"<html>Welcome</html>"))

    def _json(self, body: Any, *, status: int = 200, **headers: str) -> Any:
        world = self.world
        if world.dated:
            headers["date"] = formatdate(self.clock.now() + world.skew, usegmt=True)
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.response(status, {"content-type": "application/json", **headers}, raw)


class RestartError(BaseException):
    """The triggerer goes away; no ``except Exception`` may catch it."""


class TimeIsUpError(BaseException):
    """A wait that went on for a year and a day."""


class Lines:
    """Takes a task's log lines, whatever logger Airflow would give."""

    def __init__(self, lines: list[str]) -> None:
        self._lines = lines

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802
        return level >= logging.INFO

    def _take(self, level: str, text: str, *args: object) -> None:
        self._lines.append(f"{level}: {text % args if args else text}")

    def __getattr__(self, level: str) -> Any:
        return lambda text, *args, **_: self._take(level, text, *args)


def _driven_clock(world: World, clocks: ModuleType) -> Any:
    luck = random.Random(world.seed + 1)

    class Driven(clocks.Clock):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            self.moment = START
            self.restarts = list(world.restarts)

        def now(self) -> float:
            return self.moment

        def sleep(self, seconds: float) -> None:
            self.moment += max(seconds, 0.0)
            if self.moment - START > 366 * 86400 or len(world.requests) > 20_000:
                raise TimeIsUpError

        async def asleep(self, seconds: float) -> None:
            self.sleep(seconds)
            await asyncio.sleep(0)
            if self.restarts and self.moment - START >= self.restarts[0]:
                self.restarts.pop(0)
                raise RestartError

        def jitter(self) -> float:
            return luck.random()

    return Driven()


def lived(world: World) -> Any:
    """Lead a wait through its world; returns what it came to."""
    from airflow.providers.common.compat.sdk import TaskDeferred

    from airflow_ft_events.sensors.fine_tuning import FineTuningEventsSensor

    clocks = room("clock")
    clock = _driven_clock(world, clocks)
    options = {"task_id": "wait", "job_id": JOB, "poke_interval": world.interval, "timeout": world.timeout}
    options |= world.options
    with clocks.driven_by(clock), _wired(world, clock):
        try:
            if world.mode in ("poke", "reschedule"):
                return _poked(world, clock, options)
            sensor = FineTuningEventsSensor(deferrable=True, **options)
            try:
                return {"returned": sensor.execute({})}
            except TaskDeferred as deferred:
                path, kwargs = deferred.trigger.serialize()
                payload = _triggered(path, kwargs)
                end = deferred.trigger.end_time
                again = FineTuningEventsSensor(deferrable=True, **options)
                return {"returned": again.execute_complete({}, payload), "late": clock.now() > end + 600}
        except TimeIsUpError:
            return {"raised": "TimeIsUpError"}
        except Exception as error:  # noqa: BLE001 - whatever a wait ends with is what is compared
            return {"raised": type(error).__name__, "words": str(error)}


def _poked(world: World, clock: Any, options: dict[str, Any]) -> Any:
    """Poke as Airflow's sensor does, with a new process each time in reschedule mode."""
    from airflow_ft_events.sensors.fine_tuning import FineTuningEventsSensor

    def made() -> Any:
        return FineTuningEventsSensor(mode=world.mode, **options)

    sensor, begun, count = made(), clock.now(), 0
    while True:
        if world.mode == "reschedule":
            sensor = made()
        try:
            found = sensor.poke({"task_reschedule_count": count})
        except Exception as error:
            if not (world.options.get("silent_fail") and "JobFailed" not in type(error).__name__):
                raise
            found = False
        if found:
            return {"returned": found.xcom_value}
        if clock.now() - begun > world.timeout:
            return {"raised": "timeout"}
        clock.sleep(world.interval)
        count += 1


def _triggered(path: str, kwargs: dict[str, Any]) -> Any:
    module, _, name = path.rpartition(".")
    kind = getattr(importlib.import_module(module), name)

    async def run() -> Any:
        while True:
            with contextlib.suppress(RestartError):
                return (await anext(kind(**kwargs).run())).payload

    return json.loads(json.dumps(asyncio.run(run())))


@contextlib.contextmanager
def _wired(world: World, clock: Any) -> Iterator[None]:
    """Let both transports ask the world's server, through a connection whose key may be rotated."""
    from airflow_ft_events.sensors.fine_tuning import FineTuningEventsSensor
    from airflow_ft_events.triggers.fine_tuning import FineTuningEventsTrigger

    sync, aio = room("transport.sync"), room("transport.aio")
    server = Server(world, clock, room("api.exchange"))
    lines = Lines(world.lines)

    def connection() -> str:
        rotated = world.rotated_at is not None and clock.now() - START >= world.rotated_at
        return json.dumps(
            {
                "conn_type": "fine_tuning",
                "host": "https://tuning.example/v1",
                "password": NEW_KEY if rotated else KEY,
                "extra": {"vendor": world.vendor, "page_size": world.page_size},
            }
        )

    class Environment(dict[str, str]):
        def get(self, name: str, default: Any = None) -> Any:
            return connection() if name == "AIRFLOW_CONN_FINE_TUNING_DEFAULT" else super().get(name, default)

    def key_of(transport: Any) -> str:
        return str(transport.settings.credential.at_hand())

    def send(transport: Any, request: Any) -> Any:
        return server(request, key_of(transport))

    async def asend(transport: Any, request: Any) -> Any:
        return server(request, key_of(transport))

    saved = sync.SyncTransport.send, aio.AsyncTransport.send
    sync.SyncTransport.send, aio.AsyncTransport.send = send, asend
    FineTuningEventsSensor.log = FineTuningEventsTrigger.log = property(lambda _: lines)
    hooks = room("hooks.client")
    hooks.ClientHook.log = property(lambda _: lines)
    environ, os.environ = os.environ, Environment(os.environ)  # type: ignore[assignment]
    try:
        yield
    finally:
        os.environ = environ  # noqa: B003
        sync.SyncTransport.send, aio.AsyncTransport.send = saved


def record(count: int, first: int, to: Path) -> None:
    """Record that many waits, one line each."""
    began, ends = time.monotonic(), Counter[str]()
    with to.open("w") as file:
        for seed in range(first, first + count):
            world = drawn(seed)
            end = lived(world)
            came = end.get("returned") or {}
            ends[end.get("raised") or f"{came['outcome']} by {came['decided_by']}"] += 1
            row = {"seed": seed, "mode": world.mode, "end": end, "requests": world.requests}
            file.write(json.dumps(row | {"lines": world.lines}) + "\n")
    print(f"{count} waits from seed {first} in {time.monotonic() - began:.0f} s:")
    for end, times in ends.most_common():
        print(f"  {times:6}  {end}")


def compare(before: Path, after: Path, *, words: bool) -> int:
    """Compare two recordings; returns how many waits differ."""
    pairs = zip(before.open(), after.open(), strict=True)
    differing = total = 0
    for old, new in ((json.loads(old), json.loads(new)) for old, new in pairs):
        total += 1
        names = ("requests", "end", "lines")
        different = [name for name in names if _plain(old, name, words) != _plain(new, name, words)]
        if different:
            differing += 1
            if differing <= 20:
                print(f"seed {old['seed']} ({old['mode']}): {', '.join(different)}")
    print(f"{total} waits compared, {differing} differ")
    return differing


def _plain(row: dict[str, Any], name: str, words: bool) -> Any:
    if words:
        return row[name]
    if name == "lines":
        return [line.partition(":")[0] for line in row["lines"]]
    return {k: v for k, v in row["end"].items() if k != "words"} if name == "end" else row[name]


def main(arguments: list[str]) -> int:
    """Run a command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.random_waits", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("record", help="write down random waits")
    one.add_argument("--count", type=int, default=3000)
    one.add_argument("--seed", type=int, default=1, help="of the first; default 1")
    one.add_argument("file", type=Path)
    two = commands.add_parser("compare", help="compare two recordings")
    two.add_argument("--no-words", action="store_true", help="leave out what messages say")
    two.add_argument("before", type=Path)
    two.add_argument("after", type=Path)
    given = parser.parse_args(arguments)
    if given.command == "record":
        record(given.count, given.seed, given.file)
        return 0
    return 1 if compare(given.before, given.after, words=not given.no_words) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
