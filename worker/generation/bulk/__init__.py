"""Bulk by an operator: a manifest of try-ons of one store, queued, followed and cancelled. Decision 0027."""
