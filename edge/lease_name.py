"""Names that Envoy's configuration and the agent share."""

# The runtime layer that the agent grants, and the prefix of its keys.
LAYER = "lease"
# The keys of the shares of purchases that the agent has Envoy refuse, each with another delay: this
# and a number. No routes' generation is in them, as they hold for all.
SHED = f"{LAYER}.shed"
