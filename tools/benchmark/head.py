"""One estimate at a head, against the forwards of the published method and against Captum."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cmiei_hooks import Config, attach
from cmiei_hooks.counterfactual import influence_of_linear
from cmiei_hooks.functional import counterfactual_influence
from cmiei_hooks.fusion import Captured, Head, locate

__all__ = [
    "Functions",
    "Shape",
    "between_estimates",
    "captured_head",
    "estimates",
    "three_steps",
    "training",
    "training_step",
]

Functions = dict[str, Callable[[], object]]


@dataclass(frozen=True)
class Shape:
    """A Linear head, or with ``hidden`` an MLP: Linear, ReLU, dropout, Linear."""

    batch: int
    width: int
    """The width of one modality."""
    classes: int
    modalities: int = 3
    hidden: int | None = None

    def __str__(self) -> str:
        wide = f"{self.modalities}x{self.width}"
        layers = f"{wide} -> {self.hidden}" if self.hidden else wide
        return f"({self.batch}, {layers}, {self.classes})"

    def model(self, device: torch.device) -> nn.Sequential:
        """A model whose head is named ``classifier``."""
        torch.manual_seed(0)
        inputs = self.modalities * self.width
        head: nn.Module = nn.Linear(self.hidden or inputs, self.classes)
        if self.hidden:
            head = nn.Sequential(nn.Linear(inputs, self.hidden), nn.ReLU(), nn.Dropout(0.1), head)
        model = nn.Sequential()
        model.add_module("classifier", head)
        return model.to(device)

    def features(self, device: torch.device) -> Tensor:
        """A random input of the head."""
        return torch.randn(self.batch, self.modalities * self.width, device=device)

    @property
    def settings(self) -> Config:
        """The settings that name the head and the modalities."""
        return Config(enabled=True, head="classifier", splits=(self.width,) * self.modalities)


def captured_head(shape: Shape, device: torch.device) -> tuple[Head, Captured]:
    """A head and one call of it."""
    head = locate(shape.model(device), shape.settings)
    return head, head.partition.read((shape.features(device),), {})


def estimates(shape: Shape, device: torch.device) -> Functions:
    """A forward, the forwards of the published method, Captum, the hook, and a training step."""
    model, features = shape.model(device), shape.features(device)
    head = locate(model, shape.settings)
    captured = head.partition.read((features,), {})

    def without(modality: int) -> Tensor:
        changed = features.clone()
        changed[:, modality * shape.width : (modality + 1) * shape.width] = 0
        logits: Tensor = model(changed)
        return logits

    def published() -> None:
        with torch.no_grad():
            left = torch.stack([without(m) for m in range(shape.modalities)])
            counterfactual_influence(model(features), left)

    def forward() -> None:
        with torch.no_grad():
            model(features)

    functions = {
        "one head forward": forward,
        f"{1 + shape.modalities} forwards": published,
        **_captum(shape, model, features),
        "the hook's estimate": lambda: _known(influence_of_linear(head, captured)),
    }
    step = training_step(model, (features,), shape.classes)
    return {**functions, "a training step of the head": step}


def training(shape: Shape, device: torch.device) -> Functions:
    """Three training steps of the head alone, of which one is an estimation step (K = 3)."""
    plain, attached = shape.model(device), shape.model(device)
    attach(attached, config=shape.settings, k=3, warmup_epochs=0, log=False)
    inputs = (shape.features(device),)
    return three_steps(*(training_step(m, inputs, shape.classes) for m in (plain, attached)))


def between_estimates(calls: int) -> Functions:
    """Calls of a module with an empty pre-hook, and with the hook between two estimates."""

    def many(model: nn.Module) -> Callable[[], object]:
        x = torch.zeros(1, 2)

        def run() -> None:
            for _ in range(calls):  # with gradient on, as in training
                model(x)

        return run

    empty, attached = nn.Sequential(nn.Identity()), nn.Sequential(nn.Identity())
    empty[0].register_forward_pre_hook(lambda module, args, kwargs: None, with_kwargs=True)
    handle = attach(attached, head="0", splits=[1, 1], k=10**9, warmup_epochs=0, log=False)
    attached(torch.zeros(2, 2))  # the first step estimates
    functions = {"empty pre-hook": many(empty), "attached": many(attached)}
    if handle.step != 1:
        raise RuntimeError("the hook does not run")
    return functions


def training_step(
    model: nn.Module, inputs: tuple[Tensor, ...], classes: int
) -> Callable[[], object]:
    """Forward, cross-entropy, backward and SGD."""
    labels = torch.arange(len(inputs[0]), device=inputs[0].device) % classes
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)

    def step() -> None:
        loss = nn.functional.cross_entropy(model(*inputs), labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch has no types here
        optimizer.step()

    return step


def three_steps(plain: Callable[[], object], attached: Callable[[], object]) -> Functions:
    """Three steps, which is one estimate with K = 3."""

    def three(step: Callable[[], object]) -> Callable[[], object]:
        return lambda: [step() for _ in range(3)]

    return {"3 training steps": three(plain), "3 training steps, attached": three(attached)}


def _captum(shape: Shape, model: nn.Module, features: Tensor) -> Functions:
    """Captum's ablation of the same modalities for one class; empty if it is not installed."""
    try:
        from captum.attr import FeatureAblation  # noqa: PLC0415  # an extra
    except ImportError:
        return {}
    ablation = FeatureAblation(model)
    mask = torch.arange(shape.modalities, device=features.device)
    mask = mask.repeat_interleave(shape.width)[None]

    def ablate() -> None:
        with torch.no_grad():
            ablation.attribute(features, target=0, feature_mask=mask)

    return {"Captum FeatureAblation": ablate}


def _known(influence: Tensor | None) -> None:
    if influence is None:
        raise RuntimeError("the head is not one of those that begin with a Linear")
