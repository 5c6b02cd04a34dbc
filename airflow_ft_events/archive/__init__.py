"""The archive of a job's log: its parts, the manifest that names them, and how to read them back."""

from __future__ import annotations

from airflow_ft_events.archive.reader import read_archive

__all__ = ["read_archive"]
