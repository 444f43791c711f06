"""What the head returns, compared with what the model returns."""

from __future__ import annotations

import copy
import pickle
from collections import OrderedDict
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # as everybody calls it
from torch.utils.checkpoint import checkpoint

from cmiei_hooks.counterfactual import OutputCheck, OutputComparison
from cmiei_hooks.fusion import Head, locate
from cmiei_hooks.settings import Config

B, C = 16, 5


@dataclass
class Answer:
    logits: Tensor
    loss: Tensor


class Model(nn.Module):
    """Encoder, fusion MLP, and whatever ``finish`` makes of the logits."""

    def __init__(self, finish: Any = None, hidden: nn.Module | None = None) -> None:
        super().__init__()
        self.encoder = nn.Linear(6, 8)
        self.fusion = nn.Sequential(
            nn.Linear(8, 12), nn.BatchNorm1d(12), hidden or nn.ReLU(), nn.Linear(12, C)
        )
        self.other = nn.Linear(8, C)
        self.extra = nn.Linear(C, 3)
        self.norm = nn.BatchNorm1d(C)
        self.finish = finish or (lambda m, z, f: z)

    def forward(self, x: Tensor) -> Any:
        features = self.encoder(x)
        return self.finish(self, self.fusion(features), features)


def located(model: nn.Module, name: str = "fusion", **options: Any) -> Head:
    return locate(model, Config.resolve(None, {}, head=name, splits=[4, 4]), **options)


def compared(model: nn.Module, name: str = "fusion", **options: Any) -> OutputComparison:
    head = located(model, name, **options)
    check = OutputCheck(head, model)
    assert check.open
    model(torch.randn(B, 6))
    assert not check.open
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert check.result is not None
    return check.result


def in_autocast(layer: nn.Module, z: Tensor) -> Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return layer(z)


def finish_plainly(model: Model, z: Tensor, features: Tensor) -> Tensor:
    return z


def loss(z: Tensor) -> Tensor:
    return F.cross_entropy(z, torch.arange(B) % C)


SAME = {
    "alone": lambda m, z, f: z,
    "a tuple with features": lambda m, z, f: (z, f),
    "features first": lambda m, z, f: (f, z),
    "a dict": lambda m, z, f: {"loss": loss(z), "logits": z},
    "an ordered dict, as in transformers": lambda m, z, f: OrderedDict(loss=loss(z), logits=z),
    "a dataclass": lambda m, z, f: Answer(z, loss(z)),
    "a namespace": lambda m, z, f: SimpleNamespace(z=z),
    "scores of several heads": lambda m, z, f: (m.other(f), z, f),
    "a copy without gradient": lambda m, z, f: (z.detach().clone(), loss(z)),
    "with an axis of one": lambda m, z, f: z[:, None],
    "transposed": lambda m, z, f: z.T,
    "log-softmax": lambda m, z, f: z.log_softmax(1),
    "softmax": lambda m, z, f: z.softmax(1),
    "sigmoid": lambda m, z, f: z.sigmoid(),
    "a temperature": lambda m, z, f: z / 0.07,
    "some of the classes": lambda m, z, f: z[:, 1:4],
    "beside another head's": lambda m, z, f: torch.cat([m.other(f), z], 1),
    "written into afterwards": lambda m, z, f: z.mul_(2.0),
}

UNKNOWN = {
    "a loss": lambda m, z, f: loss(z),
    "losses": lambda m, z, f: {"ce": loss(z), "l2": f.square().mean()},
    "a loss for each sample": lambda m, z, f: F.cross_entropy(
        z, torch.arange(B) % C, reduction="none"
    ),
    "features only": lambda m, z, f: f,
    "nothing": lambda m, z, f: None,
    "classes": lambda m, z, f: z.argmax(1),
    "the mean of two heads": lambda m, z, f: (z + m.other(f)) / 2,
    "a margin": lambda m, z, f: z - torch.eye(C)[torch.arange(B) % C],
    "a hierarchy of fixed weights": lambda m, z, f: z @ torch.ones(C, 2),
    "normalised": lambda m, z, f: m.norm(z),
    "a loss on the logits and more layers": lambda m, z, f: (loss(z), m.extra(z)),
    "logits and more layers": lambda m, z, f: (z, m.extra(z)),
    "a loss with a projection": lambda m, z, f: loss(z) + m.extra(z).square().mean(),
    "checkpointed": lambda m, z, f: checkpoint(m.extra, z, use_reentrant=True),
}

