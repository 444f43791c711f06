"""The measures of influence by name, with their units. It needs no torch: a parser reads it too."""

__all__ = ["UNITS"]

UNITS = {"kl": "nats", "js": "nats", "ted": "logits", "bernoulli": "nats", "squared": "squared"}
"""The units of each measure. ``measures.MEASURES`` has the function to each name."""
