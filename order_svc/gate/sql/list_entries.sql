-- Entries in force, oldest first.
--   $1 text    list, '' for both        $2 text  kind, '' for all
--   $3 bigint  only ids above this one  $4 int   at most so many
SELECT id, list, kind, value, reason, expires_at, operator, at
FROM gate_entries
WHERE ($1 = '' OR list = $1) AND ($2 = '' OR kind = $2) AND id > $3
    AND (expires_at IS NULL OR expires_at > now())
ORDER BY id
LIMIT $4
