"""The fence: a Redis primary that was left behind promises nobody a unit (docs/adr/0019)."""
