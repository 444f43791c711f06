"""The fusion head: find it by its name, know its width, read its logits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from .bypass import refuse_bypassed
from .config import Config
from .errors import HeadError, OutputError, SplitsError, did_you_mean
from .partition import Partition, default_names

__all__ = ["Output", "check_width", "find_head", "locate", "read_logits", "unwrapped"]

Output = int | str | Callable[[Any], Tensor] | None
"""Which part of the head's return value is the logits: index, key or attribute, function, all."""

# Names that wrappers (DDP, torch.compile, FSDP, checkpoint wrappers) put into module paths.
_WRAPPERS = {
    "module",
    "_orig_mod",
    "_fsdp_wrapped_module",
    "_checkpoint_wrapped_module",
}


def locate(
    model: nn.Module, config: Config, dim: int, output: Output
) -> tuple[str, nn.Module, Partition]:
    """The head that the settings name, and which part of its input is which modality.

    Raises:
        HeadError, SplitsError: whatever can be known to be wrong before the first call.
    """
    if not isinstance(model, nn.Module):
        raise HeadError(
            "this is not a model",
            got=type(model).__name__,
            expected="a torch.nn.Module",
            remedy="pass the model itself",
        )
    if isinstance(output, bool) or not (
        output is None or isinstance(output, (int, str)) or callable(output)
    ):
        raise OutputError(
            "output= cannot say which part of the return value is the logits",
            got=repr(output),
            expected="an index, a key or attribute, or a function of the return value",
            remedy="leave it out if the head returns the logits alone",
        )
    if config.head is None:
        raise HeadError(
            "no head is given",
            got="None",
            expected="the name of the fusion head, such as head='classifier'",
            remedy=f"pass head=, or HEAD in the configuration; Linear modules: {_linears(model)}",
        )
    if config.splits is None:
        raise SplitsError(
            "no splits are given",
            got="None",
            expected="the widths of the modalities, such as splits=[512, 512, 512]",
            remedy="pass splits=, or SPLITS in the configuration; they sum to the width of the "
            f"head's input; Linear modules: {_linears(model)}",
        )
    names = config.names or default_names(len(config.splits))
    partition = Partition(config.splits, names, dim)
    module = find_head(model, config.head, partition.width)
    check_width(module, config.head, partition)
    if output is None and isinstance(module, nn.Linear) and module.out_features == 1:
        raise OutputError(
            f"the head {config.head!r} returns one logit",
            got="Linear with out_features 1",
            expected="two classes or more (softmax over one logit is always 1, so its KL always 0)",
            remedy="name the module that returns the logits of all classes",
        )
    return config.head, module, partition


def find_head(model: nn.Module, name: str, width: int) -> nn.Module:
    """The module of that name, as in ``model.named_modules()``; wrappers may be left out of it.

    Args:
        width: sum of the splits; the error lists the Linear modules that would fit it.

    Raises:
        HeadError: there is no such module, or it is never called as a module.
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    if name not in modules:
        modules = {unwrapped(path): module for path, module in modules.items()}
        if name not in modules:
            raise _unknown(name, modules, width)
    head: nn.Module = modules[name]
    # A compiled submodule is called through its wrapper, and its hooks are those of the original.
    original = getattr(head, "_orig_mod", None)
    if isinstance(original, nn.Module):
        head = original
    refuse_bypassed(model, name, head)
    return head


def unwrapped(path: str) -> str:
    """The path of a module or parameter without the wrappers in it."""
    return ".".join(part for part in path.split(".") if part not in _WRAPPERS)


def _unknown(name: str, modules: dict[str, nn.Module], width: int) -> HeadError:
    fitting = [
        f"{path!r} ({module.in_features} -> {module.out_features})"
        for path, module in modules.items()
        if isinstance(module, nn.Linear) and module.in_features == width
    ]
    guess = did_you_mean(name, [path for path in modules if path])
    fits = f"Linear modules with in_features {width}: " + (", ".join(fitting) or "none")
    return HeadError(
        f"the model has no module named {name!r}",
        got=repr(name),
        expected="a name from model.named_modules()",
        remedy="; ".join(filter(None, (guess, fits))),
    )


def _linears(model: nn.Module) -> str:
    """The last Linear modules of the model: heads come last."""
    found = [(path, m) for path, m in model.named_modules() if isinstance(m, nn.Linear)]
    listed = [f"{path!r} ({m.in_features} -> {m.out_features})" for path, m in found[-5:]]
    return ", ".join(listed) or "none"


def check_width(head: nn.Module, name: str, partition: Partition) -> None:
    """Compare the splits with the width that the head declares, if it declares one.

    Raises:
        SplitsError: they differ; the message has the arithmetic.
    """
    declared = _declared_width(head)
    if partition.dim != -1 or declared is None or declared[1] == partition.width:
        return
    attribute, width = declared
    sums = " + ".join(map(str, partition.splits))
    count = len(partition.splits)
    equal = f"{count} equal modalities would be {[width // count] * count}; "
    raise SplitsError(
        f"the splits do not sum to the width of the head {name!r}",
        got=f"{sums} = {partition.width}",
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


def read_logits(returned: Any, output: Output, batch: int) -> Tensor:
    """The logits ``[B, C]`` in what the head returned.

    Raises:
        OutputError: the part does not exist, or is not floating point ``[B, C]`` with C >= 2.
    """
    logits = _part(returned, output)
    if (
        isinstance(logits, Tensor)
        and logits.dim() == 2
        and logits.shape[0] == batch
        and logits.shape[1] >= 2
        and logits.is_floating_point()
    ):
        return logits
    raise OutputError(
        "the head does not return the logits of a batch",
        got=_describe(logits),
        expected=f"a floating-point tensor [B, C] = [{batch}, 2 or more]",
        remedy="name the module that returns the logits, or say with output= which part "
        "of its return value they are (an index, a key, a function)",
    )


def _part(returned: Any, output: Output) -> Any:
    if output is None:
        return returned
    try:
        if callable(output):
            return output(returned)
        if isinstance(output, str) and not isinstance(returned, Mapping):
            return getattr(returned, output)
        return returned[output]
    except (LookupError, TypeError, AttributeError) as error:
        raise OutputError(
            f"the head's return value has no part {output!r}",
            got=_describe(returned),
            expected="an index, a key, an attribute, or a function of the return value",
            remedy="pass as output= what finds the logits in it",
        ) from error


def _describe(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{value.dtype} of shape {list(value.shape)}"
    if isinstance(value, (tuple, list)):
        return f"{type(value).__name__} of ({', '.join(_describe(v) for v in value)})"
    if isinstance(value, dict):
        return "dict of {" + ", ".join(f"{k!r}: {_describe(v)}" for k, v in value.items()) + "}"
    return type(value).__name__
