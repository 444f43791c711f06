"""Trainings that a validation can be tried on; each is also an example of such a function."""
