"""The API's exchange without a socket, and the two transports that carry it."""
