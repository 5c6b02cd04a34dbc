"""A local server that behaves like the real fine-tuning servers; for demos and for your own Dag tests."""

from __future__ import annotations

from airflow_ft_events.simulator.dialects import DIALECTS
from airflow_ft_events.simulator.fault_specs import RandomFaults
from airflow_ft_events.simulator.faults import Answer, ReceivedRequest
from airflow_ft_events.simulator.jobs import JobEndedError, JobStateError
from airflow_ft_events.simulator.limiter import Limiter
from airflow_ft_events.simulator.recordings import RecordingError, load_recording
from airflow_ft_events.simulator.simulator import Simulator, simulate

__all__ = [
    "DIALECTS",
    "Answer",
    "JobEndedError",
    "JobStateError",
    "Limiter",
    "RandomFaults",
    "ReceivedRequest",
    "RecordingError",
    "Simulator",
    "load_recording",
    "simulate",
]
