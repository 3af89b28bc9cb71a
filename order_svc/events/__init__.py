"""Order events: sent to Kafka from the transactional outbox."""
