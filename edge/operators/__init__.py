"""The operators' listener: their console, and the methods that it calls, for operators only."""
