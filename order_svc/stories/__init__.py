"""What is on record about single orders, for operators."""
