"""``verify`` runs the model and checks what ``attach`` depends on, one line for each check.

The model is left as it was; ``strict=True`` turns a failed check into an error.
"""

from .dry_run import verify
from .report import Check, VerifyReport

__all__ = [
    "Check",
    "VerifyReport",
    "verify",
]
