"""The API's protocol without a socket: requests to make, answers to read, pages to walk."""
