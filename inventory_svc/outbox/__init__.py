"""The outbox: from the entry that reserve.lua wrote to the reservation event on Kafka."""
