"""What watches a mesh: alert rules, dashboards, and the picture of a sale."""
