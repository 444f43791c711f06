"""Trainings to validate on: each module has a ``train(attach, seed, ...)``."""
