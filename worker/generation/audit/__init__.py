"""Proof of the books: one credit taken is one picture delivered, or that credit back to the payer, exactly once."""

from worker.generation.audit.proof import audit
from worker.generation.audit.report import Finding, Report

__all__ = ["Finding", "Report", "audit"]
