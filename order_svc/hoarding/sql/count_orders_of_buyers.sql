-- What became of the orders of buyers over all sales, in the order of the buyers; counted to $4.
--   $1 text[]    users
--   $2 bytea[]   keyed hashes of their payment fingerprints, empty for none
--   $3 interval  how far back orders count that are paid, or were not
--   $4 int       where counting ends
--   $5 int       latest sightings of a fingerprint that are looked at
SELECT (SELECT count(*) FROM (
            SELECT FROM orders o
            WHERE o.user_id = b.user_id AND o.status = 'pending'
            LIMIT $4) counted) AS pending,
       (SELECT count(*) FROM (
            SELECT FROM orders o
            WHERE o.user_id = b.user_id AND o.status = 'cancelled' AND o.cancelled_at > now() - $3::interval
              AND (o.cancel_reason <> 'buyer'
                   OR o.cancelled_at > o.created_at + (o.expires_at - o.created_at) / 2)
            LIMIT $4) counted) AS unpaid,
       (SELECT count(*) FROM (
            SELECT FROM orders o
            WHERE o.user_id = b.user_id AND o.status = 'paid' AND o.paid_at > now() - $3::interval
            LIMIT $4) counted) AS paid,
       (SELECT count(*) FROM (
            SELECT FROM (
                SELECT s.order_no
                FROM order_sightings s
                WHERE b.fingerprint <> '' AND s.fingerprint = b.fingerprint
                ORDER BY s.at DESC
                LIMIT $5) sighted
            JOIN orders o USING (order_no)
            WHERE o.status = 'pending'
            LIMIT $4) counted) AS fingerprint_pending
FROM unnest($1::text[], $2::bytea[]) WITH ORDINALITY AS b (user_id, fingerprint, place)
ORDER BY b.place
