"""Tensors of other kinds are refused in the first call, with a remedy that works."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

import cmiei_hooks
from cmiei_hooks.errors import InputError
from cmiei_hooks.fusion import partition
from cmiei_hooks.fusion.tensor_kinds import refuse_kind, refuse_weights

ACTING = {"k": 1, "warmup_epochs": 0, "abs_thr": 0.0, "rel_thr": 1.0, "p_max": 1.0, "log": False}


class Strict(Tensor):
    """A subclass in which a choice between rows is not implemented."""

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        if function is torch.where:
            raise TypeError("no implementation of where for Strict")
        return super().__torch_function__(function, types, args, kwargs or {})


class Loose(Tensor):
    """A subclass that does everything."""


@contextmanager
def one_rank() -> Iterator[dist.DeviceMesh]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        yield dist.init_device_mesh("cpu", (1,))
    finally:
        dist.destroy_process_group()


def fake() -> Tensor:
    with FakeTensorMode():
        return torch.randn(3, 4)


def ragged(layout: torch.layout) -> Tensor:
    rows = [torch.randn(n, 4) for n in (2, 5, 3)]
    if layout is torch.strided:  # all that torch 2.1 has
        return torch.nested.nested_tensor(rows)
    return torch.nested.nested_tensor(rows, layout=layout)


DENSE = torch.randn(3, 4)
KINDS = {
    "COO": DENSE.to_sparse,
    "CSR": DENSE.to_sparse_csr,
    "CSC": DENSE.to_sparse_csc,
    "jagged": lambda: ragged(torch.jagged),
    "nested": lambda: ragged(torch.strided),
    "mkldnn": DENSE.to_mkldnn,
    "quantised": lambda: torch.quantize_per_tensor(DENSE, 0.1, 0, torch.qint8),
    "fake": fake,
    "complex": lambda: DENSE.to(torch.complex64),
    "integer": DENSE.long,
    "bool": lambda: DENSE > 0,
    "float8": lambda: DENSE.to(torch.float8_e4m3fn),
    "subclass": lambda: DENSE.as_subclass(Strict),
}


JAGGED = pytest.param(
    "jagged",
    marks=pytest.mark.skipif(torch.__version__ < "2.5", reason="they cannot be copied into"),
)
DISTRIBUTED = pytest.mark.skipif(torch.__version__ < "2.5", reason="DTensor is private")


@pytest.mark.parametrize("kind", [JAGGED if kind == "jagged" else kind for kind in KINDS])
def test_it_is_refused(kind, golden):
    with pytest.raises(InputError) as error:
        refuse_kind(KINDS[kind](), "the modality 'text'")
    golden(error.value)


@pytest.mark.parametrize(
    "tensor",
    [
        DENSE,
        DENSE.half(),
        DENSE.bfloat16(),
        DENSE.double(),
        DENSE.T,
        DENSE[:0],
        nn.Parameter(DENSE),
        DENSE.as_subclass(Loose),
        DENSE.to("meta"),
    ],
)
def test_dense_tensors_of_floating_point_numbers_are_fine(tensor):
    before = torch.get_rng_state()
    refuse_kind(tensor, "it")
    assert torch.equal(before, torch.get_rng_state())


@DISTRIBUTED
def test_distributed_tensors_are_refused(golden):
    with one_rank() as mesh:
        from torch.distributed.tensor import distribute_tensor

        tensor = distribute_tensor(DENSE, mesh)
        with pytest.raises(InputError) as error:
            refuse_kind(tensor, "the modality 'text'")
        golden(error.value)
        refuse_kind(tensor.full_tensor(), "the modality 'text'")


class Bag(nn.Module):
    """Some kind of text beside image features."""

    def __init__(self, text: nn.Module) -> None:
        super().__init__()
        self.text, self.image = text, nn.Linear(8, 4)

    def forward(self, text: Tensor, image: Tensor, edges: Tensor | None = None) -> Tensor:
        z = self.text(text) + self.image(image)
        return z if edges is None else torch.sparse.mm(edges, z)


class OfSparse(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return torch.sparse.mm(x, self.weight.T)


class OfRagged(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([rows.mean(0) for rows in super().forward(x).unbind()])


class Model(nn.Module):
    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, *args: object) -> Tensor:
        return self.head(*args)


def attach(model: nn.Module, **settings) -> cmiei_hooks.Handle:
    where = {"head": "head", "modalities": {"text": 0, "image": 1}}
    return cmiei_hooks.attach(model, **(where | ACTING | settings))


HEADS = {
    "COO": (OfSparse(4, 4), KINDS["COO"]),
    "jagged": (OfRagged(4, 4), KINDS["jagged"]),
}


@pytest.mark.parametrize("kind", ["COO", JAGGED])
def test_the_first_call_of_a_training_is_refused(kind):
    part, text = HEADS[kind]
    model, given = Model(Bag(part)), (text(), torch.randn(3, 8))
    model(*given)  # without the tool it trains
    attach(model, warmup_epochs=1).set_epoch(0)
    with pytest.raises(InputError):
        model(*given)


@pytest.mark.negative_control
@pytest.mark.parametrize("kind", ["COO", JAGGED])
def test_otherwise_it_would_fail_after_the_warm_up(kind, monkeypatch):
    monkeypatch.setattr(partition, "refuse_kind", lambda *_: None)
    part, text = HEADS[kind]
    model, given = Model(Bag(part)), (text(), torch.randn(3, 8))
    handle = attach(model, warmup_epochs=1)
    handle.set_epoch(0)
    model(*given)
    handle.set_epoch(1)
    with pytest.raises((RuntimeError, AttributeError)):
        model(*given)


def test_another_argument_may_be_sparse():
    model = Model(Bag(nn.Linear(4, 4)))
    edges = torch.eye(3).to_sparse()
    handle = attach(model)
    text, image = torch.randn(3, 4), torch.randn(3, 8)
    model(text, image, edges)
    influence = handle.last.influence
    handle.remove()
    plain = attach(model, p_max=0.0)
    model(text, image)
    torch.testing.assert_close(influence, plain.last.influence)


class Graph(nn.Module):
    """The edges first, then the features of the nodes."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 4)

    def forward(self, edges: Tensor, nodes: Tensor) -> Tensor:
        return torch.sparse.mm(edges, self.fc(nodes))


