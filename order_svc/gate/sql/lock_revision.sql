-- Lock the rules against other changes, and return their revision.
SELECT revision FROM gate_revision FOR UPDATE
