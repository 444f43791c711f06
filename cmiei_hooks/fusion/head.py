"""The fusion head: one module or a chain of them, found by name, with its modalities and output."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from .._torch import WRAPPERS, original
from ..errors import HeadError, SplitsError, did_you_mean
from ..settings import Config
from .branches import Branch, Combination, Combine, branches_of, combination_name
from .fill import refuse_unknown_fill
from .function_link import FunctionLink, FunctionName, torch_function
from .logits import Output, Outputs, outputs_of
from .modalities import default_names, parse_modalities
from .partition import Partition
from .refusals import (
    refuse_function_at_an_end,
    refuse_nested_links,
    refuse_non_module,
    refuse_unhookable,
    refuse_without_logits,
    refuse_wrong_width,
)
from .suggestions import inside_adapter, suggested_heads

__all__ = ["DISCOVER", "Head", "find_head", "locate", "module_named", "unwrapped"]

DISCOVER = "cmiei_hooks.discover(model, *inputs) finds the heads of a model"


@dataclass(frozen=True)
class Head:
    """A fusion head: captured and rewritten at the first link, logits from the last."""

    names: tuple[str, ...]
    """The paths of the links; the name of a function."""
    links: tuple[nn.Module, ...]
    partition: Partition
    outputs: tuple[Output, ...]
    """Which part of each link's return value goes on to the next; of the last, the logits."""
    drop: str
    measure: str
    branches: tuple[Branch, ...] = ()
    """Where each modality has logits of its own: what gives them. The only link is then the
    ``Combination`` of these logits, which the model does not contain."""

    @property
    def modules(self) -> tuple[tuple[str, nn.Module], ...]:
        """The names and modules of the model that are the head: its branches, or its links.

        Links that are functions are not modules of the model.
        """
        if self.branches:
            return tuple({b.name: b.module for b in self.branches}.items())
        links = zip(self.names, self.links, strict=True)
        return tuple(one for one in links if not isinstance(one[1], FunctionLink))

    @property
    def name(self) -> str:
        """The name of the head, of a chain with arrows."""
        return " -> ".join(name or "the whole model" for name in self.names)

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
        """All that a run of the head may change, as one module; it is never called."""
        used = [m for link in self.links if isinstance(link, FunctionLink) for m in link.used]
        return self.first if len(self.links) == 1 else nn.ModuleList([*self.links, *used])


