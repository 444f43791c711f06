"""OGM-GE as a peer: the gradients of modalities that are ahead are made smaller.

Peng, Wei, Deng, Wang, Hu: "Balanced Multimodal Learning via On-the-fly Gradient Modulation", CVPR
2022. There are two modalities, whose features a Linear ``z = W_a x_a + W_v x_v + b`` fuses.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..counterfactual import variants_of
from ..errors import ConfigError, ValidationError
from ..fusion import Captured, Head, Path, read_logits
from ..settings import Config
from ..training import HeadCall, Noise, without_backward

__all__ = ["GradientModulation", "coefficients", "logits_alone"]


class GradientModulation:
    """Multiplies the gradient at each modality's features by a coefficient, and adds noise to it.

    By the chain rule, to scale the gradient at the features is to scale that of every parameter of
    the encoder behind them, as long as no encoder is shared. The noise of the paper has the
    covariance of the batch's gradient; here, at the features, it is Gaussian with the standard
    deviation of their gradient.

    No labels are needed: of cross-entropy, the gradient at the logits is negative at the true class
    only. With smoothed labels it is smallest there. Samples without a negative gradient are left
    out of the scores.

    Args:
        config: the settings in force.
        noise: source of the random numbers.
        alpha: how strongly the gradients are scaled.
        enhance: whether noise is added (GE).
    """

    every_step = True

    def __init__(
        self, config: Config, noise: Noise, alpha: float = 0.5, enhance: bool = True
    ) -> None:
        self._inplace, self._noise = config.inplace, noise
        self._alpha, self._enhance = alpha, enhance
        self._head: Head | None = None

    def choose(self, call: HeadCall) -> Tensor | None:
        """No modality of any sample: no features change."""
        if not call.acts:
            return None
        if call.head.branches or self._inplace:
            raise ConfigError(
                "OGM-GE scales gradients at the input of one head",
                got="INPLACE True" if self._inplace else f"branches: {call.head.name}",
                expected="a head that receives the features of all modalities, and INPLACE False",
                remedy="leave the arm OGM-GE out",
            )
        self._head = call.head
        shape = call.captured.batch, len(call.captured.groups)
        return torch.zeros(shape, dtype=torch.bool, device=call.captured.device)

    def replace(self, captured: Captured, chosen: Tensor, step: int) -> dict[Path, Tensor]:
        """The same features, whose gradient will be scaled in backward."""
        head = self._head
        # A reentrant checkpoint has its gradients in the recompute, the other kind in the first
        # pass. What the recompute of that kind computes is thrown away, and it may stop early.
        if head is None or not torch.is_grad_enabled() or without_backward():
            return captured.tensors
        alone = logits_alone(head, captured)
        wide = torch.promote_types(alone.dtype, torch.float32)
        scores = _Scores(alone.softmax(-1, wide))
        _when_called(head.last, partial(self._watch, head, captured.batch, scores))
        passed = {path: tensor.view_as(tensor) for path, tensor in captured.tensors.items()}
        for number, (path, tensor) in enumerate(passed.items()):
            if tensor.requires_grad:
                generator = self._noise.generator(captured.device, step, "gradient", number)
                scaled = partial(self._scaled, captured, path, scores, generator)
                tensor.register_hook(scaled)  # type: ignore[no-untyped-call]  # no types in torch
        return passed

    def _watch(self, head: Head, batch: int, scores: _Scores, returned: Any) -> None:
        logits = read_logits(returned, head.outputs[-1], batch)
        if logits.requires_grad:
            logits.register_hook(scores.read)  # type: ignore[no-untyped-call]  # as above

    def _scaled(
        self,
        captured: Captured,
        path: Path,
        scores: _Scores,
        generator: torch.Generator,
        gradient: Tensor,
    ) -> Tensor:
        if scores.of_modalities is None:
            raise ValidationError(
                "OGM-GE reads the labels from the gradient at the logits, and there is none",
                got=f"a backward that does not come through {self._head and self._head.name!r}",
                expected="a loss of the logits, such as cross-entropy",
                remedy="say with output= from which part of the head's return value the loss is "
                "computed, or leave the arm OGM-GE out",
            )
        scales = coefficients(scores.of_modalities, self._alpha)
        new = gradient.clone()
        tensors = {**captured.tensors, path: new}
        for m, group in enumerate(captured.groups):
            for one, part in zip(group, captured.views(tensors, m), strict=True):
                if one.path != path:
                    continue
                spread = part.std(correction=min(part.numel() - 1, 1))  # of one number: 0
                part.mul_(scales[m])
                if self._enhance:
                    noise = torch.empty_like(part).normal_(generator=generator)
                    part.add_(noise * spread)
        return new


@dataclass
class _Scores:
    """How sure each modality alone is of the true classes of a batch."""

    probabilities: Tensor
    """``[M, B, C]``, of each modality alone."""
    of_modalities: Tensor | None = None
    """``[M]``; known in backward."""

    def read(self, gradient: Tensor) -> None:
        """Add up the probabilities of the true classes, which the gradient at the logits shows."""
        smallest, labels = gradient.min(-1)
        rows = torch.arange(len(labels), device=labels.device)
        self.of_modalities = (self.probabilities[:, rows, labels] * (smallest < 0)).sum(-1)


def logits_alone(head: Head, captured: Captured) -> Tensor:
    """The logits of each modality alone, ``[M, B, C]``: of a Linear, ``W_m x_m + b / M``.

    Of any head: its logits where the others are zero, less ``1 - 1/M`` of its logits where all are.
    For use inside a pre-hook of the head.
    """
    count = len(captured.groups)
    with torch.no_grad(), variants_of(head, captured) as variants:
        zero = [variants.part(m, captured.dropping(m, torch.zeros_like)) for m in range(count)]
        alone = [
            variants.logits([*zero[:m], variants.part(m), *zero[m + 1 :]]) for m in range(count)
        ]
        return torch.stack(alone) - (1 - 1 / count) * variants.logits(zero)


def coefficients(scores: Tensor, alpha: float) -> Tensor:
    """What the gradient of each modality is multiplied by.

    With the scores ``s``, the discrepancy of a modality is ``rho_m = s_m / mean of the other s``,
    which for two modalities is the ratio of the paper. ``k_m = 1 - tanh(alpha * rho_m)`` where
    ``rho_m > 1``, else 1.

    Args:
        scores: ``[M]``, the sums over the batch of the softmax at the true class.
        alpha: from 0, which changes nothing.

    Returns:
        ``[M]``, from 0 to 1.
    """
    others = (scores.sum() - scores) / (len(scores) - 1)
    rho = scores / others.clamp_min(torch.finfo(scores.dtype).tiny)
    return torch.where(rho > 1, 1 - (alpha * rho).tanh(), 1)


def _when_called(module: nn.Module, run: Callable[[Any], None]) -> None:
    """Call a function with what the module returns the next time that it is called."""

    def hook(module: nn.Module, args: Any, returned: Any) -> None:
        handle.remove()
        run(returned)

    handle = module.register_forward_hook(hook)
