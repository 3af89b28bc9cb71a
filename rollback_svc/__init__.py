"""Brings the units of unpaid orders back on sale."""
