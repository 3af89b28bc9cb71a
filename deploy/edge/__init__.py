"""The edge: Envoy for the public, its configuration, and the agent beside it.

`python -m deploy.edge.render` writes the configuration from the settings (SECKILL_EDGE_…);
`python -m deploy.edge` runs the agent, which tells Envoy what it may refuse by itself.
"""
