"""The file of numbers that a server keeps beside a job's events; the log's files stay the server's log."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from airflow_ft_events.archive.files import write_file
from airflow_ft_events.archive.layout import Layout
from airflow_ft_events.archive.manifest import Manifest, Part, Place
from airflow_ft_events.archive.reader import StoredArchive
from airflow_ft_events.archive.spool import line_of
from airflow_ft_events.events import EventIds, place_of
from airflow_ft_events.parameters import is_same_job


def metrics_part(
    metrics: Sequence[dict[str, Any]], target: Path, *, layout: Layout, archive: str
) -> Part | None:
    """
    Write the numbers into a local file.

    :param metrics: metrics events, oldest first; if there are none, nothing is written.
    :param target: the file.
    :param layout: its format, the log's own.
    :param archive: the archive's name, from which the file's follows.
    :returns: the file as the manifest lists it; None if nothing was written.
    """
    if not metrics:
        return None
    written = write_file(lambda: map(line_of, metrics), target, layout, ids=EventIds)
    return Part(
        name=f"{archive}.metrics{layout.ending}",
        count=written.count,
        bytes=written.bytes,
        sha256=written.sha256,
        first_event=Place(**place_of(written.first)) if written.first else None,
        last_event=Place(**place_of(written.newest[-1])) if written.newest else None,
    )


def kept_metrics(
    stored: StoredArchive, there: Manifest | None, *, layout: Layout, job_id: str
) -> Part | None:
    """
    Find the archive's file of numbers if it can stay where the server gives none: it may have forgotten them.

    :param stored: the stored archive.
    :param there: its manifest as it is; None for none.
    :param layout: the format of the files that are written now.
    :param job_id: the job.
    :returns: the file; None if there is none of this job and format.
    """
    if there is None or there.metrics is None or not is_same_job(there.job.job_id, job_id):
        return None
    fits = (there.file_format, there.compression) == (layout.file_format, layout.compression)
    return there.metrics if fits and is_stored(stored, there, there) else None


def is_stored(stored: StoredArchive, there: Manifest | None, manifest: Manifest) -> bool:
    """
    Tell whether a manifest's file of numbers is in the archive already.

    :param stored: the stored archive.
    :param there: its manifest as it is; None for none.
    :param manifest: the manifest that is written now.
    :returns: True if the one that is there lists the same file, and the file is there.
    """
    numbers = manifest.metrics
    listed = there is not None and numbers is not None and there.metrics == numbers
    return listed and numbers is not None and stored.storage.size(numbers.name) == numbers.bytes
