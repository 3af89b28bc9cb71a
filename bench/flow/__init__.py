"""Whole human buyers against the public edge: page, wait, token, press, poll, pay."""
