"""The fusion head: one module or a chain of them, found by name, with its modalities and output."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from torch import nn

from .._torch import WRAPPERS, normalisations, original
from ..errors import HeadError, OutputError, SplitsError, did_you_mean
from ..functional import least_logits
from ..settings import Config
from .hookability import refuse_lazy, refuse_non_module, refuse_unhookable
from .logits import Output, Outputs, outputs_of
from .modalities import Partition, default_names, parse_modalities
from .suggestions import suggested_heads

__all__ = [
    "DISCOVER",
    "Head",
    "check_width",
    "find_head",
    "locate",
    "module_named",
    "nested",
    "refuse_both",
    "unwrapped",
]

DISCOVER = "cmiei_hooks.discover(model, *inputs) finds the heads of a model"


@dataclass(frozen=True)
class Head:
    """A fusion head: captured and rewritten at the first link, logits from the last."""

    names: tuple[str, ...]
    """The paths of the links."""
    links: tuple[nn.Module, ...]
    partition: Partition
    outputs: tuple[Output, ...]
    """Which part of each link's return value goes on; of the last one, the logits."""
    drop: str
    measure: str

    @property
    def name(self) -> str:
        """The name of the head, of a chain with arrows."""
        return " -> ".join(self.names)

    @property
    def first(self) -> nn.Module:
        """The link that receives the modalities."""
        return self.links[0]

    @property
    def last(self) -> nn.Module:
        """The link that returns the logits."""
        return self.links[-1]

    @cached_property
    def whole(self) -> nn.Module:
        """All links as one module; it is never called."""
        return self.first if len(self.links) == 1 else nn.ModuleList(self.links)


def locate(
    model: nn.Module,
    config: Config,
    *,
    modalities: object = None,
    dim: int = -1,
    output: Outputs = None,
) -> Head:
    """The head that the settings name, and which part of its input is which modality.

    Raises:
        HeadError, SplitsError, OutputError: whatever can be known to be wrong before the first
            call.
    """
    refuse_non_module(model)
    if config.head is None:
        raise HeadError(
            "no head is given",
            got="None",
            expected="the name of the fusion head, such as head='classifier'",
            remedy="pass head=, or HEAD in the configuration; modules that may be the head: "
            f"{suggested_heads(dict(model.named_modules()))}; {DISCOVER}",
        )
    names = (config.head,) if isinstance(config.head, str) else config.head
    outputs = outputs_of(output, names)
    partition = _partition(model, config, modalities, dim)
    width = sum(partition.widths) if partition.widths else None
    links = tuple(find_head(model, name, width if name is names[0] else None) for name in names)
    _refuse_later(names, links)
    check_width(links[0], names[0], partition)
    partition = replace(partition, parameters=_parameters(links[0]))
    head = Head(names, links, partition, outputs, config.drop, config.measure)
    _refuse_last(head)
    return head


def refuse_both(splits: object, modalities: object) -> None:
    """Refuse two answers to where the modalities are.

    Raises:
        SplitsError: both are given.
    """
    if splits is not None and modalities is not None:
        raise SplitsError(
            "splits= and modalities= both say where the modalities are",
            got=f"splits {splits!r}, modalities {modalities!r}",
            expected="splits for one concatenated tensor, or modalities for anything else",
            remedy="leave one of them out",
        )


def _partition(model: nn.Module, config: Config, modalities: object, dim: int) -> Partition:
    if modalities is not None:
        names, splits = parse_modalities(modalities)
        if config.names and config.names != names:
            raise SplitsError(
                "the names of the modalities are the keys of modalities=",
                got=f"names {list(config.names)}, modalities {list(names)}",
                expected="the same names",
                remedy="leave names out",
            )
        return Partition(splits, names, dim)
    if config.splits is None:
        raise SplitsError(
            "no splits are given",
            got="None",
            expected="the widths of the modalities, such as splits=[512, 512, 512], or "
            "modalities= for a head that receives several tensors",
            remedy="pass splits=, or SPLITS in the configuration; they sum to the width of the "
            f"head's input; modules that may be the head: "
            f"{suggested_heads(dict(model.named_modules()))}",
        )
    return Partition(config.splits, config.names or default_names(len(config.splits)), dim)


def find_head(model: nn.Module, name: str, width: int | None) -> nn.Module:
    """The module of that name, as in ``model.named_modules()``; wrappers may be left out of it.

    Args:
        width: sum of the splits; the error lists the modules that would fit it.

    Raises:
        HeadError: there is no such module, or it is never called as a module.
    """
    found = module_named(model, name)
    if found is None:
        paths = model.named_modules(remove_duplicate=False)
        raise _unknown(name, {unwrapped(path): module for path, module in paths}, width)
    # A compiled submodule is called through its wrapper, and its hooks are those of the original.
    head = original(found)
    refuse_unhookable(model, name, head)
    return head


