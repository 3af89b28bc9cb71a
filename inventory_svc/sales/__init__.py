"""Sales: their terms and state, their rebuild, and what watchers are told of them."""
