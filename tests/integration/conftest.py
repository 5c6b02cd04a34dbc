"""Driven time, the three ways to wait, and little servers that do what a simulator cannot."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import logging
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal
from urllib.parse import urlsplit

import pytest
from airflow.models.trigger import Trigger
from airflow.providers.common.compat.sdk import AirflowException, BaseSensorOperator, TaskDeferred

from airflow_ft_events.clock import Clock, driven_by
from airflow_ft_events.sensors.fine_tuning import FineTuningEventsSensor
from airflow_ft_events.simulator import DIALECTS, Simulator, simulate

try:
    from airflow.providers.common.compat.sdk import AirflowRescheduleException
except ImportError:
    from airflow.exceptions import AirflowRescheduleException
try:
    from airflow.sdk.io import store as object_stores
except ImportError:
    from airflow.io import store as object_stores

START = 1_800_000_000.0


class DrivenClock(Clock):
    """Time that passes only when somebody sleeps."""

    def __init__(self, moment: float = START) -> None:
        self.start = self.moment = moment
        self.naps: list[float] = []
        self.drawn_jitter = 0.5
        self.plans: list[tuple[float, Callable[[], None]]] = []

    def now(self) -> float:
        return self.moment

    @property
    def passed(self) -> float:
        """Seconds since the test began."""
        return self.moment - self.start

    def at(self, seconds: float, act: Callable[[], None]) -> None:
        """Do something when so many seconds have passed."""
        self.plans.append((self.start + seconds, act))
        self.plans.sort(key=lambda plan: plan[0])

    def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        until = self.moment + max(seconds, 0.0)
        while self.plans and self.plans[0][0] <= until:
            self.moment, act = self.plans.pop(0)
            act()
        self.moment = until

    async def asleep(self, seconds: float) -> None:
        self.sleep(seconds)
        await asyncio.sleep(0)

    def jitter(self) -> float:
        return self.drawn_jitter


@pytest.fixture(autouse=True)
def _no_opened_stores() -> None:
    """Airflow keeps each store that a process has opened, by the id of its connection alone."""
    object_stores._STORE_CACHE.clear()


@pytest.fixture
def clock() -> Iterator[DrivenClock]:
    """The clock that the package goes by in this test."""
    driven = DrivenClock()
    with driven_by(driven):
        yield driven


@pytest.fixture
def airflow_clock(clock: DrivenClock, monkeypatch: pytest.MonkeyPatch) -> DrivenClock:
    """The same clock for Airflow's own sensor base."""
    base = sys.modules[BaseSensorOperator.__module__]
    monkeypatch.setattr(base, "time", SimpleNamespace(sleep=clock.sleep, monotonic=clock.now))
    utcnow = lambda: datetime.fromtimestamp(clock.now(), UTC)  # noqa: E731
    monkeypatch.setattr(base, "timezone", SimpleNamespace(utcnow=utcnow))
    return clock


# server families


