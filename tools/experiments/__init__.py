"""Trainings for ``cmiei validate``: ``digits`` and ``reid`` have a ``train(attach, seed, ...)``.

From a checkout: ``cmiei validate --train tools.experiments.reid:train``.
"""
