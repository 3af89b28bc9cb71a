"""Alembic environment of the order database."""