@dataclass(frozen=True, kw_only=True)
class Family:
    """Where a server family differs from the others, as far as tests have to know.

    :param name: the dialect.
    :param success: the event that announces a success.
    :param said: what stands for OpenAI's states in its jobs.
    :param cancelling: the status that a cancelled job has at once.
    :param names_end: whether a job tells when it ended, and why it failed.
    :param cancellation: the event that announces a cancellation; none where no event does.
    :param codes: what a refusal has for a code: one of its ``own``, the ``status`` as text, or ``none``.
    :param key_header: the header that carries the key.
    :param key_prefix: what stands before the key in that header.
    """

    name: str
    success: Mapping[str, str]
    said: Mapping[str, str] = field(default_factory=dict)
    cancelling: str = "cancelled"
    names_end: bool = True
    cancellation: Mapping[str, str] | None = None
    codes: Literal["own", "status", "none"] = "own"
    key_header: str = "authorization"
    key_prefix: str = "Bearer "

    def word(self, status: str) -> str:
        """What its jobs say for one of OpenAI's states."""
        return self.said.get(status, status)

    def announces(self, outcome: str) -> bool:
        """Whether an event says that a job has ended so."""
        return outcome != "cancelled" or self.cancellation is not None

    @property
    def vendor(self) -> str:
        """What a connection to it names."""
        return DIALECTS[self.name].vendor

    @property
    def pages(self) -> bool:
        """Whether its lists come in pages."""
        return DIALECTS[self.name].pages

    @property
    def oldest_first(self) -> bool:
        """Whether its logs begin with the oldest event."""
        return DIALECTS[self.name].order == "oldest"

    @property
    def base_path(self) -> str:
        """The path of its API's root."""
        return DIALECTS[self.name].base_path

    @property
    def jobs_path(self) -> str:
        """The path of its job list, below the root."""
        return DIALECTS[self.name].jobs_path

    @property
    def extra(self) -> dict[str, str]:
        """The extra of a connection to it, as the simulator tells it."""
        return {} if self.vendor == "openai" else DIALECTS[self.name].extra

    def refusal(self, status: int, message: str, *, code: str) -> tuple[Any, str | None]:
        """The body of a refusal, and the code that can be read off it."""
        body = DIALECTS[self.name].problem(status, message, code=code).body
        return body, {"own": code, "status": str(status), "none": None}[self.codes]

    def key_sent(self, key: str) -> str:
        """The value of the header that carries a key."""
        return f"{self.key_prefix}{key}"


FAMILIES = {
    family.name: family
    for family in (
        Family(
            name="openai",
            success={"message": "The job has successfully completed"},
            cancellation={"message": "The job was stopped due to a cancellation request", "level": "warn"},
        ),
        Family(
            name="azure",
            success={"message": "Job succeeded."},
            cancellation={"message": "Job canceled."},
            said={"cancelled": "canceled"},
            cancelling="canceled",
            codes="status",
            key_header="api-key",
            key_prefix="",
        ),
        Family(
            name="azure-v1",
            success={"message": "Job succeeded."},
            cancellation={"message": "Job canceled."},
            codes="status",
            key_header="api-key",
            key_prefix="",
        ),
        Family(
            name="nebius",
            success={"message": "Training completed successfully"},
            codes="none",
        ),
        Family(
            name="together",
            success={"message": "Job finished at Wed Apr  9 20:06:33 UTC 2025", "type": "JOB_COMPLETE"},
            cancellation={"message": "Job stopped by user", "type": "JOB_STOPPED"},
            said={"succeeded": "completed", "failed": "error"},
            cancelling="cancel_requested",
            names_end=False,
        ),
        Family(
            name="bedrock",
            success={"message": "The job has successfully completed"},
            cancellation={"message": "The job was stopped due to a cancellation request", "level": "warn"},
        ),
    )
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test marked ``every_family`` runs once for each."""
    if metafunc.definition.get_closest_marker("every_family"):
        metafunc.parametrize("vendor", list(DIALECTS))


@pytest.fixture
def vendor() -> str:
    """The server family: OpenAI, unless a test is marked ``every_family`` or names some itself."""
    return "openai"


@pytest.fixture
def family(vendor: str) -> Family:
    """What the test must know of its server family."""
    return FAMILIES[vendor]


class Moment:
    """A simulator's clock that stands still until a test moves it."""

    now = START


@pytest.fixture
def moment() -> Moment:
    return Moment()


@pytest.fixture
def served(moment: Moment) -> Iterator[Callable[..., Simulator]]:
    """Start simulators whose clock is ``moment``."""
    with ExitStack() as stack:
        yield lambda *jobs, **options: stack.enter_context(
            simulate(*jobs, clock=lambda: moment.now, **options)
        )


@pytest.fixture
def simulated(clock: DrivenClock, vendor: str) -> Iterator[Callable[..., Simulator]]:
    """Start simulators of this test's family that go by the driven clock."""
    with ExitStack() as stack:
        yield lambda *jobs, **options: stack.enter_context(
            Simulator(*jobs, clock=clock.now, **{"vendor": vendor, **options})
        )


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Define an Airflow connection: to a server, as its family wants it, or to a host with a key."""

    def define(
        to: Simulator | OddServer | str,
        *,
        conn_id: str = "fine_tuning_default",
        key: str | None = None,
        conn_type: str = "fine_tuning",
        **extra: Any,
    ) -> None:
        host = to.url if isinstance(to, OddServer) else to if isinstance(to, str) else to.base_url
        if not isinstance(to, str):
            extra = {**to.connection_extra, **extra}
        key = key or ("sk-simulator" if isinstance(to, str) else to.api_key)
        made = {"conn_type": conn_type, "host": host, "password": key, "extra": extra}
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(made))

    return define


class FakeTask:
    """A task instance, as far as sensors and operators ask for one."""

    dag_id, task_id, run_id, map_index = "dag", "wait", "run", -1
    max_tries, try_number = 0, 1

    def __init__(self) -> None:
        self.first_reschedule: datetime | None = None
        self.start_date: datetime | None = None
        self.pushed: dict[str, Any] = {}

    def get_first_reschedule_date(self, context: Any) -> datetime | None:
        return self.first_reschedule

    def xcom_push(self, key: str, value: Any, **_: Any) -> None:
        self.pushed[key] = value


@pytest.fixture
def task() -> FakeTask:
    """The task instance of this test's context."""
    return FakeTask()


def stored_and_loaded(trigger: Any) -> Any:
    """A trigger as the triggerer gets it: its parameters go through Airflow's own storage."""
    path, kwargs = trigger.serialize()
    encrypt = getattr(Trigger, "encrypt_kwargs", None) or Trigger._encrypt_kwargs
    loaded = Trigger._decrypt_kwargs(encrypt(kwargs))
    assert loaded == kwargs
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)(**loaded)