DIFFERENT = {
    "one more layer": lambda m, z, f: m.extra(z),
    "with features": lambda m, z, f: (m.extra(z), f),
    "a residual in front of the classifier": lambda m, z, f: m.extra(F.relu(z) + z),
    "a dict with a loss": lambda m, z, f: {
        "logits": (y := m.extra(z)),
        "loss": F.cross_entropy(y, torch.zeros(B, dtype=torch.long)),
    },
    "a layer, then softmax": lambda m, z, f: m.extra(z).softmax(1),
    "squeezed to one score": lambda m, z, f: m.extra(z)[:, 0],
    "by a function with the weight": lambda m, z, f: F.linear(z.tanh(), m.extra.weight),
    "checkpointed": lambda m, z, f: checkpoint(m.extra, z, use_reentrant=False),
    "under autocast": lambda m, z, f: in_autocast(m.extra, z).float(),
    "a loss alone": lambda m, z, f: F.cross_entropy(m.extra(z), torch.arange(B) % 3),
    "a cosine classifier": lambda m, z, f: (
        16 * F.linear(F.normalize(z), F.normalize(m.extra.weight))
    ),
    "a pruned classifier": lambda m, z, f: F.linear(z, m.extra.weight * torch.ones(3, C)),
}


@pytest.mark.parametrize("case", SAME)
def test_the_model_returns_the_logits(case):
    assert compared(Model(SAME[case])).verdict == "same"


@pytest.mark.parametrize("case", UNKNOWN)
def test_it_cannot_be_told(case):
    assert compared(Model(UNKNOWN[case])).verdict == "unknown"


@pytest.mark.negative_control
@pytest.mark.parametrize("case", DIFFERENT)
def test_layers_behind_the_head(case):
    found = compared(Model(DIFFERENT[case]))
    assert found.verdict == "different"
    assert found.weights == ("extra.weight",)


@pytest.mark.negative_control
@pytest.mark.parametrize("hidden", [nn.ReLU(), nn.ReLU(inplace=True), nn.Dropout(0.5), nn.GELU()])
def test_a_hidden_layer_is_not_the_head(hidden):
    found = compared(Model(hidden=hidden), "fusion.0")
    assert found.verdict == "different"
    assert found.weights == ("fusion.3.weight",)


@pytest.mark.negative_control
def test_layers_of_several_axes_and_convolutions(golden):
    class Tokens(Model):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv1d(1, 3, 3)
            self.attend = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
            self.last = nn.Linear(4, C)

        def forward(self, x: Tensor) -> Tensor:
            z = self.fusion[0](self.encoder(x))
            tokens = self.conv(z[:, None]).flatten(1)[:, :12].view(B, 3, 4)
            return self.last(self.attend(tokens)[:, 0])

    found = compared(Tokens(), "fusion.0")
    assert found.verdict == "different"
    assert found.weights[0] == "conv.weight"
    assert "last.weight" in found.weights
    golden(found.sentence)


def test_a_head_that_is_called_again_by_what_follows():
    """Iterative refinement: the last call's logits are returned, and depend on the first call's."""

    class Refines(Model):
        def forward(self, x: Tensor) -> Tensor:
            z = self.fusion(self.encoder(x))
            return self.fusion(F.linear(z, self.fusion[3].weight[:, :8].T))

    assert compared(Refines()).verdict == "same"


OUTPUTS = {
    "a key": ("logits", "different"),
    "a function that finds them": (lambda out: out["logits"], "different"),
    # What a function computes anew is not in the graph of what the model returns.
    "a function that computes them": (lambda out: out["logits"] * 1, "unknown"),
}


@pytest.mark.parametrize("case", OUTPUTS)
def test_the_logits_among_other_outputs(case):
    class Dict(nn.Sequential):
        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"features": x, "logits": super().forward(x)}

    output, verdict = OUTPUTS[case]
    for finish, expected in (
        (lambda m, z, f: z["logits"], "same"),
        (lambda m, z, f: m.extra(z["logits"]), verdict),
    ):
        model = Model(finish)
        model.fusion = Dict(nn.Linear(8, C))
        assert compared(model, output=output).verdict == expected


@pytest.mark.negative_control
@pytest.mark.parametrize("kind", ["weight", "spectral"])
def test_a_layer_whose_weight_is_normalised(kind):
    norm = getattr(nn.utils.parametrizations, f"{kind}_norm")
    model = Model(lambda m, z, f: m.extra(z))
    norm(model.extra)
    assert compared(model).verdict == "different"


@pytest.mark.parametrize("measured", [nn.Sigmoid, nn.Softmax, nn.ReLU])
def test_the_output_of_a_sigmoid_is_recognised(measured):
    model = Model()
    model.fusion.append(measured())
    assert compared(model).sigmoid == (measured is nn.Sigmoid)


