"""Whole visits of humans to the public edge: page, wait, token, purchase, poll, pay."""