async def event_of(trigger: Any) -> dict[str, Any]:
    """The payload of a trigger's one event, as it comes out of the database."""
    events = [event async for event in trigger.run()]
    assert len(events) == 1, f"a wait ends with one event, not {len(events)}"
    return json.loads(json.dumps(events[0].payload))


@pytest.fixture
def reloaded() -> Callable[[Any], Any]:
    """Send a trigger through Airflow's storage."""
    return stored_and_loaded


@pytest.fixture
def payload_of() -> Callable[[Any], Any]:
    """Run a trigger to its end, inside an event loop."""
    return event_of


class Follower:
    """Waits for a job in any mode, as Airflow would lead a task through it."""

    def __init__(self, clock: DrivenClock, task: FakeTask, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock, self.task = clock, task
        self.context: dict[str, Any] = {"ti": task, "task_instance": task}
        self.triggers: list[Any] = []
        base = sys.modules[BaseSensorOperator.__module__]
        self._airflow_counts_pokes = not hasattr(base, "_orig_start_date")
        if hasattr(base, "_orig_start_date"):
            monkeypatch.setattr(base, "_orig_start_date", lambda **_: task.first_reschedule)

    def __call__(self, mode: str, job_id: str, **options: Any) -> Any:
        options = {"task_id": "wait", "job_id": job_id, "deferrable": mode == "deferrable", **options}
        if mode == "reschedule":
            options["mode"] = "reschedule"

        def new() -> FineTuningEventsSensor:
            return FineTuningEventsSensor(**options)

        self.task.first_reschedule = None
        return getattr(self, f"_{mode}")(new)

    def _poke(self, new: Callable[[], FineTuningEventsSensor]) -> Any:
        return new().execute(self.context)

    def _reschedule(self, new: Callable[[], FineTuningEventsSensor]) -> Any:
        begun = datetime.fromtimestamp(self.clock.now(), UTC)
        context, count = {**self.context}, 0
        while True:
            if self._airflow_counts_pokes:
                context["task_reschedule_count"] = count
            else:
                self.task.start_date = begun
            try:
                return new().execute(context)
            except AirflowRescheduleException as later:
                count += 1
                self.task.first_reschedule = self.task.first_reschedule or begun
                self.clock.sleep(later.reschedule_date.timestamp() - self.clock.now())

    def _deferrable(self, new: Callable[[], FineTuningEventsSensor]) -> Any:
        try:
            return new().execute(self.context)
        except TaskDeferred as deferred:
            trigger = stored_and_loaded(deferred.trigger)
            self.triggers.append(trigger)
            payload = asyncio.run(event_of(trigger))
            return new().resume_execution(deferred.method_name, {"event": payload}, self.context)


@pytest.fixture
def follow(
    clock: DrivenClock, airflow_clock: DrivenClock, task: FakeTask, monkeypatch: pytest.MonkeyPatch
) -> Follower:
    """Wait for a job: ``follow("poke" | "reschedule" | "deferrable", job_id, **sensor)``."""
    return Follower(clock, task, monkeypatch)


MODES = ("poke", "reschedule", "deferrable")


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> str:
    """Each way to wait."""
    return str(request.param)


@pytest.fixture
def end_of() -> Callable[..., str]:
    """How a call ends, in one word: an exception's class, or what it returns."""

    def end(call: Callable[..., Any], *args: Any, **kwargs: Any) -> str:
        try:
            found = call(*args, **kwargs)
        except (Exception, AirflowException) as error:
            return type(error).__name__
        return f"returned {found['outcome']}" if isinstance(found, Mapping) else f"returned {found!r}"

    return end


# logs


class LogText:
    """Everything that was logged, through structlog or the standard library."""

    def __init__(self, caplog: pytest.LogCaptureFixture, entries: list[Any]) -> None:
        self._caplog, self._entries = caplog, entries

    @property
    def text(self) -> str:
        """One text of all records, their tracebacks among them."""
        return "\n".join([self._caplog.text, *(repr(entry) for entry in self._entries)])


@pytest.fixture
def logs(caplog: pytest.LogCaptureFixture) -> Iterator[LogText]:
    """Capture what is logged, from DEBUG on."""
    caplog.set_level(logging.DEBUG)
    with ExitStack() as stack:
        entries: list[Any] = []
        with contextlib.suppress(ImportError):
            from structlog.testing import capture_logs

            entries = stack.enter_context(capture_logs())
        yield LogText(caplog, entries)


# servers that do one odd thing


@dataclass
class RawRequest:
    """One request as it came over the wire."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    connection: int
    nth: int


def http_answer(body: Any, *, status: str = "200 OK", headers: Mapping[str, str] | None = None) -> bytes:
    """Build the bytes of an answer."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = {"Content-Type": "application/json", "Content-Length": str(len(raw)), **(headers or {})}
    head = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in lines.items()), "", ""]
    return "\r\n".join(head).encode() + raw


