"""A connection: what it says, what proves who asks, the way to its server, and what must not be shown."""
