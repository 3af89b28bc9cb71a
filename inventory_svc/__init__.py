"""The inventory stage: decides who gets a unit, and passes each reservation on to Kafka."""
