"""Does the model return the logits of its head? A hidden layer has an influence, too."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from .._torch import original
from ..counterfactual import OutputCheck, larger_head
from ..errors import CMIEIError, HeadError
from ..fusion import Head

__all__ = ["run_and_compare"]


def run_and_compare(
    model: nn.Module, head: Head, run: Callable[[], None], again: Callable[[], None], *, told: bool
) -> str:
    """Run the model on its first batch, and see whether it returns the logits of its head.

    The part of the model behind the head is run with gradient, to see which layers it has.

    Args:
        model: the model.
        head: the head in it.
        run: runs it on the batch.
        again: does the same after an error. The error may be due to the gradient: NumPy takes no
            tensor that has one.
        told: whether the user knows that the model computes its output further by layers.

    Returns:
        What the model returns instead, if it does and was told; empty if nothing is known of it.

    Raises:
        HeadError: it does, and was not told.
    """
    if head.branches or head.first is original(model):
        run()
        return ""  # of branches, every forward is compared
    inner = original(model)
    inner = inner.module if isinstance(inner, DistributedDataParallel) else inner
    check = OutputCheck(head, inner, without_gradient=True)
    failed = False
    try:
        with torch.no_grad():  # if the model itself is not called, the gradient stays on
            run()
    except CMIEIError:
        raise
    except Exception:
        failed = True
    finally:
        check.close()
    if failed:
        again()  # after the handler: what this raises has one traceback
    found = check.result
    if found is None or found.verdict != "different":
        return ""
    if not told:
        raise HeadError(
            f"the head {head.name!r} does not return the logits of the model",
            got=found.sentence,
            expected="a head whose logits the model returns",
            remedy=f"{larger_head(model, head, found)}; if this layer is what you want to audit, "
            "say features_head=True (--features-head)",
        )
    return found.sentence
