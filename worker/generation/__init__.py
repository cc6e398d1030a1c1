"""Queue side: a message on the Redis list becomes a stored try-on picture."""
