"""From reservation events in Kafka to order rows, and the dead letters of what cannot be one."""
