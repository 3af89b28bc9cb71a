"""The inventory service: decides who gets a unit, and relays each reservation to Kafka."""
