"""Payments: what providers took, what became of it, and who may state it."""
