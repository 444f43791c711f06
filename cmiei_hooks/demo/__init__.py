"""The demonstration: handwritten digits in three views, trained without and with C-MIEI."""

from .comparison import comparison_table, summary_sentence
from .views_model import WIDTH, ViewsModel

__all__ = ["WIDTH", "ViewsModel", "comparison_table", "summary_sentence"]
