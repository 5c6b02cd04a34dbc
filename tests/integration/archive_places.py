"""Where archives lie in tests: a folder, and an S3 server that is reached over HTTP as Airflow reaches it."""

from __future__ import annotations

import atexit
import json
import logging
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
from moto.server import ThreadedMotoServer

from airflow_ft_events.transfers.fine_tuning_to_object_storage import FineTuningEventsToObjectStorageOperator

SECRET = "wJalrXUtnFEMI-K7MDENG-bPxRfiCYEXAMPLEKEY"
PLACES = ("folder", "s3")


@cache
def s3_server() -> str:
    """Run an S3 server on loopback as long as this process runs; gives its URL.

    One for all tests, since Airflow keeps a store that it has opened under the id of its connection.
    """
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    atexit.register(server.stop)
    host, port = server.get_host_and_port()
    return f"http://{host}:{port}"


def aws_connection(url: str) -> str:
    """An Airflow connection to the server, as JSON for an environment variable."""
    extra = {"endpoint_url": url, "region_name": "us-east-1"}
    return json.dumps({"conn_type": "aws", "login": "AKIATEST", "password": SECRET, "extra": extra})


class Place:
    """An empty folder of one kind; tells what lies in it, and changes it behind the archive's back."""

    def __init__(self, kind: str, *, folder: Path, s3: str | None = None) -> None:
        self.kind = kind
        self._folder = folder
        self.bucket = f"bucket-{uuid4().hex}"
        if s3:
            self._s3: Any = boto3.client(
                "s3",
                endpoint_url=s3,
                aws_access_key_id="AKIATEST",
                aws_secret_access_key=SECRET,
                region_name="us-east-1",
            )
            self._s3.create_bucket(Bucket=self.bucket)

    def path(self, name: str) -> str:
        """The path of a file in it."""
        if self.kind == "folder":
            return str(self._folder / name)
        return f"s3://archive_store@{self.bucket}/logs/{name}"

    def names(self) -> list[str]:
        """What lies in it, folders below it as well."""
        if self.kind == "folder":
            found = [path for path in self._folder.rglob("*") if path.is_file()]
            return sorted(str(path.relative_to(self._folder)) for path in found)
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        keys = [each["Key"] for page in pages for each in page.get("Contents", ())]
        return sorted(key.removeprefix("logs/") for key in keys)

    def read(self, name: str) -> bytes:
        """The bytes of a file."""
        if self.kind == "folder":
            return (self._folder / name).read_bytes()
        found: bytes = self._s3.get_object(Bucket=self.bucket, Key=f"logs/{name}")["Body"].read()
        return found

    def files(self) -> dict[str, bytes]:
        """Everything."""
        return {name: self.read(name) for name in self.names()}

    def write(self, name: str, content: bytes) -> None:
        """Put a file there."""
        if self.kind == "folder":
            (self._folder / name).parent.mkdir(parents=True, exist_ok=True)
            (self._folder / name).write_bytes(content)
        else:
            self._s3.put_object(Bucket=self.bucket, Key=f"logs/{name}", Body=content)

    def remove(self, *names: str) -> None:
        """Take files away."""
        for name in names:
            if self.kind == "folder":
                (self._folder / name).unlink()
            else:
                self._s3.delete_object(Bucket=self.bucket, Key=f"logs/{name}")


def archived(job_id: str, path: object, **options: Any) -> dict[str, Any]:
    """Archive a job as a task does; gives the task's return value."""
    task = FineTuningEventsToObjectStorageOperator(
        task_id="archive",
        job_id=job_id,
        path=path,  # type: ignore[arg-type]
        **options,
    )
    found: dict[str, Any] = task.execute({})
    return found


def events_of(count: int, *, start: int = 0) -> list[dict[str, Any]]:
    """Events of a script, each with an id of its own and a second of its own."""
    return [
        {"id": f"ev-{n}", "created_at": 1_700_000_000 + n, "level": "info", "message": f"Step {n}"}
        for n in range(start, start + count)
    ]
