-- Let each statement of this transaction take longer than the service's others: the ledger is read
-- by its primary key, past the rows of all other sales.
--   $1 text  longest time in milliseconds
SELECT set_config('statement_timeout', $1, true)
