"""`python -m bench`: the numbers of the README, measured side by side on this machine."""
