"""The archive of a job's log: its files, the manifest that lists them, and how to read them back."""

from __future__ import annotations

from airflow_ft_events.archive.reader import read_archive, read_archive_metrics

__all__ = ["read_archive", "read_archive_metrics"]
