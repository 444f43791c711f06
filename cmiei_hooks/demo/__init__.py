"""The demonstration: handwritten digits as three views, trained without and with C-MIEI."""
