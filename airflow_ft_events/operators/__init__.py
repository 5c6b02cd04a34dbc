"""The operators: collect a job's events."""
