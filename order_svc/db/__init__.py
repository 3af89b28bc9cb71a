"""The database: its pool, its statements, its schema."""
