"""Does the model return the logits of its head, or compute its output from them by more layers?

A hidden layer that is named as the head has "logits" too, and everything else about it looks right.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.utils.hooks import RemovableHandle

from .._torch import exporting, in_backward, is_fake, original, transform, untraced
from ..errors import CMIEIError
from ..fusion import Head, common_module, mapped, read_part, replaced, tensors, unwrapped
from .autograd_graph import ancestors, layers_between
from .isolation import not_recorded
from .separate_encoders import separate_encoders

__all__ = [
    "HeadOutput",
    "OutputCheck",
    "OutputComparison",
    "compare_output",
    "head_output",
    "larger_head",
]

_TOLERANCE = 1e-4
"""Relative difference up to which two tensors count as equal; the later steps may round."""


_MOST_STARTS = 8
"""The most columns that are tried as the first one of a slice of the classes."""


@dataclass(frozen=True)
class HeadOutput:
    """The logits of one call of the head, kept when the head returned them."""

    logits: Tensor
    """A detached copy, since the model may write into the logits."""
    node: Node | None
    """The node that computed them; None without gradient, or if ``output=`` is a function."""


Verdict = Literal["same", "different", "unknown"]


@dataclass(frozen=True)
class OutputComparison:
    """Whether the model returns the head's logits."""

    verdict: Verdict
    """``different`` only if layers with weights computed everything that depends on the logits."""
    sentence: str
    weights: tuple[str, ...] = ()
    """The names of these weights in the model."""
    sigmoid: bool = False
    """Whether the head returns the output of a sigmoid."""


def head_output(head: Head, returned: Any) -> HeadOutput | None:
    """Keep what ``compare_output`` needs of a call of the head's last link.

    Returns:
        None if the logits are not one floating-point tensor.
    """
    try:
        logits = read_part(returned, head.outputs[-1])
    except CMIEIError:
        return None
    if not isinstance(logits, Tensor) or not logits.is_floating_point() or not logits.dim():
        return None
    whole = any(tensor is logits for _, tensor in tensors(returned))
    return HeadOutput(logits.detach().clone(), logits.grad_fn if whole else None)


def compare_output(
    outputs: Sequence[HeadOutput], returned: Any, model: nn.Module
) -> OutputComparison:
    """Compare what the head returned, in all its calls, with what the model returned.

    Values show whether the model returns the logits: unchanged, reshaped, scaled or shifted
    (log-softmax), as probabilities, or for some of the classes only. The autograd graph shows
    whether all that the model returns is computed from them by layers with weights. Without it, or
    where functions take part (averages of heads, losses, margins), the answer is ``unknown``.

    Args:
        outputs: of the head, one for each call.
        returned: by the model in the same forward.
        model: whose weights are named.
    """
    found = [tensor for _, tensor in tensors(returned) if tensor.is_floating_point()]
    with torch.no_grad(), not_recorded():
        related = [
            next(filter(None, (_relation(t.detach(), output.logits) for output in outputs)), "")
            for t in found
        ]
    relation = next(filter(None, related), "")
    nodes = {output.node for output in outputs if output.node is not None}
    if len(nodes) < len(outputs):  # without gradient there is no graph
        nodes = set()
    others = [t for t, how in zip(found, related, strict=True) if not how]
    # A loss beside the logits may go through a projection; a loss alone must go through the logits.
    others = [t for t in others if t.dim()] + [t for t in others if not (t.dim() or relation)]
    layered, weights = _computed_by_layers(others, outputs, nodes, model)
    verdict: Verdict = "unknown"
    if relation:
        verdict = "unknown" if layered else "same"
        text = f"the model returns the head's logits {relation}"
        text += f", and also {layered}" if layered else ""
    elif not found:
        text = "the model returns no floating-point tensor"
    elif not nodes:
        text = "the head's logits have no gradient that could be followed"
    elif any(node in nodes for t in found for node in ancestors(t, stop_at_layers=True)):
        text = "the model's output is computed further from this head, by functions"
    elif layered:
        verdict, text = "different", f"the model returns {layered}"
    else:
        text = "nothing that the model returns shows whether it uses the head's logits"
    sigmoid = any(node.name().startswith("Sigmoid") for node in nodes)
    return OutputComparison(verdict, text, weights, sigmoid)


