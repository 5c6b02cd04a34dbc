"""A connection: its settings, its credential, the network to its server, and what must not be shown."""
