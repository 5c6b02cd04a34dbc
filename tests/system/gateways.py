"""Gateways that operators put before a server, each a real process, and waits that go through them."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from airflow_ft_events.clock import Clock
from airflow_ft_events.simulator import Simulator
from airflow_ft_events.waiting.poller import JobPoller
from tests.integration.conftest import FakeTask, Follower
from tests.system.live import Component, MissingError, free_port, unprivileged, wait_for

INTERVAL = 1.0
"""Seconds between two polls of a wait."""


def program(name: str) -> str:
    """
    Find a program of Debian's; those of servers may not be on an ordinary user's PATH.

    :param name: it, and the package that has it.
    """
    if found := shutil.which(name, path=f"{os.environ['PATH']}{os.pathsep}/usr/sbin"):
        return found
    raise MissingError(f"{name} is not here (on Debian: apt-get install {name})")


@dataclass
class Gateway:
    """One gateway that runs."""

    port: int
    folder: Path
    component: Component

    @property
    def log(self) -> str:
        """What it logged of the requests that it got."""
        return "\n".join(
            path.read_text() for path in (self.folder / "access.log", self.component.log) if path.exists()
        )

    def restart(self) -> None:
        """Start it again, with what its files say now."""
        self.component.end()
        self.await_start()

    def await_start(self) -> None:
        """Start it and wait until it listens."""
        self.component.start()
        wait_for(f"{self.component.name} listens", self._listens, within=20, every=0.05, also=self._runs)

    def _runs(self) -> None:
        if not self.component.runs:
            raise AssertionError(f"{self.component.name} ended:\n{self.component.tail()}")

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


class Gateways:
    """
    Starts gateways as an ordinary user, on free ports of loopback.

    :param folder: for their files.
    :param started: where every process is noted.
    """

    def __init__(self, folder: Path, started: list[Component]) -> None:
        self._folder, self._started = folder, started

    def nginx(self, *, http: str = "", server: str) -> Gateway:
        """
        Start nginx.

        :param http: directives of its ``http`` block.
        :param server: those of its one ``server``.
        """
        folder, port = self._new("nginx")
        temporary = "\n".join(
            f"{kind}_temp_path {folder / kind};"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        text = f"""
            daemon off;
            worker_processes 1;
            pid {folder / "nginx.pid"};
            error_log stderr;
            events {{ worker_connections 64; }}
            http {{
                {temporary}
                log_format short '$status $request_method $uri';
                access_log {folder / "access.log"} short;
                {http}
                server {{
                    listen 127.0.0.1:{port};
                    {server}
                }}
            }}
        """
        (folder / "nginx.conf").write_text(text)
        options = ["-e", "stderr", "-p", str(folder), "-c", str(folder / "nginx.conf")]
        return self._start("nginx", [program("nginx"), *options], folder, port)

    def haproxy(
        self, *, bind: str = "", frontend: str = "", to: Simulator, files: Mapping[str, str] | None = None
    ) -> Gateway:
        """
        Start HAProxy in front of a simulator.

        :param bind: options of its one ``bind``.
        :param frontend: the rules of its frontend.
        :param to: the simulator.
        :param files: more files in its folder, in which it runs.
        """
        folder, port = self._new("haproxy")
        for name, content in (files or {}).items():
            (folder / name).write_text(content)
        text = f"""
global
    log stdout format raw local0
defaults
    mode http
    log global
    option httplog
    timeout connect 5s
    timeout client 30s
    timeout server 30s
frontend gateway
    bind 127.0.0.1:{port} {bind}
    {frontend}
    default_backend simulator
backend simulator
    server one {to.base_url.split("/")[2]}
"""
        (folder / "haproxy.cfg").write_text(text)
        return self._start(
            "haproxy", [program("haproxy"), "-db", "-f", str(folder / "haproxy.cfg")], folder, port
        )

    def squid(self, *, passwords: str) -> Gateway:
        """
        Start squid, which opens tunnels for users that it knows.

        :param passwords: users and their hashed passwords, as Apache's htpasswd writes them.
        """
        folder, port = self._new("squid")
        (folder / "passwords").write_text(passwords)
        text = f"""
