"""A hot sale in buckets: each has a part of the stock, in a slot of its own (docs/adr/0044)."""
