"""Which part of a call is which modality."""

from __future__ import annotations

from collections import OrderedDict, UserDict, namedtuple
from collections.abc import Mapping
from types import MappingProxyType

import pytest
import torch
from torch import Tensor

from cmiei_hooks import CMIEIError
from cmiei_hooks.fusion.captured_call import Captured
from cmiei_hooks.fusion.modalities import parse_modalities
from cmiei_hooks.fusion.partition import Partition

PARTITION = Partition((2, 3), ("a", "b"))


def partition(modalities: object, **options) -> Partition:
    names, splits = parse_modalities(modalities)
    return Partition(splits, names, **options)


def zeroed(captured: Captured, modality: int) -> tuple:
    """The call with one modality set to zero."""
    copies = captured.copies()
    for view in captured.views(copies, modality):
        view.zero_()
    return captured.call_with(copies)


@pytest.mark.parametrize(
    ("dim", "shape"), [(-1, (4, 5)), (1, (4, 5, 7)), (-1, (4, 6, 5)), (2, (4, 1, 5))]
)
def test_widths_are_cut_on_the_axis(dim, shape):
    features = torch.randn(shape)
    captured = Partition((2, 3), ("a", "b"), dim).read((features,), {})
    ((first,), (second,)) = (list(captured.views(captured.tensors, m)) for m in (0, 1))
    axis = dim % features.dim()
    assert torch.equal(first, features.index_select(axis, torch.tensor([0, 1])))
    assert torch.equal(second, features.index_select(axis, torch.tensor([2, 3, 4])))
    assert (captured.batch, captured.device) == (4, features.device)
    before = features.clone()
    ((changed,), _) = zeroed(captured, 1)
    assert torch.equal(features, before)
    keep = torch.ones(5)
    keep[2:] = 0
    assert torch.equal(
        changed, features * keep.view([5 if a == axis else 1 for a in range(features.dim())])
    )


def test_the_first_tensor_is_found_positional_before_keyword():
    one, two = torch.randn(4, 5), torch.randn(4, 5)

    def found(*args, **kwargs) -> tuple:
        (path,) = PARTITION.read(args, kwargs).tensors
        return path

    assert found(one, two) == (0,)
    assert found(None, "text", two, x=one) == (2,)
    assert found(3, mask=None, x=one) == ("x",)


R, N, T, OTHER = (torch.randn(4, width) for width in (2, 3, 5, 7))
Pair = namedtuple("Pair", "a b")


@pytest.mark.parametrize(
    ("modalities", "args", "kwargs", "expected"),
    [
        ({"r": 0, "n": 1}, (R, N), {}, [[R], [N]]),
        ({"r": 0, "n": 2}, (R, OTHER, N), {"mask": None}, [[R], [N]]),
        ({"r": [0, 2], "n": [1, 3]}, (R, N, T, OTHER), {}, [[R, T], [N, OTHER]]),
        ({"r": "x", "n": "y"}, (), {"x": R, "y": N}, [[R], [N]]),
        ({"r": "x", "n": "y"}, (R,), {"y": N}, [[R], [N]]),
        ({"r": 0, "n": 1}, (R,), {"y": N}, [[R], [N]]),
        ({"r": 0, "n": 1}, ([R, N],), {}, [[R], [N]]),
        ({"r": 0, "n": 1}, ((R, N), OTHER), {}, [[R], [N]]),
        ({"r": 0, "n": 1}, (), {"xs": [R, N]}, [[R], [N]]),
        ({"r": 0, "n": 1}, (Pair(R, N),), {}, [[R], [N]]),
        ({"r": "rgb", "n": "nir"}, ({"nir": N, "rgb": R},), {}, [[R], [N]]),
        ({"r": "rgb", "n": "nir"}, (OTHER,), {"xs": OrderedDict(nir=N, rgb=R)}, [[R], [N]]),
        (
            {"r": [(0, 1), (3, 5)], "n": (1, 3)},
            (T,),
            {},
            [[T[:, :1], T[:, 3:]], [T[:, 1:3]]],
        ),
        (
            {"r": [[0, 2], [4, 5]], "n": [[2, 4], [4, 5]]},
            (T,),
            {},
            [[T[:, :2], T[:, 4:]], [T[:, 2:4], T[:, 4:]]],
        ),
        ({"r": 0, "n": 1}, (1.0, [R, N]), {}, [[R], [N]]),
        ({"r": 0, "n": 1}, (), {"s": 1.0, "xs": [R, N]}, [[R], [N]]),
        ({"r": 0, "n": 1}, ({0: R, 1: N},), {}, [[R], [N]]),
        ({"r": 0, "n": 1}, (R, N, [T]), {}, [[R], [N]]),
        ({"r": "rgb", "n": "nir"}, (MappingProxyType({"rgb": R, "nir": N}),), {}, [[R], [N]]),
        ({"r": "rgb", "n": "nir"}, (UserDict({"rgb": R, "nir": N}),), {}, [[R], [N]]),
        ({"r": (0, 2), "n": "y"}, (T,), {"y": N}, [[T[:, :2]], [N]]),
    ],
)
def test_modalities_are_found_wherever_they_are_and_nothing_of_the_caller_is_written_into(
    modalities, args, kwargs, expected
):
    def tensors(value: object) -> list[Tensor]:
        if isinstance(value, Tensor):
            return [value]
        if isinstance(value, Mapping):
            return tensors(list(value.values()))
        return [t for x in value for t in tensors(x)] if isinstance(value, (list, tuple)) else []

    captured = partition(modalities, parameters=("x", "y")).read(args, kwargs)
    for m, group in enumerate(expected):
        views = list(captured.views(captured.tensors, m))
        assert all(map(torch.equal, views, group))
        assert len(views) == len(group)
    before = [(t, t.clone()) for t in tensors((args, kwargs))]
    new_args, new_kwargs = zeroed(captured, 0)
    assert all(
        a is b and torch.equal(a, c)
        for a, (b, c) in zip(tensors((args, kwargs)), before, strict=True)
    )
    kinds = {MappingProxyType: dict}
    assert [type(a) for a in new_args] == [kinds.get(type(a), type(a)) for a in args]
    assert list(new_kwargs) == list(kwargs)
    again = partition(modalities, parameters=("x", "y")).read(new_args, new_kwargs)
    assert all(not view.any() for view in again.views(again.tensors, 0))
    written = {id(captured.tensors[piece.path]) for piece in captured.groups[0]}
    for new, (old, _) in zip(tensors((new_args, new_kwargs)), before, strict=True):
        assert torch.equal(new, old) == (id(old) not in written)


