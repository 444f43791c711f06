"""The arms: what the runs of one seed differ in (nothing attached, C-MIEI, its settings, controls,
peers).

To add an arm, put it into ``arms_of``, and what it is compared with into ``COMPARISONS``. The name
of a peer goes into ``peer_names.py``, the peer into ``_peer``; it is compared with the plain run
and the method.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ..auditing import import_function
from ..errors import CMIEIError, ValidationError
from ..fusion import refuse_misfit
from ..settings import ENDS, PRESETS, Config
from .arm_times import NEVER, Length, Times, can_act
from .peer_names import PEERS, read_peer

__all__ = [
    "COMPARISONS",
    "INERT",
    "PLAIN",
    "Arm",
    "Length",
    "arms_of",
    "comparisons_of",
    "own_arms",
    "refuse_settings",
    "refuse_too_short",
    "sensitivity_of",
    "why_missing",
]


@dataclass(frozen=True)
class Arm:
    """One way to train."""

    name: str
    kind: Literal["plain", "disabled", "attached", "random", "dropout"] = "attached"
    """Nothing attached; attached with ``ENABLED False``; attached; or one of the two controls."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings of C-MIEI that override those of the user."""
    follows: str | None = None
    """The arm that a control follows: in every step it substitutes as many samples as that arm did
    with the same seed."""
    strategy: str = ""
    """``module:function`` of a ``make(config, noise, **options)`` that returns a ``Strategy``;
    empty: the settings decide."""
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def file(self) -> str:
        """Its name as part of the name of a file."""
        return "".join(c if c.isalnum() else "-" for c in self.name)


PLAIN = Arm("plain", "plain")
INERT = Arm(
    "inert",
    settings={
        "warmup_epochs": Config.warmup_epochs,  # its default: it may not be set beside steps
        "warmup_steps": NEVER,
        "end_epoch": None,
        "end_step": NEVER + 1,  # some presets need one
    },
)


COMPARISONS = (
    ("method", "plain"),
    ("method", "random"),
    ("method", "dropout"),
    ("method", "never ending"),
    ("never ending", "plain"),
    ("stopped", "plain"),
    ("stopped", "method"),
    ("stopped", "stopped random"),
    ("random", "plain"),
    ("dropout", "plain"),
    ("relative", "plain"),
    ("relative", "stopped"),
    ("strong", "plain"),
    ("strong", "strong random"),
    ("selfpaced", "plain"),
    ("selfpaced", "method"),
    ("selfpaced", "selfpaced random"),
    ("selfpaced", "random gated"),
    ("random gated", "plain"),
)
"""The differences in the report: the first arm minus the second. Those of peers come after them."""


def comparisons_of(arms: Iterable[Arm]) -> list[tuple[str, str]]:
    """The differences between these arms."""
    arms = list(arms)
    peers = [arm.name for arm in arms if arm.strategy]
    of_peers = [
        pair for peer in peers for pair in ((peer, "plain"), ("method", peer), ("selfpaced", peer))
    ]
    names = {arm.name for arm in arms}
    return [pair for pair in (*COMPARISONS, *of_peers) if names.issuperset(pair)]


def arms_of(config: Config, length: Length, names: Collection[str] = ()) -> list[Arm]:
    """The arms that run with every seed, without the plain and the inert one.

    Args:
        config: the user's settings. With an ``END_EPOCH`` or ``END_STEP`` there is an arm that
            never ends; without one there is an arm that stops after 70 % of the training. Both are
            counted in steps if the user counts in steps, or if nobody tells the epochs.
        length: of a training.
        names: those of further peers, as ``dropout 45 % until 90 %``.
    """
    inert, times = INERT.settings, Times(config, length)
    arms = [
        Arm("method"),
        Arm("random", "random", inert, "method"),
        Arm("dropout", "dropout", inert, "method"),
    ]
    ends = {"end_epoch": config.end_epoch, "end_step": config.end_step}
    ending = any(end is not None for end in ends.values())
    stop = ends if ending else times.until(0.7)
    if ending:
        arms.append(Arm("never ending", settings=times.never))
    if can_act(config, stop):
        if not ending:
            arms.append(Arm("stopped", settings=stop))
            arms.append(Arm("stopped random", "random", inert, "stopped"))
        if config.sample_level and config.selection == "dominant":
            arms.append(Arm("relative", settings={**stop, "relative": True}))
    if config.sample_level and times.can_act(0.6):
        strong = {"relative": True, "k": 1, "p_max": 1.0, "rel_thr": 1.0, "selection": "dominant"}
        arms.append(Arm("strong", settings={**strong, **times.at_once, **times.until(0.6)}))
        alike = {} if config.selection == "dominant" else {"selection": "dominant"}
        arms.append(Arm("strong random", "random", {**inert, **alike}, "strong"))
    share = ENDS["selfpaced"]
    if config.sample_level and times.can_act(share):
        preset = {"relative": False, **PRESETS["selfpaced"], "preset": "selfpaced"}
        paced = {**preset, **times.at_once, **times.until(share)}
        arms.append(Arm("selfpaced", settings=paced))
        arms.append(Arm("selfpaced random", "random", {**paced, **inert}, "selfpaced"))
        untargeted = {**paced, "tau_samples": 0.0, "tau_modalities": 0.0}
        arms.append(Arm("random gated", settings=untargeted))
    peers = [_peer(name, times) for name in dict.fromkeys([*PEERS, *names])]
    return [*arms, *(peer for peer in peers if peer is not None)]