def larger_head(model: nn.Module, head: Head, found: OutputComparison) -> str:
    """The remedy for a head whose logits go through more layers: what to name instead."""
    modules = {unwrapped(path): module for path, module in model.named_modules()}
    layers = [unwrapped(weight.rpartition(".")[0]) for weight in found.weights]
    outer = common_module(modules, [unwrapped(head.names[0]), *layers])
    named = f"name {outer!r}" if outer else "name a module that contains all of them"
    return f"{named}, or what cmiei_hooks.discover(model, *inputs) finds"


def _computed_by_layers(
    found: Sequence[Tensor],
    outputs: Sequence[HeadOutput],
    nodes: Collection[Node],
    model: nn.Module,
) -> tuple[str, tuple[str, ...]]:
    """Scores or a loss that layers compute from the logits, and the weights of these layers."""
    batches = {size * len(output.logits) for output in outputs for size in (1, 2)}
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    for tensor in found:
        scores = tensor.dim() in (1, 2) and len(tensor) in batches
        if not scores and tensor.numel() != 1:
            continue
        if layers := layers_between(tensor, nodes):
            weights = tuple(filter(None, (names.get(id(weight)) for weight in layers)))
            count = "1 more layer" if len(layers) == 1 else f"{len(layers)} more layers"
            named = f" ({', '.join(weights[:3])}{', ...' if len(weights) > 3 else ''})"
            what = f"{list(tensor.shape)}" if tensor.dim() else "a loss"
            text = f"{what}, computed from the head's {list(outputs[0].logits.shape)}"
            return f"{text} by {count}{named if weights else ''}", weights
    return "", ()


class OutputCheck:
    """Hooks that compare, in one forward of the model, its output with the head's logits.

    They are removed when the model has returned. Copies (deepcopy, pickle) do nothing.

    Args:
        head: what is compared.
        model: what the training loop calls, or what it wraps.
        without_gradient: also in a forward under ``torch.no_grad``, with a graph from the head's
            logits on; what the model returns is detached again. To be used where nothing is
            trained.
        only_training: wait for a forward in training mode.
    """

    def __init__(
        self,
        head: Head | None = None,
        model: nn.Module | None = None,
        *,
        without_gradient: bool = False,
        only_training: bool = False,
    ) -> None:
        self._head, self._model = head, model
        self._only_training = only_training
        self._without_gradient = without_gradient
        self._outputs: list[HeadOutput] = []
        self._gradient = self._graph_began = False
        self.result: OutputComparison | None = None
        """None until the model has returned from a forward in which the head was called."""
        self.encoders: tuple[str, ...] = ()
        """The encoders that the calls of the head follow, if each follows one of its own."""
        self.paused = False
        """During a dry run of the model nothing is compared."""
        self._hooks: list[RemovableHandle] = []
        self._run: Callable[..., Any] | None = None
        if head is not None and model is not None:
            self._model = model = original(model)
            # Not traced by Dynamo.
            self._run = untraced(self._dispatch)
            self._hooks = [
                model.register_forward_pre_hook(self),
                head.last.register_forward_hook(self),
                # After an exception, too: the gradient mode must be put back.
                model.register_forward_hook(self, always_call=True),
            ]

    @property
    def open(self) -> bool:
        """Whether the comparison is still to be made."""
        return bool(self._hooks)

    def close(self) -> None:
        """Remove the hooks."""
        for hook in self._hooks:
            hook.remove()
        self._hooks, self._outputs = [], []

    def __call__(self, module: nn.Module, args: Any, *returned: Any) -> Any:
        """The signature of a forward hook; a pre-hook is called without ``returned``."""
        waits = self._only_training and not module.training
        if self._run is None or self.paused or waits or exporting():
            return None  # without a graph break in compiled code
        return self._run(module, *returned)

    def _dispatch(self, module: nn.Module, *returned: Any) -> Any:
        if self._head is None or self._model is None or in_backward() or transform() is not None:
            return None
        if not returned:
            self._gradient, self._outputs = torch.is_grad_enabled(), []
            return None
        if module is self._head.last:
            return self._watch(self._head, *returned)
        return self._judge(self._model, *returned)

    def _watch(self, head: Head, returned: Any) -> Any:
        new = None
        if self._without_gradient and not torch.is_grad_enabled():
            new = self._begin_graph(head, returned)
        with not_recorded():
            output = head_output(head, returned if new is None else new)
        self._outputs += [output] if output else []
        return new

    def _begin_graph(self, head: Head, returned: Any) -> Any:
        part = read_part(returned, head.outputs[-1])
        at = next((at for at, tensor in tensors(returned) if tensor is part), None)
        if at is None or not part.is_floating_point() or part.is_inference():
            return None
        torch.set_grad_enabled(True)
        self._graph_began = True
        return replaced(returned, at, part.detach().requires_grad_().clone())

    def _judge(self, model: nn.Module, returned: Any) -> Any:
        if self._graph_began:
            torch.set_grad_enabled(self._gradient)
        if not self._outputs:
            return None
        self.result = compare_output(self._outputs, returned, model)
        if self._head is not None and len(self._outputs) == len(self._head.partition.names):
            self.encoders = separate_encoders([one.node for one in self._outputs], model)
        self.close()
        return mapped(returned, Tensor.detach) if self._graph_began else None

    def __deepcopy__(self, memo: dict[int, Any]) -> OutputCheck:
        return OutputCheck()

    def __reduce__(self) -> tuple[type[OutputCheck], tuple[()]]:
        return OutputCheck, ()


