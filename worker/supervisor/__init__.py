"""`wearon-worker run`: the supervisor, and the parts that it keeps running."""