@dataclass
class Listener:
    """Accepts connections on loopback and gives each to a thread."""

    talk: Callable[[socket.socket, int], None]
    tls: ssl.SSLContext | None = None
    port: int = 0
    _open: list[socket.socket] = field(default_factory=list)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Listener:
        self._listening = socket.create_server(("127.0.0.1", self.port))
        self.port = self._listening.getsockname()[1]
        accepting = threading.Thread(target=self._accept, daemon=True)
        accepting.start()
        self._threads.append(accepting)
        return self

    def _accept(self) -> None:
        number = 0
        while True:
            try:
                plain, _ = self._listening.accept()
            except OSError:
                return
            number += 1
            thread = threading.Thread(target=self._serve, args=(plain, number), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, plain: socket.socket, number: int) -> None:
        with contextlib.suppress(OSError):
            served = self.tls.wrap_socket(plain, server_side=True) if self.tls else plain
            self._open.append(served)
            with served:
                self.talk(served, number)

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for served in self._open:
            with contextlib.suppress(OSError):
                served.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(timeout=10)


def read_request(reader: Any, *, connection: int, nth: int) -> RawRequest | None:
    """Read one request; None where the client closes."""
    lines = []
    while (line := reader.readline()) not in (b"\r\n", b""):
        lines.append(line.decode("latin-1").strip())
    if not lines:
        return None
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
    method, target, _ = lines[0].split(" ")
    body = reader.read(int(headers.get("content-length", "0")))
    return RawRequest(method, target, headers, body, connection, nth)