def _peer(name: str, times: Times) -> Arm | None:
    """The peer of this name; None if there is none, or if it could not act.

    Raises:
        ValidationError: it has a number out of range.
    """
    peer = read_peer(name)
    if peer is None or not times.can_act(peer.share or 1.0):
        return None
    settings: dict[str, Any] = {
        **times.at_once,
        **(times.until(peer.share) if peer.share else times.never),
    }
    if peer.kind == "OGM-GE":
        settings["inplace"] = False
        function, options = "gradient_modulation:GradientModulation", {"alpha": peer.number}
    elif peer.kind == "random one":
        function, options = "peers:RandomModality", {}
    else:
        options = {"rate": peer.number}
        function = f"peers:{'ModalityDropout' if peer.kind == 'dropout' else 'RandomModalities'}"
    if peer.kind.startswith("random"):
        settings |= {"sigma": 1.0, "sigma_unit": "std"}
    return Arm(name, settings=settings, strategy=f"{_HERE}.{function}", options=options)


def why_missing(name: str, config: Config) -> str:
    """Why a training with these settings does not have an arm of this name; empty if unknown."""
    ending = (config.end_epoch, config.end_step) != (None, None)
    if name == "never ending" and not ending:
        return "neither END_EPOCH nor END_STEP is set, so the method never ends"
    if name.startswith("stopped"):
        if ending:
            return "the method is stopped already, by END_EPOCH or END_STEP"
        return "70 % of the training is not longer than the warm-up"
    if name in _OF_SAMPLES and not config.sample_level:
        return "SAMPLE_LEVEL is False"
    if name == "relative" and config.selection == "soft":
        return "SELECTION is soft"
    return "the training is too short" if name in _OF_SAMPLES else ""


_OF_SAMPLES = (
    "relative",
    "strong",
    "strong random",
    "selfpaced",
    "selfpaced random",
    "random gated",
)
"""The arms that decide for each sample."""


def refuse_too_short(name: str, config: Config, length: Length) -> None:
    """Refuse a peer that ends before it could act.

    Args:
        name: of any arm.
        config: the user's settings.
        length: of the training.

    Raises:
        ValidationError: in so short a training its share is less than one step or epoch.
    """
    times, peer = Times(config, length), read_peer(name)
    if peer is None or peer.share is None or times.can_act(peer.share):
        return
    least = next((share for share in range(1, 101) if times.can_act(share / 100)), 100)
    raise ValidationError(
        f"the arm {name!r} cannot act: it ends before it begins",
        got=f"an end after {100 * peer.share:.0f} % of a training of {times.whole}",
        expected=f"an end after {least} % to 100 %",
        remedy=f"write {name.partition(' until ')[0] + f' until {least} %'!r}, or train longer",
    )


_HERE = __name__.rpartition(".")[0]


def own_arms(functions: Mapping[str, str], known: Iterable[str] = ()) -> list[Arm]:
    """Arms of the user's own: strategies in place of the method, with its settings.

    Args:
        functions: for each name ``module:function`` of a ``make(config, noise)`` that returns a
            ``Strategy``, as for ``attach(..., strategy=make)``.
        known: names of other arms.

    Raises:
        ValidationError: there is another arm of this name, or the function takes other arguments.
        CheckpointError: the function cannot be imported.
    """
    others, known = [*map(Arm, known)], ", ".join(known)
    arms = [Arm(name, strategy=function) for name, function in functions.items()]
    for arm in arms:
        if arm.file in [other.file for other in (*others, *arms) if other is not arm]:
            raise ValidationError(
                "an arm of your own needs a name of its own",
                got=repr(arm.name),
                expected=f"another name than {known}" if known else "names that differ in letters",
                remedy="--arm NAME=MODULE:FUNCTION with another name",
            )
        refuse_misfit(
            import_function(arm.strategy),
            ((None, None), {}),
            ValidationError,
            f"{arm.strategy} cannot be called with the settings and the noise",
            got=f"the arm {arm.name!r}",
            remedy="write a function make(config, noise) that returns a Strategy, as for "
            "attach(..., strategy=make)",
        )
    return arms


def sensitivity_of(config: Config) -> list[Arm]:
    """The method with one setting changed at a time."""
    excess = config.rel_thr - 1
    values: dict[str, tuple[float, ...]] = {
        "sigma": (0.02, 0.05, 0.1),
        "p_max": (0.2, 0.5),
        "abs_thr": (config.abs_thr / 2, config.abs_thr * 2),
        "rel_thr": (1 + excess / 2, max(1 + excess * 2, 0.0)),
    }
    if config.selection == "soft":
        values = {
            "sigma": (config.sigma / 2, config.sigma * 2),
            "tau_samples": (0.0, config.tau_samples * 2),
            "tau_modalities": (0.0, config.tau_modalities / 2),
            "rate": (0.3, 0.5, 0.7),
        }
        values |= {} if config.gate is None else {"gate": (0.0,)}
    return [
        Arm(f"{key.upper()} {value:g}", settings={key: value})
        for key, tried in values.items()
        for value in tried
        if value != getattr(config, key)
    ]


def refuse_settings(config: Config, arms: Iterable[Arm]) -> None:
    """Refuse an arm whose settings contradict those of the user, before it runs.

    Raises:
        ConfigError: its message names the arm.
    """
    for arm in arms:
        try:
            config.override(**arm.settings)
        except CMIEIError as error:
            raise error.at(f"arm {arm.name!r}") from None