def locate(
    model: nn.Module,
    config: Config,
    *,
    modalities: object = None,
    dim: int = -1,
    output: Outputs = None,
    combine: Combine | None = None,
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
    combine = config.combine if combine is None else combine
    if isinstance(config.head, Mapping):
        _refuse_places(config, modalities, dim)
        return _of_branches(model, config, config.head, output, combine)
    if combine is not None:
        raise _not_branches(combine, config.head)
    names = (config.head,) if isinstance(config.head, str) else config.head
    outputs = outputs_of(output, names)
    partition = _partition(model, config, modalities, dim)
    fill = config.fill or {}
    refuse_unknown_fill(fill, partition.names)
    links = tuple(_link(model, names, i, partition.width) for i in range(len(names)))
    refuse_nested_links(names, links)
    refuse_wrong_width(links[0], names[0], partition)
    parameters, optional = _parameters(links[0])
    partition = replace(partition, parameters=parameters, optional=optional, fill=fill)
    head = Head(names, links, partition, outputs, config.drop, config.measure)
    refuse_without_logits(head.last, head.names[-1], head.outputs[-1], head.measure)
    return head


def _of_branches(
    model: nn.Module,
    config: Config,
    named: Mapping[str, str],
    output: Outputs,
    combine: Combine | None,
) -> Head:
    """The head of a model that combines the logits of its branches."""
    if combine is None or not (combine in ("sum", "mean") or callable(combine)):
        raise HeadError(
            "it is not known how the model combines the logits of its branches",
            got=f"head={dict(named)}, combine={combine!r}",
            expected="combine='sum', 'mean', or a function of the list of the branches' logits",
            remedy="pass combine=, or COMBINE in the configuration",
        )
    branches = branches_of(named, lambda name: find_head(model, name, None), output)
    for branch in branches:
        refuse_without_logits(branch.module, branch.name, branch.output, config.measure)
    partition = Partition(tuple((b.label,) for b in branches), tuple(named))
    name = combination_name(branches, combine)
    links = (Combination(combine),)
    return Head((name,), links, partition, (None,), config.drop, config.measure, branches)


def _refuse_places(config: Config, modalities: object, dim: int) -> None:
    """The branches are the modalities: there is nothing more to say."""
    given = {
        "splits": config.splits,
        "names": config.names,
        "modalities": modalities,
        "dim": None if dim == -1 else dim,
        "fill": config.fill,
    }
    if told := {name: value for name, value in given.items() if value is not None}:
        raise SplitsError(
            "the branches say which modalities there are",
            got=", ".join(f"{name} {value!r}" for name, value in told.items()),
            expected="head={modality: module, ...} and combine= alone",
            remedy=f"leave {', '.join(told)} out",
        )


def _not_branches(combine: object, head: object) -> HeadError:
    return HeadError(
        "combine= is for a head of several branches",
        got=f"head={head!r}, combine={combine!r}",
        expected="head={modality: module, ...}, the module that gives the logits of each modality",
        remedy="leave combine out, or name a branch for each modality",
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


def _link(model: nn.Module, names: tuple[str, ...], i: int, width: int | None) -> nn.Module:
    """The module of that name, or else the function."""
    name = names[i]
    if isinstance(name, FunctionName):
        function = name.function
    elif module_named(model, name) is None and (found := torch_function(name)) is not None:
        function = found
    else:
        return find_head(model, name, width if i == 0 else None)
    refuse_function_at_an_end(names, i)
    return FunctionLink(function)


def find_head(model: nn.Module, name: str, width: int | None) -> nn.Module:
    """The module of that name, as in ``model.named_modules()``; wrappers may be left out of it.

    Args:
        width: sum of the splits; the error lists the modules that would fit it.

    Raises:
        HeadError: the model has no module of that name, or never calls it as a module.
    """
    found = module_named(model, name)
    if found is None:
        paths = model.named_modules(remove_duplicate=False)
        raise _unknown(name, {unwrapped(path): module for path, module in paths}, width)
    if name == "" and isinstance(found, DistributedDataParallel):
        found = found.module  # its own forward talks to the other ranks
    # A compiled submodule is called through its wrapper, and its hooks are those of the original.
    head = original(found)
    refuse_unhookable(model, name, head)
    return head


def module_named(model: nn.Module, name: str) -> nn.Module | None:
    """The module of that name, from which wrappers may be left out; None if there is none."""
    modules = dict(model.named_modules(remove_duplicate=False))
    found = modules.get(name)
    if found is None:
        modules = {unwrapped(path): module for path, module in modules.items()}
        # The name may have been taken from a model that was wrapped, and this one is not.
        found = modules.get(name, modules.get(unwrapped(name)))
    return found


def unwrapped(path: str) -> str:
    """The path of a module or parameter without the wrappers in it."""
    plain = f".{path}.".replace(f".{_PEFT}.", ".").strip(".")
    return ".".join(part for part in plain.split(".") if part not in WRAPPERS)


_PEFT = "base_model.model"
"""Where PEFT keeps the model that it wraps."""


def _unknown(name: str, modules: dict[str, nn.Module], width: int | None) -> HeadError:
    guess = did_you_mean(name, [path for path in modules if path and not inside_adapter(path)])
    if "," in name:
        guess = f"a chain is a list: {[part.strip() for part in name.split(',')]}"
    function = f"torch.nn.functional.{name.removeprefix('torch.')}"
    if torch_function(function):
        guess = f"a function between two modules of a chain is named {function!r}"
    fits = f"modules with in_features {width}: {suggested_heads(modules, width)}"
    return HeadError(
        f"the model has no module named {name!r}",
        got=repr(name),
        expected="a name from model.named_modules()",
        remedy="; ".join(filter(None, (guess, fits if width else "", DISCOVER))),
    )


def _parameters(head: nn.Module) -> tuple[tuple[str, ...], frozenset[str]]:
    """The names of the parameters of ``forward``, and of those whose default is None."""
    try:
        parameters = inspect.signature(head.forward).parameters.values()
    except (TypeError, ValueError):  # a forward that is not Python's
        return (), frozenset()
    named: list[Any] = [inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD]
    positional = tuple(p.name for p in parameters if p.kind in named)
    return positional, frozenset(p.name for p in parameters if p.default is None)
