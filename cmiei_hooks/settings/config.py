"""The settings: one frozen dataclass."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from ..errors import CMIEIError, ConfigError, SplitsError, did_you_mean, relative_needs_samples
from ..units import UNITS
from .checks import BOOLEAN, FILL, MODULE, NAMES, WIDTHS, choice, integer, number
from .presets import ENDS, OF_PRESETS, PRESETS, in_words, refuse_overridden
from .setting import checked, setting
from .sources import read_source

__all__ = ["Config", "ConfigSource"]

ConfigSource: TypeAlias = "Config | str | os.PathLike[str] | Mapping[str, Any] | object | None"
"""What ``attach``, ``audit`` and ``verify`` take as ``config=``."""


@dataclass(frozen=True)
class Config:
    """All settings of C-MIEI. In YAML they have the same names in upper case.

    Each field carries its check and its description; ``docs/configuration.md`` and
    ``configs/default.yml`` are generated from them.

    Raises:
        ConfigError: a value is of the wrong type or out of range, or two settings contradict each
            other.
        SplitsError: ``splits`` or ``names`` are wrong.

    Example:
        >>> Config(k=1, sigma=0.1).to_dict()["SIGMA"]
        0.1
    """

    enabled: bool = setting(
        False, BOOLEAN, "Whether `attach(config=...)` registers anything at all."
    )
    k: int = setting(3, integer(1), "Estimate the influence on every K-th training step.")
    sigma: float = setting(
        0.05,
        number(finite=True),
        "Standard deviation of the noise on a substituted modality, in units of the features "
        "(or as `SIGMA_UNIT` says).",
    )
    abs_thr: float = setting(
        0.03,
        number(),
        "The dominant influence must be larger than this (nats, or the units of `MEASURE`).",
    )
    rel_thr: float = setting(
        1.25,
        number(),
        "The dominant influence must be more than this many times the second largest.",
    )
    sample_level: bool = setting(
        True,
        BOOLEAN,
        "Decide for each sample. `False`: decide once for the batch, from its mean influences.",
    )
    p_max: float = setting(
        0.5, number(1.0), "At most this share of a batch is substituted (sample level only)."
    )
    warmup_epochs: int = setting(
        5, integer(0), "Epochs at the start in which influence is measured, nothing substituted."
    )
    preset: str = setting(
        "published",
        choice(*PRESETS),
        "Settings that belong together, under one name. `published`: the method as published, as "
        f"the defaults here. `selfpaced`: {in_words('selfpaced')}. Single settings beside it win.",
    )
    selection: str = setting(
        "dominant",
        choice("dominant", "soft"),
        "What is substituted. `dominant`: as published, the dominant modality of triggered "
        "samples. `soft`: each modality of each sample with a probability that depends on its "
        "influence (`TAU_SAMPLES`, `TAU_MODALITIES`, `RATE`), never all of a sample; `ABS_THR`, "
        "`REL_THR` and `P_MAX` (unless it is 0) have no effect then.",
    )
    tau_samples: float = setting(
        0.5,
        number(finite=True, least=-math.inf),
        "Soft selection: how much more often a modality is substituted in the samples that depend "
        "on it more than other samples do.",
    )
    tau_modalities: float = setting(
        -1.0,
        number(finite=True, least=-math.inf),
        "Soft selection: how much more often the modality is substituted that is strong in all "
        "samples; below 0, the weak one.",
    )
    rate: float = setting(
        0.5,
        number(1.0),
        "Soft selection: the probability of a modality that is as strong as the others.",
    )
    gate: float | None = setting(
        None,
        number(1.0, optional=True),
        "Soft selection: only samples whose predicted class has a probability above this are "
        "substituted, the surer the more often (measures of classes only). `null`: all samples.",
    )
    sigma_unit: str = setting(
        "feature",
        choice("feature", "std"),
        "Unit of `SIGMA`: `feature`, that of the features; or `std`, the standard deviation of "
        "each feature over the batch.",
    )
    drop: str = setting(
        "zero",
        choice("zero", "mean"),
        "Baseline that replaces a dropped modality: `zero`, or the batch `mean`.",
    )
    measure: str = setting(
        "kl",
        choice(*UNITS),
        "How the change of the prediction is measured: `kl`, `js` or `ted` for classes, "
        "`bernoulli` for sigmoid heads, `squared` for regression.",
    )
    first_epoch: int = setting(
        0, integer(0), "The number that your training script gives to its first epoch."
    )
    end_epoch: int | None = setting(
        None,
        integer(1, optional=True),
        "From this epoch on nothing is substituted. `null`: never stop.",
    )
    warmup_steps: int | None = setting(
        None,
        integer(0, optional=True),
        "Length of the warm-up in training calls of the head, in place of `WARMUP_EPOCHS`. `null`: "
        "it is counted in epochs.",
    )
    end_step: int | None = setting(
        None,
        integer(1, optional=True),
        "From this training call of the head on nothing is substituted, in place of `END_EPOCH`. "
        "`null`: `END_EPOCH` decides.",
    )
    relative: bool = setting(
        False,
        BOOLEAN,
        "Judge dominance by each influence divided by its batch mean: this weakens what a sample "
        "uses more than usual, not what is strong everywhere (sample level only). `False`: judge "
        "by the influence itself, as published.",
    )
    seed: int | None = setting(
        None, integer(0, optional=True), "Seed of the noise. `null`: torch's initial seed."
    )
    log_period: int = setting(50, integer(1), "Training steps between two log lines.")
    inplace: bool = setting(
        False,
        BOOLEAN,
        "Write the substitution into the captured tensor, so that every later consumer sees it.",
    )
    sync: bool = setting(
        False,
        BOOLEAN,
        "Take batch-level decisions and prototypes from the batches of all ranks. The mean of "
        "`DROP mean` is still that of the rank.",
    )
    head: str | tuple[str, ...] | Mapping[str, str] | None = setting(
        None,
        MODULE,
        "Name of the fusion head in `model.named_modules()`, or the names of a chain; where each "
        "modality has logits of its own, a mapping of the modalities and their branches. Used "
        "when `attach` is called without `head`.",
    )
    combine: str | None = setting(
        None,
        choice("sum", "mean", optional=True),
        "How the model combines the logits of its branches, if `HEAD` is a mapping.",
    )
    splits: tuple[int | None, ...] | None = setting(
        None,
        WIDTHS,
        "Widths of the modalities in the head's input, or a mapping of their names and widths; "
        "`null` for one that varies from call to call. Used when `attach` is called without "
        "`splits`.",
    )
    names: tuple[str, ...] | None = setting(
        None,
        NAMES,
        "Names of the modalities, as in the log. `null`: r, n, t for three, else m0, m1, ...",
    )

    fill: Mapping[str, int] | None = setting(
        None,
        FILL,
        "What takes the place of a modality that is whole numbers (token ids) where it is dropped "
        "or substituted, such as its pad id: `{text: 0}`.",
    )

    def __new__(cls, *args: Any, **settings: Any) -> Config:
        """Note which settings are given: the preset decides about the others."""
        self = super().__new__(cls)
        given = {*settings, *_field_names()[: len(args)]}
        vars(self)["_given"] = given & OF_PRESETS
        return self

    def __post_init__(self) -> None:
        splits: Any = self.splits
        if isinstance(splits, Mapping):
            self._name_splits(splits)
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, checked(field, getattr(self, field.name)))
        self._apply_preset()
        if self.relative and not self.sample_level:
            raise relative_needs_samples()
        if self.selection == "soft" and (self.relative or not self.sample_level):
            raise _not_soft("RELATIVE True" if self.relative else "SAMPLE_LEVEL False")
        if self.warmup_steps is not None and self.warmup_epochs != type(self).warmup_epochs:
            raise _both_set("WARMUP_EPOCHS", self.warmup_epochs, "WARMUP_STEPS", self.warmup_steps)
        if self.end_step is not None and self.end_epoch is not None:
            raise _both_set("END_EPOCH", self.end_epoch, "END_STEP", self.end_step)
        if self.splits and self.names and len(self.splits) != len(self.names):
            raise SplitsError(
                "every modality needs one name",
                got=f"{len(self.names)} names {list(self.names)} for {len(self.splits)} splits "
                f"{list(self.splits)}",
                expected=f"{len(self.splits)} names",
                remedy="give every modality a name, in the order of the splits",
            )

    def _apply_preset(self) -> None:
        given: frozenset[str] = vars(self)["_given"]
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        refuse_overridden(self.preset, given, vars(self), defaults)
        for name, value in PRESETS[self.preset].items():
            # A warm-up in steps takes the place of one in epochs.
            in_steps = name == "warmup_epochs" and self.warmup_steps is not None
            if name not in given and not in_steps:
                object.__setattr__(self, name, value)

    def _name_splits(self, splits: Mapping[Any, Any]) -> None:
        """``splits={"audio": 32, "video": 48}``: the keys are the names."""
        names = tuple(splits)
        if self.names is not None and list(names) != list(self.names):
            raise SplitsError(
                "the keys of splits are the names of the modalities",
                got=f"splits {dict(splits)}, names {list(self.names)}",
                expected="the same names, or none",
                remedy="leave names out",
            )
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "splits", tuple(splits.values()))

    @classmethod
    def load(cls, source: ConfigSource) -> Config:
        """Build a Config from a YAML path, a mapping (yacs, OmegaConf), or a namespace.

        A path or mapping is either a whole configuration that holds ``MODEL.C_MIEI`` (all other
        sections are ignored) or the section itself. From an ``argparse.Namespace`` the attributes
        that are named like a field are taken (``args.sigma``).

        Raises:
            ConfigError: a key is unknown or repeated, a value is of the wrong type or out of range,
                or the section or the file is missing. For a file, the error has the line number.
            SplitsError: ``SPLITS`` or ``NAMES`` are wrong.
        """
        if isinstance(source, cls):
            return source
        read = read_source(source, {f.name: f.default for f in dataclasses.fields(cls)})
        try:
            return cls(**read.settings)
        except CMIEIError as error:  # of one setting, or of two that contradict each other
            raise error.at(read.found_at.get(error.problem, read.where)) from None

    @classmethod
    def resolve(cls, source: ConfigSource, settings: Mapping[str, Any], **where: Any) -> Config:
        """The settings in force: those of the source, overridden by those that are given.

        Args:
            source: as for ``load``. None: the defaults, enabled.
            settings: fields by their lower-case names.
            **where: ``head``, ``splits`` and ``names``; None means not given.

        Raises:
            ConfigError, SplitsError: as ``load`` and ``override``.
        """
        base = cls(enabled=True) if source is None else cls.load(source)
        return base.override(**settings, **{k: v for k, v in where.items() if v is not None})

    def override(self, **settings: Any) -> Config:
        """Return a copy with some fields replaced, as the keywords of ``attach`` do.

        Raises:
            ConfigError: an unknown field, or a value that is refused.
        """
        fields = _field_names()
        for key in settings:
            if key not in fields:
                raise ConfigError(
                    f"unknown setting {key!r}",
                    got=repr(key),
                    expected="a keyword of attach() or one of " + ", ".join(fields),
                    remedy=did_you_mean(key, fields) or "remove it, or correct its name",
                )
        # What a preset decided is decided again: by another preset, perhaps.
        free = OF_PRESETS - vars(self)["_given"]
        own = {key: getattr(self, key) for key in fields if key not in free}
        return type(self)(**own | settings)

    def refuse_endless(self) -> None:
        """Refuse a preset that needs to know when it ends, without an end.

        Raises:
            ConfigError: neither ``end_epoch`` nor ``end_step`` is set.
        """
        share = ENDS.get(self.preset)
        if share and self.p_max and self.end_epoch is None and self.end_step is None:
            raise ConfigError(
                f"PRESET {self.preset} needs to know when it ends",
                got="no END_EPOCH and no END_STEP",
                expected=f"one of them, at about {share:.0%} of the training",
                remedy=f"END_EPOCH {share * 100:.0f} for epochs 0 to 99, or END_STEP, which counts "
                "training calls of the head (end_epoch=, end_step= in Python)",
            )

    def to_dict(self) -> dict[str, Any]:
        """The settings under their YAML keys, as plain values."""
        plain = dataclasses.asdict(self).items()
        return {k.upper(): list(v) if isinstance(v, tuple) else v for k, v in plain}


def _both_set(epochs: str, epoch: int, steps: str, step: int) -> ConfigError:
    return ConfigError(
        f"{epochs} and {steps} are both set",
        got=f"{epochs} {epoch}, {steps} {step}",
        expected="one of the two",
        remedy=f"leave {epochs} out to count steps, or {steps} to count epochs",
    )


def _not_soft(setting: str) -> ConfigError:
    return ConfigError(
        "SELECTION soft decides for each sample, from its influences and their means",
        got=setting,
        expected="SELECTION dominant with it",
        remedy=f"leave {setting} out, or SELECTION and PRESET",
    )


def _field_names() -> list[str]:
    return [field.name for field in dataclasses.fields(Config)]
