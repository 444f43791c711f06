"""The dry run: a good model passes every check, and for each check one deliberately bad model."""

from __future__ import annotations

import pytest
import torch
from helpers import WIDTHS, Fused, trace
from silence import HEADS, Model
from torch import Tensor, nn

import cmiei_hooks
from cmiei_hooks import CMIEIError, verify

WHERE = {"head": "classifier", "splits": WIDTHS}
CHECKS = [
    "head found",
    "head called",
    "last pre-hook of the head",
    "modalities",
    "logits",
    "buffers, parameters, generators",
    "gradient reaches the input",
    "re-entry gives the real logits",
    "head returns logits, not probabilities",
    "each modality is one input",
    "head returns the model's logits",
    "output is used",
]


class RoundsWithoutGradient(nn.Linear):
    """As products that take another way without gradient."""

    def __init__(self, by: float) -> None:
        super().__init__(12, 7)
        self.by = by

    def forward(self, x: Tensor) -> Tensor:
        z = super().forward(x)
        return z if torch.is_grad_enabled() else z * (1 + self.by)


@pytest.mark.parametrize(("by", "ok"), [(2e-7, True), (1e-4, False)])
def test_only_rounding_may_differ_without_gradient(by, ok):
    report = verify(Fused(RoundsWithoutGradient(by)), torch.randn(8, 6), **WHERE)
    (found,) = [c for c in report.checks if c.name == "re-entry gives the real logits"]
    assert found.ok == ok
    assert ("rounding" in found.found) == ok


def test_a_head_that_fails_on_zeros_is_a_no(golden):
    class Lengths(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            if (x[:, :3] == 0).all():
                raise RuntimeError("lengths have to be greater than 0")
            return super().forward(x)

    model = Fused(Lengths(12, 7))
    report = verify(model, torch.randn(8, 6), **WHERE)
    (found,) = [c for c in report.checks if not c.ok]
    golden(found.found)
    assert verify(model, torch.randn(8, 6), **WHERE, drop="mean").ok


class NeverCalled(Fused):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(self.features(x), self.classifier.weight)


class OwnGenerator(nn.Linear):
    """Dropout from a generator of its own, which nobody can rewind."""

    def __init__(self) -> None:
        super().__init__(12, 7)
        self.generator = torch.Generator().manual_seed(1)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x * (torch.rand(x.shape, generator=self.generator) > 0.5))


class WritesWeights(nn.Linear):
    """Normalises its weight in forward."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.weight.mul_(0.99)
        return super().forward(x)


class Counts(nn.Linear):
    """Depends on how often any instance was called, where no instance shows it."""

    total = 0

    def forward(self, x: Tensor) -> Tensor:
        type(self).total += 1
        return super().forward(x) * type(self).total


class Detaches(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.detach())


class Discards(Fused):
    """Calls its classifier and returns something else."""

    def forward(self, x: Tensor) -> Tensor:
        self.classifier(self.features(x))
        return self.features(x)


class GoesOn(Fused):
    """Its ``classifier`` is a hidden layer."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(7, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(super().forward(x).relu())


def with_a_later_hook() -> Fused:
    model = Fused()
    cmiei_hooks.attach(model, **WHERE, log=False)
    model.classifier.register_forward_pre_hook(lambda _, args: (args[0] * 2,))
    return model


# "each modality is one input" needs several inputs: see test_columns.py.
BAD = {
    "head found": lambda: Fused(nn.ModuleList([nn.Linear(12, 7)])),
    "head called": NeverCalled,
    "last pre-hook of the head": with_a_later_hook,
    "modalities": lambda: Fused(nn.Sequential(nn.Flatten(), nn.Linear(12, 7)), widths=[6, 3, 3]),
    "logits": lambda: Fused(nn.Sequential(nn.Linear(12, 6), nn.Unflatten(1, (2, 3)))),
    "buffers, parameters, generators": lambda: Fused(WritesWeights(12, 7)),
    "re-entry gives the real logits": lambda: Fused(Counts(12, 7)),
    "gradient reaches the input": lambda: Fused(Detaches(12, 7)),
    "head returns logits, not probabilities": lambda: Fused(
        nn.Sequential(nn.Linear(12, 7), nn.Softmax(-1))
    ),
    "head returns the model's logits": GoesOn,
    "output is used": Discards,
}


def test_a_good_model_passes_every_check(model, x, capsys, golden):
    report = verify(model, x, **WHERE, strict=True)
    assert report.ok
    assert [check.name for check in report.checks] == CHECKS
    golden(capsys.readouterr().out)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