http_port 127.0.0.1:{port}
pid_filename {folder / "squid.pid"}
cache_log {folder / "cache.log"}
access_log stdio:{folder / "access.log"}
coredump_dir {folder}
cache deny all
pinger_enable off
netdb_filename none
max_filedescriptors 1024
shutdown_lifetime 0 seconds
auth_param basic program /usr/lib/squid/basic_ncsa_auth {folder / "passwords"}
auth_param basic children 1 startup=1
acl known proxy_auth REQUIRED
acl tunnel method CONNECT
http_access allow tunnel known
http_access deny all
"""
        (folder / "squid.conf").write_text(text)
        # its shared memory is named after the service, and the machine may have a squid of its own
        options = ["-N", "-n", f"ft{port}", "-f", str(folder / "squid.conf")]
        return self._start("squid", [program("squid"), *options], folder, port)

    def _new(self, name: str) -> tuple[Path, int]:
        folder, port = self._folder, free_port()
        folder = folder / f"{name}-{port}"
        folder.mkdir()
        return folder, port

    def _start(self, name: str, command: list[str], folder: Path, port: int) -> Gateway:
        as_user = unprivileged()
        if as_user:
            for path in (folder, *folder.iterdir()):
                os.chown(path, as_user["user"], as_user["group"])
        environment = {"PATH": os.environ["PATH"], "LC_ALL": "C", "TZ": "UTC", "HOME": str(folder)}
        component = Component(
            name, command, environment, folder / "output.log", {"cwd": str(folder), **as_user}
        )
        self._started.append(component)
        gateway = Gateway(port, folder, component)
        gateway.await_start()
        return gateway


@dataclass
class Waits:
    """Waits for jobs in any mode, in real time, and notes every poll."""

    monkeypatch: pytest.MonkeyPatch
    polls: list[float] = field(default_factory=list)
    plans: dict[int, Callable[[], None]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._follow = Follower(Clock(), FakeTask(), self.monkeypatch)  # type: ignore[arg-type]
        original = JobPoller.poll

        def poll(poller: JobPoller, *, now: float, **options: Any) -> Any:
            self.polls.append(now)
            if act := self.plans.get(len(self.polls)):
                act()
            return original(poller, now=now, **options)

        self.monkeypatch.setattr(JobPoller, "poll", poll)

    def before_poll(self, number: int, act: Callable[[], None]) -> None:
        """
        Do something before a poll.

        :param number: which one, from 1.
        :param act: what to do.
        """
        self.plans[number] = act

    def connect(self, host: str, *, key: str = "sk-simulator", **extra: Any) -> None:
        """Write the connection, or write it anew."""
        made = {"conn_type": "fine_tuning", "host": host, "password": key, "extra": extra}
        self.monkeypatch.setenv("AIRFLOW_CONN_FINE_TUNING_DEFAULT", json.dumps(made))

    def __call__(self, mode: str, job_id: str, **options: Any) -> Any:
        options = {"poke_interval": INTERVAL, "timeout": 60, "raise_on_failure": False, **options}
        return self._follow(mode, job_id, **options)

    def since_end(self, sim: Simulator, job_id: str) -> int:
        """Count the polls that could read that a job had ended, in its status and in its log."""
        ended = max(event["created_at"] for event in sim.list_events(job_id))
        return sum(moment >= ended for moment in self.polls)


@dataclass(frozen=True)
class Identity:
    """A certificate and its key, as PEM."""

    certificate: str
    key: str
    signing: Any


def identity(name: str, *, issuer: Identity | None = None) -> Identity:
    """
    Make a certificate.

    :param name: whose.
    :param issuer: the CA that signs it; without one it is a CA itself.
    """
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    def named(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])

    key = ec.generate_private_key(ec.SECP256R1())
    signing = issuer.signing if issuer else key
    above = x509.load_pem_x509_certificate(issuer.certificate.encode()).subject if issuer else named(name)
    usage = dict.fromkeys(
        ("content_commitment", "data_encipherment", "key_agreement", "encipher_only", "decipher_only"), False
    )
    signs = x509.KeyUsage(
        digital_signature=issuer is not None,
        key_encipherment=False,
        key_cert_sign=issuer is None,
        crl_sign=issuer is None,
        **usage,
    )
    made = (
        x509.CertificateBuilder()
        .subject_name(named(name))
        .issuer_name(above)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2100, 1, 1, tzinfo=UTC))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(signs, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key()), critical=False
        )
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .sign(signing, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return Identity(made.public_bytes(pem).decode(), private.decode(), key)
