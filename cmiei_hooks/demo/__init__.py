"""The demonstration: handwritten digits in three views, trained without and with C-MIEI."""

from .views_model import WIDTH, ViewsModel

__all__ = ["WIDTH", "ViewsModel"]
