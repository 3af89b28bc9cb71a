"""HTTP/2 of our own: the library, and connections to other services."""
