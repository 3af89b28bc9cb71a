-- Release claims whose attempts were cancelled, so that they need not expire.
--   $1 bigint[]       deliveries
--   $2 timestamptz[]  the caller's claims
UPDATE webhook_deliveries
SET due_at = now(), claimed_until = NULL
FROM unnest($1::bigint[], $2::timestamptz[]) AS own (id, claimed_until)
WHERE webhook_deliveries.id = own.id AND webhook_deliveries.claimed_until = own.claimed_until
