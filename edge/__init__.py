"""The edge: Envoy for the public, its configuration, and the agent beside it.

`python -m edge.render` writes the configuration from the settings (SECKILL_EDGE_…);
`python -m edge` runs the agent, which decides what Envoy may refuse without asking the gateway.
"""
