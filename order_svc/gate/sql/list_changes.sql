-- What was changed of the rules, latest first.
--   $1 bigint  only revisions below this one   $2 int  at most so many
SELECT revision, kind, operator, at, before::text AS before, after::text AS after
FROM gate_changes
WHERE revision < $1
ORDER BY revision DESC
LIMIT $2
