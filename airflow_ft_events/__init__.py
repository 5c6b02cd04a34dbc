"""An Apache Airflow provider that follows fine-tuning jobs on any server with OpenAI's fine-tuning API."""

from __future__ import annotations

__version__ = "0.1.0"
