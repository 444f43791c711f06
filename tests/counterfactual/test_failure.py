"""A head that fails without a modality: the error says who ran it, and what to do."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import cmiei_hooks
from cmiei_hooks.errors import CMIEIWarning, HeadError, InputError

WHERE = {"head": "", "modalities": {"text": "text.0", "image": "image"}}
QUIET = {"k": 1, "warmup_epochs": 0, "p_max": 0.0, "log": False}
X = torch.randn(8, 5, generator=torch.Generator().manual_seed(0))


class FloatIds(nn.Module):
    """As MISA: token ids in a tensor of floats; 0 is no word."""

    def __init__(self) -> None:
        super().__init__()
        self.text, self.out = nn.Embedding(9, 4), nn.Linear(9, 3)

    def forward(self, text: tuple[Tensor, Tensor], image: Tensor) -> Tensor:
        ids, lengths = text
        mean = self.text(ids.long() - 1).sum(1) / lengths[:, None]
        return self.out(torch.cat([mean, image], 1))


def batch(dtype: torch.dtype = torch.float32) -> dict[str, object]:
    ids = torch.arange(32).reshape(8, 4) % 8 + 1
    return {"text": (ids.to(dtype), torch.full((8,), 4)), "image": X}


def trained(model: nn.Module, **settings) -> None:
    with cmiei_hooks.attach(model, **WHERE, **QUIET, **settings):
        model(**batch())


def audited(model: nn.Module) -> None:
    cmiei_hooks.audit(model, [batch()], **WHERE)


@pytest.mark.parametrize("run", [trained, audited])
def test_the_error_says_which_run_failed_and_the_remedy(run, golden):
    with pytest.raises(HeadError) as error:
        run(FloatIds())
    assert isinstance(error.value.__cause__, IndexError)
    golden(error.value)


def test_verify_says_the_same_as_a_check(golden):
    report = cmiei_hooks.verify(FloatIds(), batch(), **WHERE)
    (found,) = [check for check in report.checks if check.name == "logits"]
    assert not found.ok
    golden(found.found)


def test_the_remedies_work():
    trained(FloatIds(), drop="mean")
    whole = batch(torch.int64)
    with cmiei_hooks.attach(model := FloatIds(), **WHERE, **QUIET, fill={"text": 8}) as handle:
        model(**whole)
        assert handle.last.influence.isfinite().all()
    with (
        cmiei_hooks.attach(model := FloatIds(), **WHERE, **QUIET, fill={"text": 70}),
        pytest.raises(HeadError) as error,
    ):
        model(**whole)
    assert error.value.remedy.startswith("name in fill= a value")


class WholeIds(FloatIds):
    """It refuses the mean of ids, which is between two of them; it takes 0."""

    def forward(self, text: tuple[Tensor, Tensor], image: Tensor) -> Tensor:
        ids, lengths = text
        if (ids != ids.round()).any():
            raise ValueError("an id is not a whole number")
        return super().forward((ids.clamp_min(1), lengths), image)


def halves() -> dict[str, object]:
    """A batch whose mean ids are not whole numbers."""
    ids = torch.arange(8.0)[:, None].expand(8, 4) + 1
    return {"text": (ids, torch.full((8,), 4)), "image": X}


def test_no_remedy_is_what_has_just_failed():
    with (
        cmiei_hooks.attach(model := WholeIds(), **WHERE, **QUIET, drop="mean"),
        pytest.raises(HeadError) as error,
    ):
        model(**halves())
    assert "drop='mean'" not in error.value.remedy
    with pytest.raises(HeadError, match="fails without") as error:
        cmiei_hooks.audit(FloatIds(), [batch()], **WHERE, drop="mean")  # it needs zeros, too
    assert "drop" not in error.value.remedy.lower()


def test_an_audit_says_why_the_head_takes_no_other_baseline():
    with pytest.warns(CMIEIWarning, match="an id is not a whole number"):
        report = cmiei_hooks.audit(WholeIds(), [halves()], **WHERE)
    assert list(report.baselines) == ["zero"]


class Refuses(nn.Linear):
    """Raises an error of its own on zeros, or in every re-run."""

    def __init__(self, error: Exception, always: bool = False) -> None:
        super().__init__(5, 3)
        self.error, self.always = error, always

    def forward(self, x: Tensor) -> Tensor:
        if not (x[:, :2] != 0).any() or (self.always and not torch.is_grad_enabled()):
            raise self.error
        return super().forward(x)


@pytest.mark.negative_control
@pytest.mark.parametrize(
    ("error", "always"),
    [
        (torch.cuda.OutOfMemoryError("no memory"), False),
        (MemoryError("no memory"), False),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried ..."), False),
        (RuntimeError("MPS backend out of memory"), False),
        (InputError("of this package"), False),
        (KeyboardInterrupt(), False),
        (RuntimeError("of the head, on its own input"), True),
    ],
)
def test_what_is_not_of_the_input_stays_as_it_is(error, always):
    model = nn.Sequential(Refuses(error, always))
    with (
        cmiei_hooks.attach(model, head="0", splits=[2, 3], **QUIET),
        pytest.raises(type(error)) as raised,
    ):
        model(X)
    assert raised.value is error


class Branches(nn.Module):
    """Its first branch knows only what it has seen in its own call."""

    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.ModuleDict({name: nn.Linear(5, 5) for name in "ab"})
        self.a, self.b = Knows(), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.a(self.encode["a"](x)) + self.b(self.encode["b"](x))


class Knows(nn.Linear):
    def __init__(self) -> None:
        super().__init__(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        if x[1:].eq(x[:1]).all():
            raise ValueError("all samples are equal")
        return super().forward(x)


def test_a_branch_that_fails_on_its_substituted_features(golden):
    settings = {**QUIET, "p_max": 1.0, "abs_thr": 0.0, "rel_thr": 1.0, "sigma": 0.0}
    model, head = Branches(), {"a": "a", "b": "b"}
    with torch.no_grad():
        model.b.weight.mul_(1e-3)  # a dominates in every sample
    with (
        cmiei_hooks.attach(model, head=head, combine="sum", **settings),
        pytest.raises(HeadError) as error,
    ):
        model(X)
    assert isinstance(error.value.__cause__, ValueError)
    golden(error.value)


class ByNumpy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(10, 3)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.out(torch.cat([torch.from_numpy(x.numpy() * 2), y], 1))


def test_verify_cannot_tell_of_a_head_that_takes_no_gradient(golden):
    where = {"head": "", "modalities": {"x": 0, "y": 1}}
    report = cmiei_hooks.verify(ByNumpy(), X, X.flip(0), **where)
    (found,) = [check for check in report.checks if check.name == "gradient reaches the input"]
    assert found.ok
    golden(found.found)


def pooled(text: Tensor, length: Tensor) -> Tensor:
    if not (text[torch.arange(len(text)), length[:, 0].long() - 1] != 0).all():
        raise ValueError("a text ends before its length")
    return text


class OfTexts(nn.Module):
    def __init__(self, check: Callable[..., Tensor]) -> None:
        super().__init__()
        self.text, self.image, self.out = nn.Linear(5, 3), nn.Linear(5, 3), nn.Linear(6, 4)
        self.check = check

    def forward(self, text: Tensor, length: Tensor, image: Tensor) -> Tensor:
        text = self.check(text, length)
        return self.out(torch.cat([self.text(text), self.image(image)], 1))


def test_discover_says_whose_samples_it_exchanged(golden):
    length = torch.arange(8)[:, None] % 5 + 1.0
    text = (torch.arange(5) < length) * (X + 9)
    model = OfTexts(pooled)
    with pytest.raises(InputError) as error:
        cmiei_hooks.discover(model, text, length, X)
    golden(error.value)
    report = cmiei_hooks.discover(model, text, length, X, inputs={"text": ["text", "length"]})
    assert report.candidates[0].head == ("out",)


def test_discover_survives_a_loss_that_refuses_other_outputs():
    class WithLoss(OfTexts):
        def forward(self, text: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
            logits = super().forward(text, text, image)
            return logits, self.loss(self.sigmoid(logits))

    model = WithLoss(lambda text, _: text)
    model.sigmoid, model.loss = nn.Sigmoid(), lambda p: nn.functional.binary_cross_entropy(p, p)
    assert cmiei_hooks.discover(model, X, X.flip(0)).candidates[0].head == ("out",)