@pytest.mark.parametrize(
    "features",
    [
        torch.zeros(4, 4),
        torch.zeros(4, 6),
        torch.zeros(5),
        torch.zeros(4, 5, dtype=torch.int64),
    ],
)
def test_inputs_that_do_not_fit_are_refused(features, golden):
    with pytest.raises(CMIEIError) as error:
        PARTITION.read((features,), {})
    golden(error.value)


def test_several_tensors_instead_of_one_are_refused_with_the_remedy(golden):
    with pytest.raises(CMIEIError) as error:
        PARTITION.read((R, N), {})
    golden(error.value)


def test_a_call_without_a_tensor_is_refused(golden):
    with pytest.raises(CMIEIError) as error:
        PARTITION.read((3,), {"x": None})
    golden(error.value)


@pytest.mark.parametrize(
    ("modalities", "args", "kwargs"),
    [
        ({"r": 0, "n": 1}, (R,), {}),
        ({"r": 0, "n": 1}, (R, None), {}),
        ({"r": 0, "n": 1}, (R, torch.zeros(4, 3).long()), {}),
        ({"r": 0, "n": 2}, ([R, N],), {}),
        ({"r": "rgb", "n": "nir"}, ({"rgb": R, "tir": N},), {}),
        ({"r": 0, "n": 1}, (R, torch.randn(5, 3)), {}),
        ({"r": 0, "n": 1}, (R, torch.tensor(1.0)), {}),
        ({"r": (0, 2), "n": (2, 9)}, (T,), {}),
        ({"r": "text.2", "n": "image"}, (), {"text": (R, N), "image": T}),
        ({"r": "text", "n": "image"}, (), {"text": (R, N), "image": T}),
        ({"r": "text.0", "n": "image"}, (), {"text": None, "image": T}),
    ],
)
def test_a_modality_that_is_not_there_is_refused(modalities, args, kwargs, golden):
    with pytest.raises(CMIEIError) as error:
        partition(modalities).read(args, kwargs)
    golden(error.value)


@pytest.mark.parametrize(
    ("modalities", "args", "kwargs"),
    [({"r": 0, "n": "x"}, (R, N), {}), ({"r": "x", "n": 0}, (), {"x": R, "y": N})],
)
def test_one_tensor_under_two_names_is_refused(modalities, args, kwargs, golden):
    with pytest.raises(CMIEIError) as error:
        partition(modalities, parameters=("x", "y")).read(args, kwargs)
    golden(error.value)


def test_an_axis_that_is_not_there(golden):
    with pytest.raises(CMIEIError) as error:
        Partition((2, 3), ("a", "b"), 5).read((T,), {})
    golden(error.value)


def test_the_batch_axis_counted_from_the_end(golden):
    with pytest.raises(CMIEIError) as error:
        Partition((2, 2), ("a", "b"), -2).read((T,), {})
    golden(error.value)


@pytest.mark.parametrize("dim", [0, True, "last", 1.0])
def test_the_batch_axis_cannot_be_split(dim, golden):
    with pytest.raises(CMIEIError) as error:
        Partition((2, 3), ("a", "b"), dim)
    golden(error.value)


@pytest.mark.parametrize(
    ("splits", "bounds"),
    [
        ((None, 3), lambda w: [(0, w - 3), (w - 3, w)]),
        ((3, None), lambda w: [(0, 3), (3, w)]),
        ((2, None, 1), lambda w: [(0, 2), (2, w - 1), (w - 1, w)]),
    ],
)
@pytest.mark.parametrize("width", [4, 5, 9])
def test_one_width_is_the_rest_of_each_call(splits, bounds, width):
    partition = Partition(splits, tuple("abc"[: len(splits)]), 1)
    x = torch.randn(6, width, 2)
    captured = partition.read((x,), {})
    for m, (start, stop) in enumerate(bounds(width)):
        (view,) = captured.views(captured.tensors, m)
        assert torch.equal(view, x[:, start:stop])
    assert sum(captured.widths) == width


@pytest.mark.parametrize("width", [2, 3])
def test_the_rest_has_one_column_or_more(width, golden):
    with pytest.raises(CMIEIError) as error:
        Partition((None, 3), ("text", "image"), 1).read((torch.randn(6, width, 2),), {})
    golden(error.value)


def test_a_width_that_varies_gets_the_remedy(golden):
    with pytest.raises(CMIEIError) as error:
        Partition((5, 9), ("text", "image"), 1).read((torch.randn(6, 16, 2),), {})
    golden(error.value)
