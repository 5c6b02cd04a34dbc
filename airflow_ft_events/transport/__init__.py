"""The transports: they carry whole requests and answers, enforce byte limits, and decide nothing."""
