-- Delete events that Kafka has acknowledged.
--   $1 bigint[]  their numbers
DELETE FROM order_events WHERE id = ANY ($1)
