"""Which part of what a module returns is meant: the logits, or what goes on to the next link."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from torch import Tensor

from .._torch import out_of_memory
from ..errors import OutputError
from .arguments import describe

__all__ = ["Output", "Outputs", "outputs_of", "read_logits", "read_part", "read_tensor"]

Key = int | str
"""An index, a key of a mapping, or the name of an attribute."""

Output = Key | tuple[Key, ...] | Callable[[Any], Tensor] | None
"""Which part of a return value: a key, several keys that lead inwards one after the other, a
function of it, or None for all of it."""

Outputs = Output | Sequence[Output | Sequence[Key]]
"""What users pass. One module: an Output. A chain: an Output for its last link, or a list with one
for each link."""


def outputs_of(
    output: Outputs, names: Collection[str], what: str = "link of the chain"
) -> tuple[Output, ...]:
    """One Output for each link of a chain, or for each branch.

    For one module, a list of indices and keys leads to the logits: ``[1, 0]`` is item 0 of item 1.
    For a chain, a list has one entry for each link, which may be such a list itself.

    Raises:
        OutputError: an entry cannot be one, or there is not one for each link.
    """
    several = _is_list(output)
    if several and (len(names) > 1 or not all(map(_is_key, output))):  # type: ignore[arg-type]  # `several`
        entries: list[Any] = list(output)  # type: ignore[arg-type]  # `several` says that it is a list
    else:
        entries = [None] * (len(names) - 1) + [output]
    if len(entries) != len(names):
        raise OutputError(
            f"output= needs one entry for each {what}",
            got=f"{len(entries)} entries for {len(names)}: {list(names)}",
            expected="an index, a key, a list of these, a function or None for each",
            remedy="None stands for the whole return value; one value that is not a list is "
            "meant for the last link of a chain, and for every branch",
        )
    return tuple(map(_output_of, entries))


def _output_of(entry: Any) -> Output:
    if _is_list(entry) and len(entry) and all(map(_is_key, entry)):
        return tuple(entry) if len(entry) > 1 else entry[0]
    if entry is None or _is_key(entry) or callable(entry):
        return entry  # type: ignore[no-any-return]  # checked above
    raise OutputError(
        "output= cannot say which part of the return value is the logits",
        got=repr(entry),
        expected="an index, a key or attribute, a list of these, or a function of the return value",
        remedy="leave it out if the head returns the logits alone",
    )


def _is_list(value: object) -> bool:
    # OmegaConf's list is a Sequence of its own.
    return isinstance(value, Sequence) and not isinstance(value, str)


def _is_key(value: object) -> bool:
    return isinstance(value, (int, str)) and not isinstance(value, bool)


def read_logits(
    returned: Any,
    output: Output,
    batch: int,
    least: int = 2,
    inputs: Collection[Tensor] = (),
) -> Tensor:
    """The logits ``[B, C]`` in what the head returned.

    ``[B]`` is understood as one logit a sample and, for a batch of one, ``[C]`` as its logits:
    models squeeze these axes away.

    Args:
        returned: by the head.
        output: which part of it is the logits.
        batch: the number of samples B.
        least: how many logits the measure needs.
        inputs: the tensors of the call that hold the modalities; with them, the error names the
            axis of the batch if it is not the first one.

    Raises:
        OutputError: the part does not exist, or is not floating point ``[B, C]`` with enough C.
    """
    logits = read_part(returned, output)
    if isinstance(logits, Tensor) and logits.is_floating_point() and logits.dim() == 1:
        if batch == 1 and len(logits) >= least:
            logits = logits[None]
        elif len(logits) == batch:
            logits = logits[:, None]
    if (
        isinstance(logits, Tensor)
        and logits.dim() == 2
        and logits.shape[0] == batch
        and logits.shape[1] >= least
        and logits.is_floating_point()
    ):
        return logits
    if isinstance(logits, Tensor) and (axis := _batch_axis(logits, inputs)):
        raise OutputError(
            "the batch is not on the first axis of the head's input",
            got=f"logits {list(logits.shape)}, input "
            + ", ".join(str(list(tensor.shape)) for tensor in inputs)
            + f": the {len(logits)} rows of the logits are on axis {axis} of the input",
            expected=f"the batch on axis 0 of both: [{len(logits)}, ...]",
            remedy="put the batch first (batch_first=True, or transpose in front of the head), or "
            "name a head behind the transpose",
        )
    single = isinstance(logits, Tensor) and logits.dim() == 2 and logits.shape[1] == 1
    raise OutputError(
        "the head does not return the logits of a batch",
        got=describe(logits),
        expected=f"a floating-point tensor [B, C] = [{batch}, {least} or more]",
        remedy="softmax over one logit is always 1: choose MEASURE bernoulli for a sigmoid head, "
        "or squared for regression"
        if single
        else "name the module that returns the logits, or say with output= which part "
        "of its return value they are (an index, a key, a function)",
    )


def _batch_axis(logits: Tensor, inputs: Collection[Tensor]) -> int | None:
    """The only axis behind the first on which every input has as many entries as logits rows."""
    if logits.dim() != 2 or not inputs or min(tensor.dim() for tensor in inputs) < 3:
        return None
    axes = range(min(tensor.dim() for tensor in inputs))
    found = [axis for axis in axes if all(len(logits) == t.shape[axis] for t in inputs)]
    return found[0] if len(found) == 1 and found[0] else None


def read_tensor(returned: Any, output: Output, link: str) -> Tensor:
    """What a link of a chain passes on to the next one.

    Raises:
        OutputError: it is not one tensor.
    """
    tensor = read_part(returned, output)
    if isinstance(tensor, Tensor):
        return tensor
    raise OutputError(
        f"the link {link!r} does not pass one tensor on to the next",
        got=describe(tensor),
        expected="a tensor",
        remedy="say with output= which part of its return value goes on, with one entry for each "
        "link, such as output=[0, None]",
    )


def read_part(returned: Any, output: Output) -> Any:
    """The part itself, of any type; a tensor on the way to it is taken for it.

    Raises:
        OutputError: the return value has no such part.
    """
    if output is None:
        return returned
    part = returned
    try:
        if callable(output):
            return output(returned)
        for key in output if isinstance(output, tuple) else (output,):
            # Many modules return (features, loss) in training and the features alone in eval mode.
            if isinstance(part, Tensor):
                break
            named = isinstance(key, str) and not isinstance(part, Mapping)
            part = getattr(part, str(key)) if named else part[key]
    except Exception as error:  # a function of the user's can raise anything
        if out_of_memory(error):
            raise
        words = list(output) if isinstance(output, tuple) else output
        what = "that output= finds" if callable(output) else repr(words)
        raise OutputError(
            f"the head's return value has no part {what}",
            got=f"{describe(returned)}: {type(error).__name__}: {error}",
            expected="an index, a key, an attribute, or a function of the return value",
            remedy="pass as output= what finds the logits in it",
        ) from error
    return part
