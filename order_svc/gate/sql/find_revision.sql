-- The revision of the rules.
SELECT revision FROM gate_revision
