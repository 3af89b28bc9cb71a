"""What developers run beside the project: generation, pinned tools, checks."""
