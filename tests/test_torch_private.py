"""The private names of torch: a canary for each, and what happens on a torch without it."""

from __future__ import annotations

import inspect
import re
import sys
import textwrap
import threading
from pathlib import Path

import pytest
import torch
import torch.utils.checkpoint
from helpers import WIDTHS, Fused
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune, spectral_norm, weight_norm
from torch.utils.checkpoint import checkpoint

import cmiei_hooks
from cmiei_hooks import CMIEIError, _torch
from cmiei_hooks._torch import MissingNameError
from cmiei_hooks.training.checkpoint_replay import Done, Replays

NAMES = [
    "torch._C._current_graph_task_id",
    "torch._C._autograd._top_saved_tensors_default_hooks",
    "torch.utils._python_dispatch._disable_current_modes",
    "torch.is_autocast_cache_enabled",
    "torch.set_autocast_cache_enabled",
    "torch.nn.utils.parametrize._cache",
    "torch.nn.modules.module._global_forward_pre_hooks",
    "torch.nn.modules.module._global_forward_hooks",
    "torch.nn.modules.batchnorm._NormBase",
    "torch.nn.modules.dropout._DropoutNd",
]
"""Those that are attributes of a module of torch."""

OF_MODULES = [
    "_buffers",
    "_parameters",
    "_modules",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
]


def owner(name: str) -> tuple[object, str]:
    path, _, attribute = name.rpartition(".")
    found: object = torch
    for part in path.split(".")[1:]:
        found = getattr(found, part)
    return found, attribute


def without(monkeypatch, *names: str) -> None:
    for name in names:
        monkeypatch.delattr(*owner(name))


@pytest.fixture(params=[True, False], ids=["reentrant", "not reentrant"])
def reentrant(request) -> bool:
    return request.param


# --- The canaries: torch has what is used


@pytest.mark.parametrize("name", NAMES)
def test_torch_has_the_name(name):
    if name.endswith("_top_saved_tensors_default_hooks") and torch.__version__ < "2.5":
        pytest.skip("known to be missing before torch 2.5 or so")
    assert hasattr(*owner(name))


@pytest.mark.skipif(
    not hasattr(torch.compiler, "is_exporting"), reason="before torch 2.7 it cannot be told"
)
def test_torch_has_the_flag_of_an_export_and_compiled_code_is_none():
    assert torch.compiler._is_exporting_flag is False

    @torch.compile(backend="eager", fullgraph=True)
    def function(x):
        return x + 1 if _torch.exporting() else x

    assert function(torch.zeros(1)).item() == 0.0


SEES_DYNAMO = pytest.mark.skipif(
    not hasattr(torch._C._dynamo.eval_frame, "get_eval_frame_callback"),
    reason="an older torch cannot tell: every step is kept from Dynamo",
)


@SEES_DYNAMO
def test_dynamo_is_seen_where_it_compiles_what_is_called(monkeypatch):
    found = []

    def look(_: object) -> None:
        found.append(_torch.frames_are_read())

    look(None)
    torch._dynamo.run(look)(None)
    torch.compiler.disable(look)(None)
    without(monkeypatch, "torch._C._dynamo.eval_frame.get_eval_frame_callback")
    look(None)
    assert found == [False, True, False, True]


@SEES_DYNAMO
def test_what_is_untraced_is_told_to_dynamo_only_where_dynamo_is_loaded(monkeypatch):
    def look() -> bool:
        return _torch.frames_are_read()

    told = _torch.untraced(look)
    assert torch._dynamo.run(lambda: (look(), told()))() == (True, False)
    monkeypatch.setattr(torch.compiler, "disable", lambda function: "told")
    assert _torch.untraced(look) == "told"
    monkeypatch.delitem(sys.modules, "torch._dynamo")
    assert _torch.untraced(look) is look
    monkeypatch.setattr(_torch.importlib.util, "find_spec", lambda name: None)
    assert _torch.untraced(look) == "told"


