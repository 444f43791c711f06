"""The one tensor that holds all modalities, as an argument or inside of one."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from types import MappingProxyType, SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

import cmiei_hooks
from cmiei_hooks.errors import InputError
from cmiei_hooks.fusion.partition import Partition
from cmiei_hooks.fusion.pytree import value_at

X, WIDE = torch.randn(6, 8), torch.randn(6, 20)
ACTING = {"k": 1, "warmup_epochs": 0, "abs_thr": 0.0, "rel_thr": 1.0, "sigma": 0.0, "log": False}
Named = namedtuple("Named", "ids feat")


@dataclass(frozen=True)
class Batch:
    feat: Tensor
    ids: object = None


HOLDERS = {
    "tuple": lambda x: (x,),
    "list": lambda x: [x],
    "dict": lambda x: {"feat": x},
    "ordered": lambda x: OrderedDict(a=None, feat=x),
    "read-only": lambda x: MappingProxyType({"feat": x}),
    "dataclass": lambda x: Batch(x, torch.arange(6)),
    "named tuple": lambda x: Named(torch.arange(6), x),
    "namespace": lambda x: SimpleNamespace(feat=x),
    "nested": lambda x: {"a": [torch.arange(6), Batch(x)], "b": "text"},
    "stages": lambda x: (WIDE, x),
    "before": lambda x: (torch.rand(6), x),
}


def feature(given: object) -> Tensor:
    """The features, as the head finds them."""
    if isinstance(given, Tensor):
        return given
    if isinstance(given, (dict, OrderedDict, MappingProxyType)):
        return feature(given["feat"] if "feat" in given else given["a"][1])
    return given[-1] if isinstance(given, (tuple, list)) else given.feat


class Head(nn.Linear):
    def forward(self, given: object) -> Tensor:
        return super().forward(feature(given))


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.head = Head(8, 5)

    def forward(self, given: object) -> Tensor:
        return self.head(given)


@pytest.mark.parametrize("where", [{"splits": [3, 5]}, {"modalities": {"a": (0, 3), "b": (3, 8)}}])
@pytest.mark.parametrize("holder", HOLDERS)
def test_inside_of_an_argument_it_is_measured_and_replaced_as_an_argument_is(holder, where):
    seen = []
    for hold in (HOLDERS[holder], lambda x: x):
        model = Model()
        handle = cmiei_hooks.attach(model, head="head", **where, **ACTING)
        inputs: list[Tensor] = []
        model.head.register_forward_pre_hook(lambda _, args, to=inputs: to.append(feature(args[0])))
        given, before = hold(X), X.clone()
        model(given)
        assert feature(given) is X
        assert torch.equal(X, before)  # nothing of the caller's is written into
        seen.append((handle.last.influence, handle.last.substituted, inputs[0]))
    assert all(map(torch.equal, *seen))
    assert (seen[0][1] >= 0).any()


@pytest.mark.parametrize(
    ("args", "kwargs", "path"),
    [
        ((X, WIDE), {}, (0,)),
        (([WIDE], X), {}, (1,)),
        (([X], WIDE), {}, (0, 0)),
        ((), {"a": {"b": [X]}, "c": 3}, ("a", "b", 0)),
        ((torch.arange(6), X), {}, (1,)),
        ((torch.rand(6), X), {}, (1,)),
        ((torch.ones(6, 8, dtype=torch.bool), X), {}, (1,)),
        ((torch.eye(6).to_sparse(), X), {}, (1,)),
        (((WIDE, X, X),), {}, (0, 1)),
    ],
)
def test_which_tensor_it_is(args, kwargs, path):
    captured = Partition((3, 5), ("a", "b")).read(args, kwargs)
    assert list(captured.tensors) == [path]
    assert captured.tensors[path] is value_at((args, kwargs), path) is X


@pytest.mark.parametrize(
    "args",
    [
        (WIDE, X),  # the second argument may be another modality
        ((WIDE,),),
        (X.to_sparse(), X > 0),
        (X.to(torch.complex64), X),
    ],
)
def test_another_tensor_is_not_taken_instead(args, golden):
    with pytest.raises(InputError) as error:
        Partition((3, 5), ("a", "b")).read(args, {})
    golden(error.value)