def test_edges_in_front_of_the_features_are_passed_over():
    model = Model(Graph())
    handle = attach(model, modalities=None, splits=[3, 5])
    nodes = torch.randn(6, 8)
    model(torch.eye(6).to_sparse(), nodes)
    z = model.head.fc(nodes)
    for m, columns in enumerate((slice(0, 3), slice(3, 8))):
        without = nodes.clone()
        without[:, columns] = 0
        log_q = model.head.fc(without).log_softmax(-1)
        expected = (z.softmax(-1) * (z.log_softmax(-1) - log_q)).sum(-1)
        torch.testing.assert_close(handle.last.influence[:, m], expected)


@pytest.mark.parametrize("sparse", [Tensor.to_sparse, Tensor.to_sparse_csr], ids=["COO", "CSR"])
@pytest.mark.parametrize("inner", [False, True])
def test_a_sparse_weight_is_refused_in_the_first_call(sparse, inner, golden):
    linear = nn.Linear(8, 4, bias=False)  # with a bias torch has no product with COO weights
    linear.weight = nn.Parameter(sparse(linear.weight.detach()))
    model = Model(nn.Sequential(nn.Tanh(), linear) if inner else linear)
    x = torch.randn(3, 8)
    model(x)
    attach(model, modalities=None, splits=[4, 4])
    with pytest.raises(InputError) as error:
        model(x)
    golden(error.value)


def test_sparse_gradients_and_sparse_buffers_are_fine():
    class Embeds(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bag, self.fc = nn.EmbeddingBag(9, 8, sparse=True), nn.Linear(8, 4)
            self.register_buffer("edges", torch.eye(3).to_sparse())

        def forward(self, ids: Tensor, x: Tensor) -> Tensor:
            return torch.sparse.mm(self.edges, self.fc(self.bag(ids) + x))

    model = Model(Embeds())
    handle = attach(model, modalities=None, splits=[4, 4])
    model(torch.randint(9, (3, 5)), torch.randn(3, 8)).sum().backward()
    assert model.head.bag.weight.grad.is_sparse
    assert (handle.last.substituted >= 0).all()


@DISTRIBUTED
@pytest.mark.parametrize("when", ["before", "after"])
def test_tensor_parallelism_is_refused_in_the_first_call(when, golden):
    with one_rank() as mesh:
        from torch.distributed.tensor.parallel import ColwiseParallel, parallelize_module

        model = Model(nn.Linear(8, 4))
        if when == "before":
            attach(model, modalities=None, splits=[4, 4])
        parallelize_module(model, mesh, {"head": ColwiseParallel()})
        if when == "after":
            attach(model, modalities=None, splits=[4, 4])
        with pytest.raises(InputError) as error:
            model(torch.randn(3, 8))
        golden(error.value)


def test_what_fsdp_has_sharded_inside_the_head_is_left_to_it():
    class FSDPModule:
        """Marks the modules that ``fully_shard`` has changed."""

    class Sharded(FSDPModule, nn.Linear):
        pass

    inner = Sharded(4, 4)
    inner.weight = nn.Parameter(inner.weight.detach().to_sparse())
    refuse_weights(nn.Sequential(inner))
    with pytest.raises(InputError):
        refuse_weights(inner)
