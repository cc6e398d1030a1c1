"""The WhatsApp bridge: takes Grafana's notifications over HTTP and sends them as a linked device of a WhatsApp account.

A program and an image of its own (bridge/Dockerfile, requirements/bridge.txt); the worker knows nothing of it.
"""
