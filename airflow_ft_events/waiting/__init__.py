"""One wait: what it asks, what the answers mean for it, what it remembers and what it logs."""