def test_transforms_and_tracers_are_recognised_and_ignored_without_their_names(monkeypatch):
    import torch.fx

    def seen(x: torch.Tensor) -> torch.Tensor:
        found.append(_torch.transform())
        return x.sum()

    class Traced(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return seen(x)

    found: list[str | None] = []
    torch.func.grad(seen)(torch.ones(2))
    torch.fx.symbolic_trace(Traced())
    assert None not in found
    assert hasattr(torch.fx._symbolic_trace, "_is_fx_tracing_flag")
    found.clear()
    if hasattr(torch._C._functorch, "maybe_current_level"):
        without(monkeypatch, "torch._C._functorch.maybe_current_level")
    torch.func.grad(seen)(torch.ones(2))
    seen(torch.ones(2))
    without(monkeypatch, "torch._C._functorch.peek_interpreter_stack")
    torch.func.grad(seen)(torch.ones(2))
    assert [one and one[:25] for one in found] == ["a transform of torch.func", None, None]


@pytest.mark.parametrize("name", OF_MODULES)
def test_modules_have_the_attribute(name):
    assert name in vars(nn.Linear(2, 2))


def test_tensors_have_the_attributes():
    made = torch.ones(2, requires_grad=True).relu()
    assert made[:1]._base is made
    made.add_(1)
    assert made._version == 1
    assert hasattr(made.detach().requires_grad_().relu().grad_fn, "_raw_saved_result")


@pytest.mark.skipif(
    not hasattr(torch.compiler, "is_dynamo_compiling"), reason="before torch 2.2 it cannot be told"
)
def test_compiled_code_is_told_from_other_code():
    @torch.compile(backend="eager", fullgraph=True)
    def function(x):
        return x + 1 if _torch.compiling() else x

    assert function(torch.zeros(1)).item() == 1.0
    assert not _torch.compiling()


def test_a_compiled_module_has_the_attribute():
    module = nn.Linear(2, 2)
    compiled = torch.compile(module, backend="eager")
    assert type(compiled).__name__ == "OptimizedModule"
    assert compiled._orig_mod is module
    assert _torch.original(compiled) is module
    assert _torch.original(module) is module


def test_dynamo_has_the_names():
    from torch._dynamo import convert_frame

    assert hasattr(convert_frame.input_codes, "seen")
    assert "torch._dynamo" in sys.modules

    def function(x: torch.Tensor) -> torch.Tensor:
        return x + 1

    torch.compile(function, backend="eager")(torch.ones(2))
    assert _torch.anything_compiled()
    assert _torch.was_compiled(function.__code__)
    assert not _torch.was_compiled(test_dynamo_has_the_names.__code__)


def test_a_tensor_without_values_is_known():
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        assert _torch.is_fake(torch.ones(2))
    assert not _torch.is_fake(torch.ones(2))
    assert not _torch.is_fake(torch.ones(2, device="meta"))


def test_wrappers_name_what_is_inside_them_so():
    from torch.distributed.algorithms._checkpoint import checkpoint_wrapper
    from torch.distributed.fsdp import _common_utils

    assert checkpoint_wrapper._CHECKPOINT_WRAPPED_MODULE in _torch.WRAPPERS
    assert _common_utils.FSDP_WRAPPED_MODULE in _torch.WRAPPERS
    parallel = inspect.getsource(nn.parallel.DistributedDataParallel.__init__)
    assert "self.module = module" in parallel


@pytest.mark.parametrize(
    "normed",
    [weight_norm, spectral_norm, lambda m: prune.identity(m, "weight")],
    ids=["weight norm", "spectral norm", "pruning"],
)
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_hooks_of_torch_that_compute_a_weight_are_known(normed):
    module = normed(nn.Linear(2, 2))
    module.register_forward_pre_hook(lambda *_: None)
    weight, other = _torch.pre_hooks(module)
    assert _torch.is_weight_hook(weight.call)
    assert not _torch.is_weight_hook(other.call)


@pytest.mark.parametrize("function", ["unpack_hook", "checkpoint", "the generator"])
def test_checkpointing_has_the_locals(function):
    names = {
        "unpack_hook": "frame",
        "checkpoint": "gen",
        "the generator": "new_frame",
    }
    known = {name for _, name in _torch._LOCALS}
    assert names[function] in known
    _torch._refuse_renamed_locals()


def test_checkpointed_regions_are_seen_from_inside(reentrant):
    seen = []

    def block(x: torch.Tensor) -> torch.Tensor:
        seen.append([region.recomputing for region in _torch.checkpointed_regions()])
        return x.sin()

    checkpoint(block, torch.ones(2, requires_grad=True), use_reentrant=reentrant).sum().backward()
    assert seen == [[False], [True]]


PRIVATE = re.compile(
    r"torch\._(?!_version)|from torch\.[\w.]*\b_|import _|nn\.modules\.|parametrize\._"
    r"|_raw_saved_result|_orig_mod"
    r"|\._(version|base|buffers|parameters|modules|forward_hooks|forward_pre_hooks|non_persistent)\b"
)


def test_no_other_file_uses_a_private_name():
    package = Path(cmiei_hooks.__file__).parent
    found = [
        f"{path.relative_to(package)}: {line.strip()}"
        for path in package.rglob("*.py")
        if path.name != "_torch.py"
        for line in path.read_text().splitlines()
        if PRIVATE.search(line) and "from ._version" not in line and "from .._version" not in line
    ]
    assert found == []


# --- A torch without them


@pytest.mark.slow
def test_a_torch_without_any_of_them_can_import_measure_and_train(python):
    script = f"""
        import warnings
        warnings.simplefilter("ignore")
        import torch, torch._dynamo
        from torch import nn
        from torch.nn.utils import parametrize
        for name in {NAMES!r}:
            path, _, attribute = name.rpartition(".")
            found = torch
            for part in path.split(".")[1:]:
                found = getattr(found, part)
            if hasattr(found, attribute):
                delattr(found, attribute)
        nn.modules.module._global_forward_pre_hooks = {{}}  # torch's own forward needs these two
        nn.modules.module._global_forward_hooks = {{}}
        import cmiei_hooks
        from cmiei_hooks import *
        torch.manual_seed(0)
        model = nn.Sequential()
        model.add_module("classifier", nn.Linear(12, 7))
        handle = cmiei_hooks.attach(
            model, "classifier", [4, 3, 5], k=1, warmup_epochs=0, abs_thr=0.0, log=False
        )
        x = torch.randn(16, 12)
        for _ in range(2):
            model(x).sum().backward()
        print([f"{{v:.5f}}" for v in handle.last.influence.mean(0)], handle.step)
    """
    found = python.run(["-c", textwrap.dedent(script)])
    assert found.returncode == 0, found.stderr
    torch.manual_seed(0)
    model = nn.Sequential()
    model.add_module("classifier", nn.Linear(12, 7))
    options = {"k": 1, "warmup_epochs": 0, "abs_thr": 0.0, "log": False}
    handle = cmiei_hooks.attach(model, "classifier", WIDTHS, **options)
    x = torch.randn(16, 12)
    for _ in range(2):
        model(x).sum().backward()
    expected = [f"{v:.5f}" for v in handle.last.influence.mean(0)]
    assert found.stdout.strip() == f"{expected} 2"


def test_backward_is_still_known(monkeypatch, reentrant):
    seen = []

    def block(x: torch.Tensor) -> torch.Tensor:
        with monkeypatch.context() as patch:
            without(patch, "torch._C._current_graph_task_id")
            seen.append(_torch.in_backward())
        return x.sin()

    x = torch.ones(2, requires_grad=True)
    checkpoint(block, x, use_reentrant=reentrant).sum().backward()
    assert seen == [False, True]


def test_backward_is_still_known_in_a_thread_of_autograd(monkeypatch):
    without(monkeypatch, "torch._C._current_graph_task_id")
    monkeypatch.setattr(threading.current_thread(), "name", "Dummy-1")
    assert _torch.in_backward()


def replays_in_a_checkpoint(substituted: bool, reentrant: bool, remove) -> list[Done | None]:
    """What is recalled in backward of a region whose head was substituted, or not."""
    replays, recalled = Replays(), []

    def block(x: torch.Tensor) -> torch.Tensor:
        with remove():
            if _torch.in_backward():
                recalled.append(replays.recall())
            else:
                replays.remember(Done(3, torch.zeros(1) if substituted else None))
        return x.sin()

    x = torch.ones(2, requires_grad=True)
    checkpoint(block, x, use_reentrant=reentrant).sum().backward()
    return recalled


def test_substitution_under_checkpointing_is_refused(monkeypatch, reentrant, golden):
    def remove():
        context = pytest.MonkeyPatch.context()
        return Removed(context, "torch._C._current_graph_task_id")

    assert replays_in_a_checkpoint(False, reentrant, remove) == [None]
    with pytest.raises(MissingNameError) as error:
        replays_in_a_checkpoint(True, reentrant, remove)
    golden(error.value.problem + "\n" + error.value.remedy)


class Removed:
    """Inside, torch has no such name."""

    def __init__(self, context, name: str) -> None:
        self.context, self.name = context, name

    def __enter__(self) -> None:
        without(self.context.__enter__(), self.name)

    def __exit__(self, *error: object) -> None:
        self.context.__exit__(*error)


@pytest.mark.skipif(
    torch.__version__ < "2.13", reason="an error inside of a checkpoint leaves torch's hooks behind"
)
@pytest.mark.parametrize("renamed", sorted(_torch._LOCALS), ids=lambda pair: pair[1])
def test_renamed_locals_of_checkpointing_are_refused_only_once_something_was_substituted(
    monkeypatch, renamed, golden
):
    function, name = renamed
    changed = (_torch._LOCALS - {renamed}) | {(function, f"{name}_of_today")}
    monkeypatch.setattr(_torch, "_LOCALS", changed)
    remove = pytest.MonkeyPatch.context
    assert replays_in_a_checkpoint(False, False, remove) == [None]
    with pytest.raises(MissingNameError) as error:
        replays_in_a_checkpoint(True, False, remove)
    golden(error.value.problem + "\n" + error.value.remedy)


def test_a_local_that_is_not_there_is_no_key_error():
    with pytest.raises(MissingNameError):
        _torch._local(sys._getframe(), "a_name_of_tomorrow")


def test_without_the_hooks_of_saved_tensors_every_call_may_be_recomputed(monkeypatch):
    if torch.__version__ >= "2.5":
        assert not _torch.saved_tensors_are_hooked()
        without(monkeypatch, "torch._C._autograd._top_saved_tensors_default_hooks")
    assert _torch.saved_tensors_are_hooked()


def test_dispatch_modes_matter_under_checkpointing_only(monkeypatch, reentrant, golden):
    without(monkeypatch, "torch.utils._python_dispatch._disable_current_modes")
    with _torch.without_dispatch_modes():
        pass

    def block(x: torch.Tensor) -> torch.Tensor:
        with _torch.without_dispatch_modes():
            return x.sin()

    with pytest.raises(MissingNameError) as error:
        checkpoint(block, torch.ones(2, requires_grad=True), use_reentrant=reentrant)
    golden(error.value.problem + "\n" + error.value.remedy)


def test_without_the_cache_of_parametrize_only_parametrized_heads_are_refused(monkeypatch, golden):
    plain, normed = nn.Linear(2, 2), parametrizations.weight_norm(nn.Linear(2, 2))
    for module in (plain, normed):
        with _torch.own_caches(module):
            assert parametrize._cache == {}
    without(monkeypatch, "torch.nn.utils.parametrize._cache")
    with _torch.own_caches(plain):
        pass
    with pytest.raises(MissingNameError) as error, _torch.own_caches(normed):
        pass
    golden(error.value.problem + "\n" + error.value.remedy)


@pytest.mark.parametrize("name", [n for n in NAMES if "autocast" in n])
def test_without_control_of_autocasts_cache_autocast_is_refused(monkeypatch, name, golden):
    module = nn.Linear(2, 2)
    with monkeypatch.context() as patch:
        without(patch, name)
        with _torch.own_caches(module):
            pass
    with torch.autocast("cpu", dtype=torch.bfloat16), monkeypatch.context() as patch:
        without(patch, name)  # autocast itself needs it at its two ends
        with pytest.raises(MissingNameError) as error, _torch.own_caches(module):
            pass
    golden(error.value.problem + "\n" + error.value.remedy)


def test_without_knowledge_of_dynamo_everything_counts_as_compiled(monkeypatch):
    from torch._dynamo import convert_frame

    monkeypatch.delattr(convert_frame, "input_codes")
    assert _torch.anything_compiled()
    assert not _torch.was_compiled(test_a_compiled_module_has_the_attribute.__code__)


def test_a_dynamo_of_another_name_counts_as_compiled(monkeypatch):
    monkeypatch.delitem(sys.modules, "torch._dynamo", raising=False)
    assert not _torch.anything_compiled()
    monkeypatch.setattr(_torch.importlib.util, "find_spec", lambda name: None)
    assert _torch.anything_compiled()


def test_a_model_compiled_before_attach_is_compiled_again_without_that_knowledge(monkeypatch, x):
    model = Fused()
    compiled = torch.compile(model, backend="eager")
    compiled(x)
    with monkeypatch.context() as patch:
        patch.setattr(_torch, "_find", lambda path: None)
        handle = cmiei_hooks.attach(model, "classifier", WIDTHS, k=1, warmup_epochs=0, log=False)
    compiled(x)
    assert handle.step == 1


def test_a_compiled_module_that_hides_its_original_is_refused(golden):
    class OptimizedModule(nn.Module):
        pass

    with pytest.raises(MissingNameError) as error:
        _torch.original(OptimizedModule())
    golden(error.value.problem + "\n" + error.value.remedy)


def test_unknown_hooks_on_all_modules_count_as_some(monkeypatch):
    assert not _torch.hooks_on_all_modules()
    for name in ("_global_forward_pre_hooks", "_global_forward_hooks"):
        with monkeypatch.context() as patch:
            without(patch, f"torch.nn.modules.module.{name}")
            assert _torch.hooks_on_all_modules()


NORMS = [nn.BatchNorm1d(2), nn.SyncBatchNorm(2), nn.InstanceNorm2d(2), nn.LazyBatchNorm1d()]


def test_the_public_classes_are_the_fallback_of_the_private_bases(monkeypatch):
    bases = (_torch.normalisations(), _torch.dropouts())
    without(monkeypatch, "torch.nn.modules.batchnorm._NormBase")
    without(monkeypatch, "torch.nn.modules.dropout._DropoutNd")
    assert _torch.normalisations() != bases[0]
    for norms, dropouts in (bases, (_torch.normalisations(), _torch.dropouts())):
        assert all(isinstance(norm, norms) for norm in NORMS)
        assert isinstance(nn.Dropout2d(), dropouts)
        assert not isinstance(nn.Linear(2, 2), (*norms, *dropouts))


def test_every_private_base_has_its_public_classes(monkeypatch):
    known = vars(nn).values()
    private = {
        kind
        for kind in known
        if inspect.isclass(kind)
        and issubclass(kind, (*_torch.normalisations(), *_torch.dropouts()))
    }
    without(monkeypatch, "torch.nn.modules.batchnorm._NormBase")
    without(monkeypatch, "torch.nn.modules.dropout._DropoutNd")
    assert private == {*_torch.normalisations(), *_torch.dropouts()}


@pytest.mark.parametrize("name", OF_MODULES)
def test_a_module_without_the_attribute_is_refused(name, golden):
    module = nn.Linear(2, 2)
    del vars(module)[name]
    with pytest.raises(MissingNameError) as error:
        if "hooks" not in name:
            _torch.registry(module, name)
        elif "_pre_" in name:
            _torch.pre_hooks(module)
        else:
            _torch.forward_hooks(module)
    golden(error.value.problem + "\n" + error.value.remedy)


def test_hooks_say_whether_they_take_keywords():
    module = nn.Linear(2, 2)
    for with_kwargs in (True, False):
        module.register_forward_pre_hook(print, with_kwargs=with_kwargs)
        module.register_forward_hook(print, with_kwargs=with_kwargs)
    for hooks in (_torch.pre_hooks(module), _torch.forward_hooks(module)):
        assert [hook.with_kwargs for hook in hooks] == [True, False]
        assert all(hook.call is print for hook in hooks)


class Bare:
    """A tensor of a torch without the private attributes."""

    grad_fn = None


def test_tensors_without_the_attributes():
    assert _torch.version(Bare()) == 0
    assert _torch.keeps_its_output(Bare()) == ""
    made = torch.ones(2, requires_grad=True).relu()
    assert _torch.keeps_its_output(made) == _torch.keeps_its_output(made[:1]) == "ReluBackward0"
    made = torch.ones(2, requires_grad=True) + 1
    assert _torch.keeps_its_output(made) == ""


def test_without_the_early_refusal_autograd_refuses_the_write():
    made = torch.ones(2, requires_grad=True).relu()
    made.copy_(torch.zeros(2))
    with pytest.raises(RuntimeError, match="inplace"):
        made.sum().backward()


def test_the_error_has_four_parts_and_can_be_pickled():
    import pickle

    error = _torch._missing("torch.x", "does it", "do that")
    assert isinstance(error, CMIEIError)
    assert all((error.problem, error.got, error.expected, error.remedy))
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is MissingNameError
    assert str(again) == str(error)
