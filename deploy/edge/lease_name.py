"""Names that Envoy's configuration and the agent share."""

# The runtime layer that the agent grants, and what its keys begin with.
LAYER = "lease"
