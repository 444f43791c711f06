"""Which settings change nothing beside the others. What people read leaves them out."""

from __future__ import annotations

from .config import Config

__all__ = ["without_effect"]

_SOFT = frozenset({"tau_samples", "tau_modalities", "rate", "gate"})
_DOMINANT = frozenset({"abs_thr", "rel_thr", "sample_level", "relative"})
_WARMUP = frozenset({"warmup_epochs", "warmup_steps"})
_ENDS = frozenset({"end_epoch", "end_step"})
_ACTING = frozenset({"selection", "sigma", "sigma_unit"}) | _SOFT | _DOMINANT | _WARMUP | _ENDS
"""What decides which samples are substituted, when, and by what."""


def without_effect(config: Config) -> frozenset[str]:
    """The settings that have no effect on the training, by lower-case name.

    Example:
        >>> "warmup_epochs" in without_effect(Config(p_max=0))
        True
    """
    if not config.p_max and config.sample_level:
        # P_MAX does not apply to SAMPLE_LEVEL False, with which it would act; SELECTION soft
        # refuses that.
        return _ACTING if config.selection == "soft" else _ACTING - {"sample_level"}
    idle = {"warmup_steps" if config.warmup_steps is None else "warmup_epochs"}
    if config.selection == "soft":
        return _DOMINANT | idle | {"p_max"}
    return _SOFT | idle | (set() if config.sample_level else {"p_max"})
