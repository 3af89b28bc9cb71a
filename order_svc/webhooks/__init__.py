"""Order events by HTTP, signed, for those who do not read Kafka (docs/webhooks.md)."""
