"""The settings: one frozen dataclass, its limits, and where it can be loaded from."""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from ..errors import CMIEIError, ConfigError, SplitsError, did_you_mean
from ..functional import relative_needs_samples
from .checks import CHECKS
from .yaml import LinedDict, read_yaml

__all__ = ["Config", "ConfigSource", "add_cmiei_config"]

SECTION = ("MODEL", "C_MIEI")

ConfigSource: TypeAlias = "Config | str | os.PathLike[str] | Mapping[str, Any] | object | None"
"""What ``attach``, ``audit`` and ``verify`` take as ``config=``."""


@dataclass(frozen=True)
class Config:
    """All settings of C-MIEI. In YAML: the same words in upper case, under ``MODEL.C_MIEI``.

    Raises:
        ConfigError: a value is of the wrong type or out of range.
    """

    enabled: bool = False
    """Whether ``attach(..., config=...)`` registers anything at all."""
    k: int = 3
    """Estimate on every k-th training step."""
    sigma: float = 0.05
    """Standard deviation of the noise on a substituted modality, in units of the features."""
    abs_thr: float = 0.03
    """The dominant influence must be larger than this, in nats."""
    rel_thr: float = 1.25
    """The dominant influence must be larger than this many times the second largest."""
    sample_level: bool = True
    """Decide for each sample; False: once for the batch, from the batch means."""
    p_max: float = 0.5
    """At most this share of the batch is substituted (sample level only)."""
    warmup_epochs: int = 5
    """For so many epochs influence is measured and nothing is substituted."""
    drop: str = "zero"
    """What stands in for a dropped modality: ``zero``, or the batch ``mean``."""
    measure: str = "kl"
    """How the change of the prediction is measured: ``kl``, ``js`` or ``ted`` for classes,
    ``bernoulli`` for sigmoid heads, ``squared`` for regression. ``abs_thr`` is in its units."""
    first_epoch: int = 0
    """The number that the training script gives to its first epoch."""
    end_epoch: int | None = None
    """From this epoch on nothing is substituted any more; None: never stop."""
    relative: bool = False
    """Judge dominance by how many times its usual influence (the batch mean) a modality has in a
    sample; False: by the influence itself, as published (sample level only)."""
    seed: int | None = None
    """Seed of the noise; None: torch's initial seed."""
    log_period: int = 50
    """Training steps between two log lines."""
    inplace: bool = False
    """Write the substitution into the captured tensor, where every later consumer sees it."""
    sync: bool = False
    """Take batch-level decisions and prototypes from all ranks of torch.distributed. (The mean of
    ``DROP mean`` stays that of the rank.)"""
    head: str | tuple[str, ...] | None = None
    """Name of the fusion head, as in ``model.named_modules()``; several are a chain."""
    splits: tuple[int, ...] | None = None
    """Widths of the modalities in the concatenated input of the head."""
    names: tuple[str, ...] | None = None
    """Names of the modalities, as they appear in the log."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, _checked(field.name, getattr(self, field.name)))
        if self.relative and not self.sample_level:
            raise relative_needs_samples()
        if self.splits and self.names and len(self.splits) != len(self.names):
            raise SplitsError(
                "every modality needs one name",
                got=f"{len(self.names)} names {list(self.names)} for {len(self.splits)} splits "
                f"{list(self.splits)}",
                expected=f"{len(self.splits)} names",
                remedy="give every modality a name, in the order of the splits",
            )

    @classmethod
    def load(cls, source: ConfigSource) -> Config:
        """Build a Config from a YAML path, a mapping (yacs, OmegaConf), or a namespace.

        A path or mapping may be a whole configuration that holds ``MODEL.C_MIEI`` (everything
        beside that section is left alone), or the section itself. Of an ``argparse.Namespace`` the
        attributes with the name of a field are taken (``args.sigma``).

        Raises:
            ConfigError: an unknown or duplicate key, a value of the wrong type or out of range (for
                a file with its line number), a missing section or file.
        """
        if isinstance(source, cls):
            return source
        if isinstance(source, (str, os.PathLike)):
            where = os.fspath(source)
            return cls._from_section(_section(read_yaml(where), where), where)
        if isinstance(source, argparse.Namespace):
            fields = {f.name for f in dataclasses.fields(cls)}
            known = {key: value for key, value in vars(source).items() if key in fields}
            if not known:
                raise ConfigError(
                    "the namespace holds no setting of C-MIEI",
                    got=", ".join(sorted(vars(source))) or "an empty namespace",
                    expected="attributes named like the fields of Config: k, sigma, abs_thr, ...",
                    remedy="add them to the parser, or pass a mapping or a file",
                )
            return cls._from_section(known, "namespace")
        if isinstance(source, Mapping):
            return cls._from_section(_section(source, "mapping"), "mapping")
        raise ConfigError(
            "no configuration can be read from this",
            got=type(source).__name__,
            expected="a path, a mapping, a yacs or OmegaConf node, a namespace or a Config",
            remedy="pass the settings as keywords of attach()",
        )

    @classmethod
    def resolve(cls, source: ConfigSource, settings: Mapping[str, Any], **where: Any) -> Config:
        """The settings in force: the source (None: the defaults, enabled), then what is given.

        Args:
            source: as for ``load``.
            settings: fields by their lower-case names.
            **where: ``head``, ``splits`` and ``names``; None does not count as given.

        Raises:
            ConfigError, SplitsError: as ``load`` and ``override``.
        """
        base = cls(enabled=True) if source is None else cls.load(source)
        return base.override(**settings, **{k: v for k, v in where.items() if v is not None})

    @classmethod
    def _from_section(cls, section: Mapping[Any, Any], where: str) -> Config:
        fields = [f.name for f in dataclasses.fields(cls)]
        lines = section.lines if isinstance(section, LinedDict) else {}
        settings: dict[str, Any] = {}
        for key in section:
            at = f"{where}:{lines[key]}" if key in lines else where
            field = str(key).lower()
            if field not in fields or str(key) not in (field, field.upper()):
                raise ConfigError(
                    f"{at}: unknown setting {key!r}",
                    got=repr(key),
                    expected="one of " + ", ".join(name.upper() for name in fields),
                    remedy="it is an argument of attach()"
                    if field in ("modalities", "dim", "output", "log")
                    else did_you_mean(str(key), [name.upper() for name in fields])
                    or "remove it, or correct its name",
                )
            if field in settings:
                raise ConfigError(
                    f"{at}: {field.upper()} is set twice",
                    got=f"{key!r} again",
                    expected="every setting once",
                    remedy="remove one of the two",
                )
            try:
                settings[field] = _checked(field, section[key])
            except CMIEIError as error:
                raise error.at(at) from None
        try:
            return cls(**settings)
        except CMIEIError as error:  # settings that contradict each other: no one line
            raise error.at(where) from None

    def override(self, **settings: Any) -> Config:
        """Return a copy with some fields replaced, as the keywords of ``attach`` do.

        Raises:
            ConfigError: an unknown field, or a value that is refused.
        """
        fields = [f.name for f in dataclasses.fields(self)]
        for key in settings:
            if key not in fields:
                raise ConfigError(
                    f"unknown setting {key!r}",
                    got=repr(key),
                    expected="a keyword of attach() or one of " + ", ".join(fields),
                    remedy=did_you_mean(key, fields) or "remove it, or correct its name",
                )
        return dataclasses.replace(self, **settings)

    def to_dict(self) -> dict[str, Any]:
        """The settings under their YAML keys, as plain values."""
        plain = dataclasses.asdict(self).items()
        return {k.upper(): list(v) if isinstance(v, tuple) else v for k, v in plain}


def add_cmiei_config(cfg: Any) -> Any:
    """Register the section ``MODEL.C_MIEI`` with its defaults in a yacs ``CfgNode``.

    After it ``cfg.merge_from_file`` accepts the section. Settings that the section already has are
    kept. Returns ``cfg``.

    Raises:
        ConfigError: ``cfg`` is not a yacs node, or it is frozen.
    """
    if not (isinstance(cfg, dict) and hasattr(cfg, "is_frozen")):
        raise ConfigError(
            "the section can only be registered in a yacs node",
            got=type(cfg).__name__,
            expected="a yacs.config.CfgNode",
            remedy="other configurations need no registration: pass them to attach(config=...)",
        )
    if cfg.is_frozen():
        raise ConfigError(
            "the configuration is frozen",
            got="a frozen CfgNode",
            expected="one that can still be changed",
            remedy="call add_cmiei_config(cfg) before cfg.freeze()",
        )
    node = cfg
    for name in SECTION:
        if name not in node:
            node[name] = type(cfg)()
        node = node[name]
        if not isinstance(node, type(cfg)) or node.is_frozen():
            raise ConfigError(
                f"{name} is not a section that can be changed",
                got="a frozen node" if isinstance(node, type(cfg)) else repr(node),
                expected="a CfgNode that is not frozen",
                remedy="call add_cmiei_config(cfg) first, and freeze afterwards",
            )
    for key, value in Config().to_dict().items():
        node.setdefault(key, value)
    return cfg


def _checked(field: str, value: Any) -> Any:
    try:
        return CHECKS[field](field, value)
    except CMIEIError as error:
        if error.remedy:
            raise
        default = {f.name: f.default for f in dataclasses.fields(Config)}[field]
        remedy = f"the default is {default!r}"
        raise type(error)(
            error.problem, got=error.got, expected=error.expected, remedy=remedy
        ) from None


def _no_section(where: str, name: str, value: object) -> ConfigError:
    return ConfigError(
        f"{where}: {name} is not a section",
        got=repr(value),
        expected="a mapping of settings",
        remedy=f"indent the settings below {name}:",
    )


def _section(source: Mapping[Any, Any], where: str) -> Mapping[Any, Any]:
    """The settings in a mapping: its ``MODEL.C_MIEI``, its ``C_MIEI``, or the mapping itself."""
    outer, inner = SECTION
    _refuse_repeated(source, where, outer, inner)
    holder = source.get(outer, source)
    if not isinstance(holder, Mapping):
        raise _no_section(where, outer, holder)
    if holder is source and inner not in holder:
        _refuse_repeated(source, where)
        return source
    _refuse_repeated(holder, where, inner)
    if inner not in holder:
        raise ConfigError(
            f"{where}: no section {outer}.{inner}",
            got=f"{outer} with " + (", ".join(map(str, holder)) or "nothing in it"),
            expected=f"{outer}.{inner}",
            remedy="add the section; with yacs: add_cmiei_config(cfg)",
        )
    section = holder[inner]
    if section is None:  # a header with nothing below it
        return {}
    if not isinstance(section, Mapping):
        raise _no_section(where, f"{outer}.{inner}", section)
    _refuse_repeated(section, where)
    return section


def _refuse_repeated(mapping: Mapping[Any, Any], where: str, *keys: str) -> None:
    """Refuse keys that a file has twice: the given ones, or all."""
    repeated = mapping.repeated if isinstance(mapping, LinedDict) else []
    for key, first, second in repeated:
        if key in keys or not keys:
            raise ConfigError(
                f"{where}:{second}: duplicate key {key!r}",
                got=f"{key!r} in line {first} and again in line {second}",
                expected="every key once (YAML would silently keep the last one)",
                remedy="remove one of the two",
            )
