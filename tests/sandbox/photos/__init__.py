"""The photo host and its pictures."""
