"""Sales: their terms in the database, and what a rebuild of Redis reads of them."""