def module_named(model: nn.Module, name: str) -> nn.Module | None:
    """The module of that name, from which wrappers may be left out; None if there is none."""
    modules = dict(model.named_modules(remove_duplicate=False))
    if name not in modules:
        modules = {unwrapped(path): module for path, module in modules.items()}
    return modules.get(name)


def unwrapped(path: str) -> str:
    """The path of a module or parameter without the wrappers in it."""
    return ".".join(part for part in path.split(".") if part not in WRAPPERS)


def _unknown(name: str, modules: dict[str, nn.Module], width: int | None) -> HeadError:
    guess = did_you_mean(name, [path for path in modules if path])
    if "," in name:
        guess = f"a chain is a list: {[part.strip() for part in name.split(',')]}"
    fits = f"modules with in_features {width}: {suggested_heads(modules, width)}"
    return HeadError(
        f"the model has no module named {name!r}",
        got=repr(name),
        expected="a name from model.named_modules()",
        remedy="; ".join(filter(None, (guess, fits if width else "", DISCOVER))),
    )


def _refuse_later(names: Sequence[str], links: Sequence[nn.Module]) -> None:
    """Refuse links of a chain that cannot be run while the first one is being called."""
    for i, (name, link) in enumerate(zip(names, links, strict=True)):
        inside = [n for n, other in zip(names[:i], links, strict=False) if nested(link, other)]
        if inside:
            raise HeadError(
                "the links of a chain must follow one another",
                got=f"{inside[0]!r} and {name!r}, of which one is inside the other, or is it",
                expected="modules that are called one after the other",
                remedy="name the outer one alone if it returns the logits",
            )
        if i:
            refuse_lazy(link, repr(name))


def nested(one: nn.Module, other: nn.Module) -> bool:
    """Whether one module is, or contains, the other."""
    return any(m is other for m in one.modules()) or any(m is one for m in other.modules())


def _refuse_last(head: Head) -> None:
    if isinstance(head.last, (*normalisations(), nn.LayerNorm, nn.GroupNorm)):
        chain = f"head=[{head.names[-1]!r}, <the classifier>]"
        raise HeadError(
            f"{head.names[-1]!r} returns features, not logits",
            got=type(head.last).__name__,
            expected="the module that returns the logits",
            remedy=f"name the classifier that follows the normalisation, or both: {chain}",
        )
    least = least_logits(head.measure)
    one = isinstance(head.last, nn.Linear) and head.last.out_features < least
    if head.outputs[-1] is None and one:
        raise OutputError(
            f"the head {head.name!r} returns one logit",
            got="Linear with out_features 1",
            expected=f"two classes or more for MEASURE {head.measure} (softmax over one logit is "
            "always 1, so the measure is always 0)",
            remedy="choose MEASURE bernoulli for a sigmoid head, squared for regression, or name "
            "the module that returns the logits of all classes",
        )


def check_width(head: nn.Module, name: str, partition: Partition) -> None:
    """Compare the splits with the width that the head declares, if it declares one.

    Raises:
        SplitsError: they differ; the message has the arithmetic.
    """
    declared, widths = _declared_width(head), partition.widths
    if widths is None or partition.dim != -1 or declared is None or declared[1] == sum(widths):
        return
    attribute, width = declared
    count = len(widths)
    equal = f"{count} equal modalities would be {[width // count] * count}; "
    raise SplitsError(
        f"the splits do not sum to the width of the head {name!r}",
        got=f"{' + '.join(map(str, widths))} = {sum(widths)}",
        expected=f"{width} ({attribute} of {type(head).__name__})",
        remedy=(equal if width % count == 0 else "")
        + "pass the widths of the modalities in the order of their concatenation",
    )


def _declared_width(module: nn.Module) -> tuple[str, int] | None:
    if isinstance(module, nn.Sequential):
        for part in module:
            if not isinstance(part, (nn.Identity, nn.Dropout, nn.AlphaDropout, nn.ReLU, nn.GELU)):
                return _declared_width(part)
        return None
    known: tuple[tuple[type[nn.Module], str], ...] = (
        (nn.Linear, "in_features"),
        (nn.BatchNorm1d, "num_features"),
        (nn.LayerNorm, "normalized_shape"),
    )
    for kind, attribute in known:
        if isinstance(module, kind):
            width = getattr(module, attribute)
            width = width[-1] if isinstance(width, tuple) else width
            return (attribute, width) if width else None  # 0: a lazy module, not yet known
    return None


def _parameters(head: nn.Module) -> tuple[str, ...]:
    try:
        parameters = inspect.signature(head.forward).parameters.values()
    except (TypeError, ValueError):  # a forward that is not Python's
        return ()
    named: list[Any] = [inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD]
    return tuple(p.name for p in parameters if p.kind in named)
