"""A job's log as curves, the figure that draws them, and the page that contains it."""

from __future__ import annotations

from airflow_ft_events.report.figure import report_page, training_figure

__all__ = ["report_page", "training_figure"]
