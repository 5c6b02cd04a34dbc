"""The gate: the grammar of its conditions, and their evaluation on a log."""