def test_a_layer_with_weight_norm():
    model = Model(DIFFERENT["one more layer"])
    model.extra = nn.utils.parametrizations.weight_norm(nn.Linear(C, 3))
    found = compared(model)
    assert found.verdict == "different"
    assert found.weights == ("extra.parametrizations.weight.original1",)


@pytest.mark.negative_control
def test_a_head_in_front_of_which_everything_is_frozen():
    model = Model(DIFFERENT["one more layer"])
    model.encoder.requires_grad_(False)
    assert compared(model).verdict == "different"


def test_frozen_layers_cannot_be_told():
    model = Model(DIFFERENT["one more layer"])
    model.requires_grad_(False)
    assert compared(model).verdict == "unknown"


@pytest.mark.negative_control
@pytest.mark.parametrize("case", ["one more layer", "with features"])
def test_without_gradient_the_graph_begins_at_the_head(case):
    model = Model(DIFFERENT[case])
    head = located(model)
    x = torch.randn(B, 6)
    model.eval()
    with torch.no_grad():
        expected = model(x)
        plain, follows = OutputCheck(head, model), OutputCheck(head, model, without_gradient=True)
        returned = model(x)
        assert not torch.is_grad_enabled()
    assert torch.is_grad_enabled()
    assert follows.result is not None
    assert follows.result.verdict == "different"
    del plain
    given = [(r,) if isinstance(r, Tensor) else r for r in (expected, returned)]
    for one, other in zip(*given, strict=True):
        assert torch.equal(one, other)
        assert not other.requires_grad


@pytest.mark.negative_control
def test_without_gradient_nothing_is_known_unless_it_is_followed():
    model = Model(DIFFERENT["one more layer"]).eval()
    head = located(model)
    check = OutputCheck(head, model)
    with torch.no_grad():
        model(torch.randn(B, 6))
    assert check.result is not None
    assert check.result.verdict == "unknown"


def test_the_gradient_mode_comes_back_after_an_error():
    def fails(m, z, f):
        raise RuntimeError("no")

    model = Model(fails).eval()
    head = located(model)
    check = OutputCheck(head, model, without_gradient=True)
    try:
        torch.set_grad_enabled(False)
        with pytest.raises(RuntimeError):
            model(torch.randn(B, 6))
        assert not torch.is_grad_enabled()
    finally:
        torch.set_grad_enabled(True)
    check.close()


def test_no_grad_inside_of_a_model_that_trains():
    class Inside(Model):
        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                features = self.encoder(x)
            return self.extra(self.fusion(features))

    assert compared(Inside()).verdict == "different"


def test_training_stays_equal_to_the_bit():
    def gradients(check: bool) -> list[Tensor]:
        torch.manual_seed(0)
        model = Model(DIFFERENT["with features"])
        if check:
            OutputCheck(located(model), model)
        scores, features = model(torch.randn(B, 6))
        (scores.square().mean() + features.square().mean()).backward()
        return [p.grad for p in model.parameters() if p.grad is not None] + list(model.buffers())

    assert all(torch.equal(a, b) for a, b in zip(gradients(False), gradients(True), strict=True))


def test_copies_do_nothing():
    model = Model()
    head = located(model)
    check = OutputCheck(head, model)
    for other in (copy.deepcopy(check), pickle.loads(pickle.dumps(check))):
        assert not other.open
    twin = copy.deepcopy(model)
    twin(torch.randn(B, 6))
    assert check.result is None
    assert check.open
    check.close()


def test_a_model_that_is_saved_meanwhile():
    model = Model()
    model.finish = finish_plainly
    check = OutputCheck(located(model), model)
    twin = pickle.loads(pickle.dumps(model))
    twin(torch.randn(B, 6))
    assert check.result is None
    check.close()


@pytest.mark.skipif(torch.__version__ < "2.4", reason="compiled code runs only some hooks")
@pytest.mark.parametrize("case", ["alone", "softmax"])
def test_a_compiled_model(case):
    model = torch.compile(Model(SAME[case]), backend="eager")
    head = located(model)
    check = OutputCheck(head, model)
    model(torch.randn(B, 6))
    assert check.result is not None
    assert check.result.verdict == "same"


@pytest.mark.parametrize("verdict", ["same", "unknown", "different"])
def test_the_sentences(verdict, golden):
    cases = {"same": SAME, "unknown": UNKNOWN, "different": DIFFERENT}[verdict]
    found = {case: compared(Model(finish)).sentence for case, finish in cases.items()}
    golden("\n".join(f"{case}: {sentence}" for case, sentence in found.items()))
