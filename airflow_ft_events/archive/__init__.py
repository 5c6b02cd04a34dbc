"""The archive of a job's log: parts, the manifest that names them, and how to read them back."""
