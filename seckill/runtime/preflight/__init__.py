"""What services tell of themselves before a sale: checks, and the CPU that they use."""