class OddServer:
    """A server whose every answer a test writes by hand, in bytes; None closes the connection."""

    api_key = "sk-simulator"

    def __init__(
        self,
        answer: Callable[[RawRequest], bytes | None],
        tls: ssl.SSLContext | None = None,
        base_path: str = "/v1",
        connection_extra: Mapping[str, str] | None = None,
    ) -> None:
        self.requests: list[RawRequest] = []
        self.connection_extra = connection_extra or {}
        self._answer, self._base_path = answer, base_path
        self.listener = Listener(self._talk, tls=tls)

    @property
    def url(self) -> str:
        """The base URL."""
        return f"{'https' if self.listener.tls else 'http'}://127.0.0.1:{self.listener.port}{self._base_path}"

    def _talk(self, served: socket.socket, connection: int) -> None:
        nth, reader = 0, served.makefile("rb")
        while True:
            nth += 1
            request = read_request(reader, connection=connection, nth=nth)
            if request is None:
                return
            self.requests.append(request)
            answer = self._answer(request)
            if answer is None:
                return
            served.sendall(answer)


@pytest.fixture
def odd_server(family: Family) -> Iterator[Callable[..., OddServer]]:
    """Start servers with answers written by hand, on the paths of this test's family."""
    with ExitStack() as stack:

        def start(answer: Callable[[RawRequest], bytes | None], **options: Any) -> OddServer:
            where = {"base_path": family.base_path, "connection_extra": family.extra}
            server = OddServer(answer, **{**where, **options})
            stack.enter_context(server.listener)
            return server

        yield start


@pytest.fixture
def answer_bytes() -> Callable[..., bytes]:
    """Build the bytes of an answer."""
    return http_answer


