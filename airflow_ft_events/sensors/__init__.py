"""The sensor: a wait for the end of a job."""
