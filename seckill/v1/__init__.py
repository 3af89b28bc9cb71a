"""Generated stubs; never edited."""