def pump(first: socket.socket, second: socket.socket) -> None:
    """Carry bytes both ways until either side closes."""

    def carry(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    back = threading.Thread(target=carry, args=(second, first), daemon=True)
    back.start()
    carry(first, second)
    back.join(timeout=10)


def port_of(url: str) -> int:
    """The port in a base URL."""
    return int(url.split(":")[2].split("/")[0])


class Proxy:
    """An HTTP proxy that leads every host name to one server on loopback."""

    def __init__(self, to_port: int) -> None:
        self.requests: list[RawRequest] = []
        self._to = to_port
        self.listener = Listener(self._talk)

    @property
    def address(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self.listener.port}"

    def _talk(self, served: socket.socket, connection: int) -> None:
        # unbuffered: what follows a CONNECT is not for the proxy to read
        request = read_request(served.makefile("rb", buffering=0), connection=connection, nth=1)
        if request is None:
            return
        self.requests.append(request)
        with socket.create_connection(("127.0.0.1", self._to)) as onward:
            if request.method == "CONNECT":
                served.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                pump(served, onward)
                return
            path = "/" + request.target.partition("://")[2].partition("/")[2]
            headers = {**request.headers, "connection": "close"}
            lines = [f"{request.method} {path} HTTP/1.1", *(f"{n}: {v}" for n, v in headers.items()), "", ""]
            onward.sendall("\r\n".join(lines).encode() + request.body)
            while data := onward.recv(65536):
                served.sendall(data)


@pytest.fixture
def proxy_to() -> Iterator[Callable[[str], Proxy]]:
    """Start a proxy that leads to a base URL's port, whatever host it is asked for."""
    with ExitStack() as stack:

        def start(url: str) -> Proxy:
            proxy = Proxy(port_of(url))
            stack.enter_context(proxy.listener)
            return proxy

        yield start


@dataclass(frozen=True)
class PrivateCa:
    """A certificate authority that nobody trusts by default, and a server certificate of it."""

    bundle: Path
    server: ssl.SSLContext


@pytest.fixture(scope="session")
def private_ca(tmp_path_factory: pytest.TempPathFactory) -> PrivateCa:
    """A CA and a certificate for 127.0.0.1, localhost, ft.example and Microsoft's sign-in host."""
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    folder = tmp_path_factory.mktemp("ca")
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())

    def named(name: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])

    def begun(name: str, public: Any) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(named(name))
            .issuer_name(named("A private CA"))
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
            .not_valid_after(datetime(2100, 1, 1, tzinfo=UTC))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False
            )
        )

    usage = {
        "content_commitment": False,
        "data_encipherment": False,
        "key_agreement": False,
        "encipher_only": False,
        "decipher_only": False,
        "key_encipherment": False,
    }
    ca = (
        begun("A private CA", ca_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(
            x509.KeyUsage(digital_signature=False, key_cert_sign=True, crl_sign=True, **usage), critical=True
        )
        .sign(ca_key, hashes.SHA256())
    )
    hosts = ("localhost", "ft.example", "login.microsoftonline.com")
    names = [x509.DNSName(host) for host in hosts]
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    certificate = (
        begun("a server", key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([*names, address]), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (folder / "ca.pem").write_bytes(ca.public_bytes(pem))
    (folder / "server.pem").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(pem)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    return PrivateCa(folder / "ca.pem", context)


@pytest.fixture
def tls_front(private_ca: PrivateCa) -> Iterator[Callable[[str], str]]:
    """Serve a base URL over TLS, with the private CA's certificate; returns the new base URL."""
    with ExitStack() as stack:

        def start(url: str) -> str:
            def talk(served: socket.socket, connection: int) -> None:
                with socket.create_connection(("127.0.0.1", port_of(url))) as onward:
                    pump(served, onward)

            listener = stack.enter_context(Listener(talk, tls=private_ca.server))
            return f"https://127.0.0.1:{listener.port}{urlsplit(url).path}"

        yield start


# both faces of the hook


class Faces:
    """Calls a hook method through its sync or its async face."""

    def __init__(self, face: str) -> None:
        self.face = face

    def __call__(self, hook: Any, method: str, *args: Any, **kwargs: Any) -> Any:
        if self.face == "sync":
            found = getattr(hook, method)(*args, **kwargs)
            return list(found) if method == "iter_pages" else found
        return asyncio.run(self._async(hook, method, *args, **kwargs))

    @staticmethod
    async def _async(hook: Any, method: str, *args: Any, **kwargs: Any) -> Any:
        found = getattr(hook, "aiter_pages" if method == "iter_pages" else f"a{method}")(*args, **kwargs)
        if method == "iter_pages":
            return [page async for page in found]
        return await found


@pytest.fixture(params=["sync", "async"])
def call(request: pytest.FixtureRequest) -> Faces:
    """``call(hook, "get_job", …)``: once through requests, once through aiohttp."""
    return Faces(request.param)


@pytest.fixture
def both() -> Callable[..., tuple[Any, Any]]:
    """Call both faces and return what each gave, or the error that each raised."""

    def call_both(hook: Any, method: str, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        found = []
        for face in ("sync", "async"):
            try:
                found.append(Faces(face)(hook, method, *args, **kwargs))
            except Exception as error:
                found.append(error)
        return found[0], found[1]

    return call_both
