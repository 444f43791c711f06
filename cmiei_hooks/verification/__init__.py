"""``verify``: one dry run that checks what the promise of silence rests on.

It leaves the model as it was and reports one line for each check.
"""

from .dry_run import Check, VerifyReport, verify

__all__ = [
    "Check",
    "VerifyReport",
    "verify",
]
