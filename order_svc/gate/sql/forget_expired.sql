-- Remove entries that have expired: what was added is on record in gate_changes.
DELETE FROM gate_entries WHERE expires_at <= now()
