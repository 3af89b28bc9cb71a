-- How many sales have a policy.
SELECT count(*) AS policies FROM gate_policies
