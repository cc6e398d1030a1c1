"""Checks everything that the worker needs before or while it runs: settings, services, this machine."""

from worker.doctor.examination import examine
from worker.doctor.result import Result, healthy

__all__ = ["Result", "examine", "healthy"]
