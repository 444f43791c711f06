"""Training steps of a head without and with the hook, the published method, and Captum."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cmiei_hooks import Config, attach
from cmiei_hooks.functional import counterfactual_influence
from cmiei_hooks.fusion import Captured, Head, locate

from .timing import Timing

__all__ = [
    "Functions",
    "Shape",
    "between_estimates",
    "captured_head",
    "steps",
    "three_steps",
    "training",
    "training_step",
    "with_differences",
]

_PLAIN = "a training step of the head"
_ATTACHED = ("observing", "acting")

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
    autocast: bool = False
    """Whether everything runs under autocast to bfloat16."""

    def __str__(self) -> str:
        wide = f"{self.modalities}x{self.width}"
        layers = f"{wide} -> {self.hidden}" if self.hidden else wide
        rounded = ", bfloat16 autocast" if self.autocast else ""
        return f"({self.batch}, {layers}, {self.classes}){rounded}"

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


def steps(shape: Shape, device: torch.device) -> Functions:
    """A forward, the published method, Captum, and a training step: plain, observing and acting.

    The attached ones estimate in every step (K = 1).
    """
    model, features = shape.model(device), shape.features(device)

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

    def step(p_max: float | None) -> Callable[[], object]:
        trained = shape.model(device)
        if p_max is not None:
            settings = shape.settings
            attach(trained, config=settings, k=1, p_max=p_max, warmup_epochs=0, log=False)
        return training_step(trained, (features,), shape.classes)

    functions = {
        "one head forward": forward,
        f"{1 + shape.modalities} forwards": published,
        **_captum(shape, model, features),
        _PLAIN: step(None),
        **dict(zip(_ATTACHED, (step(0.0), step(shape.settings.p_max)), strict=True)),
    }
    if not shape.autocast:
        return functions
    return {name: _under_autocast(function, device) for name, function in functions.items()}


def _under_autocast(function: Callable[[], object], device: torch.device) -> Callable[[], object]:
    def run() -> None:
        with torch.autocast(device.type, dtype=torch.bfloat16):
            function()

    return run


def with_differences(timings: Mapping[str, Timing]) -> dict[str, Timing]:
    """What observing and acting add to a training step, instead of the attached steps."""
    known = {name: timing for name, timing in timings.items() if name not in _ATTACHED}
    added = {name: timings[name].minus(timings[_PLAIN]) for name in _ATTACHED if name in timings}
    return {**known, **{f"{name} adds": timing for name, timing in added.items()}}


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
