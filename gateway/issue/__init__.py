"""Issues purchase tokens, charged to buckets that all gateways share."""
