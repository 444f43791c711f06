"""A head whose logits the model does not return: a hidden layer has an influence, too."""

from __future__ import annotations

import pytest
import torch
from helpers import WIDTHS, Fused, trace
from torch import Tensor, nn

from cmiei_hooks import CMIEIWarning, audit
from cmiei_hooks.errors import HeadError

HIDDEN = {"head": "classifier.0", "splits": WIDTHS}
WHOLE = {"head": "classifier", "splits": WIDTHS}


def mlp() -> Fused:
    torch.manual_seed(0)
    return Fused(nn.Sequential(nn.Linear(12, 9), nn.ReLU(), nn.Linear(9, 3)))


def batches() -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [
        (torch.randn(8, 6, generator=generator), torch.randint(3, (8,), generator=generator))
        for _ in range(3)
    ]


def test_a_hidden_layer_is_refused(golden):
    with pytest.raises(HeadError) as error:
        audit(mlp(), batches(), **HIDDEN)
    golden(error.value)


class InTraining(Fused):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor] | Tensor:
        features = self.features(x)
        return (self.classifier(features), features) if self.training else features


def test_in_the_training_branch_too():
    model = InTraining(mlp().classifier)
    with pytest.raises(HeadError):
        audit(model, batches(), **HIDDEN, in_training_branch=True)
    assert audit(model, batches(), **WHOLE, in_training_branch=True).accuracy is not None


def test_a_link_of_a_chain_that_is_not_the_last_layer():
    model = mlp()
    with pytest.raises(HeadError):
        audit(model, batches(), head=["classifier.0", "classifier.1"], splits=WIDTHS)
    audit(model, batches(), ["classifier.0", "classifier.1", "classifier.2"], WIDTHS)


def test_when_told_the_report_says_so_and_has_no_accuracy(golden):
    with pytest.warns(CMIEIWarning) as caught:
        report = audit(mlp(), batches(), **HIDDEN, features_head=True)
    golden(caught[0].message)
    assert report.accuracy is None
    assert report.strata["class"]
    model = mlp()
    model.classifier = model.classifier[0]
    alone = audit(model, batches(), **WHOLE)
    assert report.influence == alone.influence
    assert report.baselines == alone.baselines


@pytest.mark.negative_control
def test_the_head_itself_passes_whatever_the_user_says(recwarn):
    told = audit(mlp(), batches(), **WHOLE, features_head=True)
    assert told.to_dict() == audit(mlp(), batches(), **WHOLE).to_dict()
    assert told.accuracy is not None
    assert not [one for one in recwarn if issubclass(one.category, CMIEIWarning)]


def test_nothing_is_left_behind():
    model = mlp()
    before = trace(model)
    audit(model, batches(), **WHOLE)
    with pytest.raises(HeadError):
        audit(model, batches(), **HIDDEN)
    assert trace(model) == before
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.is_grad_enabled()


class Converting(Fused):
    """Returns what NumPy makes of the logits, which takes no tensor with a gradient."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.from_numpy(super().forward(x).numpy())


def test_a_model_that_takes_no_gradient_behind_its_head_is_audited_without_the_check():
    model = Converting(mlp().classifier)
    report = audit(model, batches(), **WHOLE)
    assert report.n_samples == 24
    assert report.influence == audit(mlp_of(model), batches(), **WHOLE).influence


def mlp_of(model: Fused) -> Fused:
    plain = Fused(model.classifier)
    plain.load_state_dict(model.state_dict())
    return plain


def test_a_forward_of_the_users_that_does_not_call_the_model_itself():
    model = mlp()

    def forward(model: Fused, batch: tuple[Tensor, Tensor]) -> None:
        model.classifier(model.features(batch[0])).numpy()
        assert not torch.is_grad_enabled()

    report = audit(model, batches(), **WHOLE, forward=forward)
    assert report.influence == audit(model, batches(), **WHOLE).influence


def test_gradient_is_off_again_for_the_batches_that_follow():
    seen = []

    class Watching(Fused):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(torch.is_grad_enabled())
            z = super().forward(x)
            seen.append(z.requires_grad)
            return z

    audit(Watching(), batches(), **WHOLE)
    assert seen == [False, True, False, False, False, False]


@pytest.mark.parametrize("before", [False, True])
def test_compiled_models_are_audited_as_if_they_were_not_compiled(before):
    model = mlp()
    plain = audit(model, batches(), **WHOLE)
    compiled = torch.compile(model, backend="eager")
    if before:
        compiled(batches()[0][0])
    report = audit(compiled, batches(), **WHOLE)
    assert report.influence == plain.influence
    assert report.baselines == plain.baselines
    with pytest.raises(HeadError):
        audit(compiled, batches(), **HIDDEN)
