"""Order events by signed HTTP requests, for receivers without Kafka (docs/webhooks.md)."""
