"""From the fusion to the logits through modules."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from fusion_models import SPLITS, B, Bottleneck, C, Mixed, ReID, best, inputs, prose, reasons
from heads import FusionMLP
from torch import Tensor, nn

from cmiei_hooks import discover
from cmiei_hooks.discovery.functions import ACTIVATIONS


@pytest.mark.parametrize("middle", [nn.Identity(), nn.Dropout(0.5), nn.ReLU()])
def test_behind_a_bottleneck_the_classifier_alone_is_best(middle):
    report = discover(Bottleneck(middle), *inputs())
    assert [c.head for c in report.candidates] == [
        ("classifier",),
        ("bottleneck", "middle", "classifier"),
    ]
    assert best(report) == {"head": "classifier", **SPLITS}
    assert report.candidates[1].arguments == {
        "head": ["bottleneck", "middle", "classifier"],
        **SPLITS,
    }


def test_a_bottleneck_that_mixes_needs_the_chain():
    report = discover(Bottleneck(nn.Linear(12, 12)), *inputs())
    heads = [c.head for c in report.candidates]
    assert heads[0] == ("middle", "classifier")
    assert ("classifier",) not in heads


def test_a_chain_skips_no_dropout_and_goes_through_whole_modules():
    deep = nn.Sequential(nn.Linear(12, 9), nn.ReLU(), nn.Linear(9, C))
    for model in (Mixed(), Mixed(deep)):
        (found,) = discover(model, *inputs()).candidates
        assert found.head == ("mix", "drop", "classifier")


def test_a_module_with_another_argument_ends_a_route(golden):
    class Scales(nn.Linear):
        def forward(self, x, scale):
            return super().forward(x) * scale

    class Scaled(Mixed):
        def forward(self, r, n, t):
            return self.classifier(self.mix(torch.cat(self.encode(r, n, t), -1)), 2.0)

    report = discover(Scaled(Scales(12, C)), *inputs())
    assert [c.head for c in report.candidates] == [("",)]
    golden(prose(report))


class Between(ReID):
    """Functions between the Linears; the first Linear mixes."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.mix, self.deep, self.function = nn.Linear(12, 12), nn.Linear(12, 9), function
        self.classifier = nn.Linear(9, C)

    def forward(self, r, n, t):
        hidden = self.function(self.mix(torch.cat(self.encode(r, n, t), -1)))
        return self.classifier(torch.relu(self.deep(hidden)))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_functions_between_modules_are_links(name):
    function = eval(name)
    report = discover(Between(function), *inputs())
    (found,) = report.candidates
    head = ["mix", function, "deep", torch.relu, "classifier"]
    assert found.arguments == {"head": head, **SPLITS}
    text = f'head=["mix", {name}, "deep", torch.relu, "classifier"]'
    assert found.line.startswith(f"cmiei_hooks.attach(model, {text}, splits=")
    assert f"--head mix,{name},deep,torch.relu,classifier " in found.options


def test_a_hidden_tensor_may_be_returned_beside_the_logits():
    class Returns(Between):
        def forward(self, r, n, t):
            hidden = torch.relu(self.mix(torch.cat(self.encode(r, n, t), -1)))
            logits = self.classifier(torch.relu(self.deep(hidden)))
            return {"logits": logits, "hidden": hidden}

    found = discover(Returns(torch.relu), *inputs()).candidates[0]
    assert found.links == ("mix", "torch.relu", "deep", "torch.relu", "classifier")


def test_an_activation_in_place_is_a_link():
    report = discover(Between(lambda x: nn.functional.relu(x, inplace=True)), *inputs())
    assert report.candidates[0].links == ("mix", "torch.relu", "deep", "torch.relu", "classifier")


@pytest.mark.negative_control
def test_the_links_compute_what_the_model_returns():
    """Again by hand, in float64."""
    model, xs = Between(torch.tanh).double(), [x.double() for x in inputs()]
    (found,) = discover(model, *xs).candidates
    value = torch.cat(model.encode(*xs), -1)
    for link in found.head:
        value = model.get_submodule(link)(value) if isinstance(link, str) else link(value)
    torch.testing.assert_close(value, model(*xs))


def test_another_function_between_the_fusion_and_the_logits_is_said(golden):
    report = discover(Between(torch.sin), *inputs())
    assert [c.head for c in report.candidates] == [("",)]
    assert set(reasons(report)) == {"mix", "classifier"}
    golden(prose(report))


def test_a_module_that_is_used_in_several_places_is_a_link():
    class Shared(Between):
        def __init__(self) -> None:
            super().__init__(nn.ReLU())

        def encode(self, *xs):
            return [self.function(x) for x in super().encode(*xs)]

    (found,) = discover(Shared(), *inputs()).candidates
    assert found.links == ("mix", "function", "deep", "torch.relu", "classifier")


def test_a_loss_or_probabilities_behind_the_logits_do_not_hide_them():
    class WithLoss(ReID):
        def __init__(self) -> None:
            super().__init__()
            self.loss, self.softmax = nn.CrossEntropyLoss(), nn.Softmax(-1)

        def forward(self, r, n, t, label):
            logits = super().forward(r, n, t)
            return {"loss": self.loss(logits, label), "p": self.softmax(logits).detach()}

    report = discover(WithLoss(), *inputs(), torch.arange(B) % C)
    assert [c.arguments for c in report.candidates] == [{"head": "classifier", **SPLITS}]


def test_normalised_features_are_no_logits():
    class Embeds(ReID):
        def __init__(self) -> None:
            super().__init__()
            self.bn_neck = nn.BatchNorm1d(12)

        def forward(self, r, n, t):
            feature = torch.cat(self.encode(r, n, t), -1)
            return self.classifier(feature), self.bn_neck(feature)

    assert [c.head for c in discover(Embeds(), *inputs()).candidates] == [("classifier",)]


def test_a_batch_that_the_model_doubles_itself():
    class Doubled(FusionMLP):
        def forward(self, a, b):
            features = torch.cat([self.backbone.encoders[0](a), self.backbone.encoders[1](b)], -1)
            if self.training:
                features = torch.cat([features, features + 0.1])
            return self.head(self.fusion_mlp(features))

    found = discover(Doubled(), torch.randn(8, 6), torch.randn(8, 6)).candidates[0]
    assert found.arguments == {
        "head": ["fusion_mlp", "head"],
        "splits": [4, 4],
        "names": ["a", "b"],
    }