def test_every_head_of_the_matrix_passes(head):
    torch.manual_seed(0)
    verify(
        Model(HEADS[head]()), torch.randn(8, 6), head="classifier", splits=[8, 8, 8], strict=True
    )


@pytest.mark.parametrize("check", BAD)
def test_for_every_check_there_is_a_model_that_fails_it(check, x, golden):
    splits = [4, 3, 4] if check == "modalities" else WIDTHS
    report = verify(BAD[check](), x, head="classifier", splits=splits)
    assert check in [c.name for c in report.checks if not c.ok]
    with pytest.raises(CMIEIError) as error:
        verify(BAD[check](), x, head="classifier", splits=splits, strict=True)
    if check not in ("head found", "modalities", "logits"):  # the text of another room's error
        golden(error.value)


def test_a_generator_of_its_own_is_seen(x, golden):
    report = verify(Fused(OwnGenerator()), x, **WHERE)
    golden(next(c.found for c in report.checks if not c.ok))


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("recompute", ["head", "block"])
def test_a_checkpointed_model_passes(recompute, reentrant):
    model = Model(HEADS["batch norm, dropout"](), recompute, reentrant)
    verify(model, torch.randn(8, 6), head="classifier", splits=[8, 8, 8], strict=True)


def test_the_table_of_a_failed_check(x, capsys, golden):
    verify(Discards(), x, **WHERE)
    golden(capsys.readouterr().out)


def test_keywords_may_be_given_as_a_dict(model, x):
    assert verify(model, {"x": x}, **WHERE).ok


def test_a_head_called_twice_is_counted(x, golden):
    class Twice(Fused):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + super().forward(x)

    (check,) = [c for c in verify(Twice(), x, **WHERE).checks if c.name == "head called"]
    assert check.ok
    golden(check.found)


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_left_as_it_was(training):
    torch.manual_seed(0)
    model = Model(HEADS["batch norm, dropout"]())
    model.train(training)
    handle = cmiei_hooks.attach(model, head="classifier", splits=[8, 8, 8], log=False, k=1)
    handle.set_epoch(0)
    before, values = trace(model), {k: v.clone() for k, v in model.state_dict().items()}
    versions = [tensor._version for tensor in model.state_dict(keep_vars=True).values()]
    generator = torch.get_rng_state()
    assert verify(
        model, torch.randn(8, 6, generator=torch.Generator()), head="classifier", splits=[8, 8, 8]
    ).ok
    assert trace(model) == before
    assert all(torch.equal(v, values[k]) for k, v in model.state_dict().items())
    assert [t._version for t in model.state_dict(keep_vars=True).values()] == versions
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(p.grad is None for p in model.parameters())
    assert handle.step == 0
    model.train()
    model(torch.randn(8, 6))
    assert handle.step == 1  # the attachment is alive again


def test_an_error_of_the_model_itself_is_its_own(model):
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        verify(model, torch.randn(4, 5), **WHERE)


@pytest.mark.parametrize("wrap", [lambda m: m, lambda m: torch.compile(m, backend="eager")])
def test_a_hidden_layer_of_an_mlp_is_not_the_head(x, wrap, golden):
    mlp = nn.Sequential(nn.Linear(12, 9), nn.BatchNorm1d(9), nn.ReLU(), nn.Linear(9, 3))
    assert verify(wrap(Fused(mlp)), x, **WHERE).ok
    report = verify(wrap(Fused(mlp)), x, head="classifier.0", splits=WIDTHS)
    (failed,) = [check for check in report.checks if not check.ok]
    assert failed.name == "head returns the model's logits"
    golden(failed.found)


def test_the_mean_of_two_heads_is_no_reason_to_say_no(x, golden):
    class Two(Fused):
        def __init__(self) -> None:
            super().__init__()
            self.second = nn.Linear(12, 7)

        def forward(self, x: Tensor) -> Tensor:
            return (super().forward(x) + self.second(self.features(x))) / 2

    report = verify(Two(), x, **WHERE)
    assert report.ok
    golden(next(c.found for c in report.checks if c.name == "head returns the model's logits"))


@pytest.mark.parametrize("drop", ["zero", "mean"])
def test_a_batch_of_one_shows_nothing_of_a_mean(model, x, drop, golden):
    report = verify(model, x[:1], **WHERE, drop=drop)
    (check,) = (check for check in report.checks if check.name == "two or more samples")
    assert not check.ok
    golden(check.found)
    assert all(c.name != check.name for c in verify(model, x[:2], **WHERE, drop=drop).checks)
