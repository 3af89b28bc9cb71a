"""What serves HTTP/2 of our own: a listener, its connections, and what is passed on behind it."""
