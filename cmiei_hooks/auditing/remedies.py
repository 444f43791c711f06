"""What to do, where several errors have the same remedy."""

from __future__ import annotations

__all__ = ["WAYS"]

WAYS = (
    "say with inputs= (--inputs) which columns the model gets, in the order of its arguments, and "
    "with labels= (--labels) and group_by= (--group-by) what else is in the batch; or with "
    "forward= (--forward) how the model is called with a batch; if it calls its head in training "
    "alone, add in_training_branch=True (--training-branch)"
)
"""The ways to say how a model is called with a batch."""
