"""The gate: its grammar of conditions, and how a log is evaluated by them."""
