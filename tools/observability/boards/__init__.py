"""The dashboards, as data."""
