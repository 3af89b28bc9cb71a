"""Fixtures of several files here."""

from tests.kits.order_store import store

__all__ = ["store"]
