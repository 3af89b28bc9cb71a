"""Revisions, oldest first; each runs the SQL file of its own name."""
