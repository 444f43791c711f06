"""The demonstration: handwritten digits in three views, trained without and with C-MIEI."""

from .comparison import comparison_table, summary_sentence
from .training_loop import Batches, train_epochs
from .views_model import WIDTH, ViewsModel

__all__ = [
    "WIDTH",
    "Batches",
    "ViewsModel",
    "comparison_table",
    "summary_sentence",
    "train_epochs",
]
