"""The digits are learned."""

from __future__ import annotations

import functools

import cmiei_hooks
from tools.experiments import digits


def test_digits_are_learned():
    attach = functools.partial(cmiei_hooks.attach, log=False)
    assert digits.train(attach, 0, epochs=2)["accuracy"] > 0.8
