"""The worker at work, for people: `make demo`."""
