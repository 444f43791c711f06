"""``verify`` runs the model once and checks what the promise of silence depends on, line by line.

The model is left as it was; ``strict=True`` turns a failed check into an error.
"""

from .dry_run import verify
from .report import Check, VerifyReport

__all__ = [
    "Check",
    "VerifyReport",
    "verify",
]
