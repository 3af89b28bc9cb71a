"""One sale, live: what the services tell of it, sampled and drawn in a terminal."""
