"""Proof of the books: one credit taken is one picture delivered, or that credit back to the payer, exactly once."""
