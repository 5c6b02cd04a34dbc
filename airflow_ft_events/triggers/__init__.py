"""The triggers, and what all waits of a triggerer share."""
