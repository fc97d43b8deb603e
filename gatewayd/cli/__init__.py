"""Commands: each parses its arguments, calls the composition root and prints."""
