"""Train a classifier of several views, and measure it with all of them and with some missing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ..counterfactual import BASELINES, reruns
from ..demo import WIDTH, Batches, train_epochs
from ..functional import counterfactual_influence, dominant
from ..fusion import Head, locate
from ..settings import Config

__all__ = ["evaluate", "fit"]


def fit(
    attach: Any,
    model: nn.Module,
    names: Sequence[str],
    train: Batches,
    test: Batches,
    epochs: int,
) -> dict[str, float]:
    """Train with cross-entropy and Adam, then return the metrics of ``evaluate``.

    Args:
        attach: called like ``cmiei_hooks.attach``.
        model: a ``ViewsModel`` of the demonstration.
        names: the names of the views.
        train: batches to train on.
        test: batches to test on.
        epochs: the number of epochs.
    """
    where: dict[str, Any] = {"head": "classifier", "splits": [WIDTH] * len(names), "names": names}
    handle = attach(model, **where)
    for _ in train_epochs(model, train, epochs, handle):
        pass
    return evaluate(model, locate(model, Config(**where)), test)


@torch.no_grad()
def evaluate(model: nn.Module, head: Head, batches: Batches) -> dict[str, float]:
    """Accuracy and influence on a test set. A missing modality is zero in the input of the head.

    Args:
        model: is put into eval mode.
        head: its fusion head.
        batches: the test set.

    Returns:
        ``accuracy``, ``accuracy without <name>``, ``worst accuracy missing``, ``accuracy alone
        <name>`` (shares of the samples); the mean influence ``CI <name>``, and ``Hist <name>``, the
        share of the samples that the modality dominates.
    """
    names, count = head.partition.names, len(head.partition.names)
    everything = range(count)
    missing = [
        [],
        *([m] for m in everything),
        *([o for o in everything if o != m] for m in everything),
    ]
    calls, labels = [], []

    def measure(_: nn.Module, args: tuple[Any, ...]) -> None:
        with reruns(head, head.partition.read(args, {})) as logits_with:
            zeros = (dict.fromkeys(dropped, BASELINES["zero"]) for dropped in missing)
            calls.append(torch.stack([logits_with(changes) for changes in zeros]))

    model.eval()
    with head.first.register_forward_pre_hook(measure):
        for *inputs, label in batches:
            model(*inputs)
            labels.append(label)
    logits = torch.cat(calls, dim=1)
    accuracy = (logits.argmax(-1) == torch.cat(labels)).float().mean(1).tolist()
    without, alone = accuracy[1 : count + 1], accuracy[count + 1 :]
    influence = counterfactual_influence(logits[0], logits[1 : count + 1])
    first = dominant(influence)
    return {
        "accuracy": accuracy[0],
        **{f"accuracy without {name}": without[m] for m, name in enumerate(names)},
        "worst accuracy missing": min(without),
        **{f"accuracy alone {name}": alone[m] for m, name in enumerate(names)},
        **{f"CI {name}": float(influence[:, m].mean()) for m, name in enumerate(names)},
        **{f"Hist {name}": float((first == m).float().mean()) for m, name in enumerate(names)},
    }
