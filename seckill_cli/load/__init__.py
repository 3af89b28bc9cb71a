"""Cheap calls of a crowd: for the demo, rehearsals and the bench."""
