"""Callbacks of stores: events that the SQL functions put into an outbox, delivered as Standard Webhooks.

Decision: docs/decisions/0024-events-and-callbacks.md. For partners: docs/webhooks.md.
"""