def _relation(tensor: Tensor, logits: Tensor) -> str:
    """How a tensor shows the logits; empty if it does not."""
    if tensor.device != logits.device or not logits.numel() or not tensor.numel():
        return ""
    if tensor.is_meta or is_fake(tensor):
        return ""  # there is nothing to compare
    z = logits.reshape(len(logits), -1).float()
    if tensor.dim() == 2 and len(tensor) == len(z) and tensor.shape[1] != z.shape[1]:
        x = tensor.float()
        return "in part" if _is_slice(x, z) or _is_slice(z, x) else ""
    if tensor.numel() != z.numel():
        return ""
    for form in (tensor, tensor.T) if tensor.dim() == 2 else (tensor,):
        x = form.reshape(z.shape).float()
        relations = {
            "unchanged" if x.shape == tensor.shape else "reshaped": _near(x, z),
            "as probabilities": _near(x, z.softmax(1)) or _near(x, z.sigmoid()),
            "scaled": _proportional(x, z),
            "shifted": _proportional(x - x.mean(1, True), z - z.mean(1, True)),
        }
        if found := [name for name, holds in relations.items() if holds]:
            return found[0]
    return ""


def _near(x: Tensor, z: Tensor) -> bool:
    return bool((x - z).abs().max() <= _TOLERANCE * z.abs().max())


def _proportional(x: Tensor, z: Tensor) -> bool:
    scale = (x * z).sum() / (z * z).sum()
    return bool(scale > 0) and bool(x.abs().max() > 0) and _near(x, scale * z)


def _is_slice(part: Tensor, whole: Tensor) -> bool:
    """Whether neighbouring columns of one tensor are the other."""
    width = part.shape[1]
    count = whole.shape[1] - width + 1
    if count < 1:
        return False
    distances = (whole[:, :count] - part[:, :1]).abs().amax(0)
    first = (distances <= _TOLERANCE * part.abs().max()).nonzero().flatten().tolist()
    return any(_near(whole[:, at : at + width], part) for at in first[:_MOST_STARTS])
