"""Measure a checkpoint: loading, running, figures, report. Nothing is trained."""

from .report import AuditReport
from .run import audit

__all__ = ["AuditReport", "audit"]
