"""The transfer: a job's whole log to object storage."""
