"""What the traffic of pages costs purchases: `python -m bench.pages`."""
