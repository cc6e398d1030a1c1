"""Checks everything that the worker needs before or while it runs: settings, services, this machine."""
