"""Every private name of torch that this package uses.

Each function says what its private name is for, and what happens on a torch that lacks it: an exact
fallback, or a ``MissingNameError`` at the moment when the name is needed. Importing this package
needs none of them. ``tests/test_torch_private.py`` fails when torch renames one.
"""

from __future__ import annotations

import importlib.util
import inspect
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from operator import attrgetter
from types import CodeType, FrameType
from typing import Any, Literal

import torch
import torch.utils.checkpoint
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.nn.utils import parametrize
from torch.utils.hooks import RemovableHandle

from .errors import CMIEIError

__all__ = [
    "WRAPPERS",
    "ForwardHook",
    "MissingNameError",
    "Region",
    "anything_compiled",
    "autocast_dtype",
    "before_every_call",
    "checkpointed_regions",
    "compiling",
    "current_backward",
    "dropouts",
    "dynamo_is_loaded",
    "exporting",
    "forward_hook_keys",
    "forward_hooks",
    "frames_are_read",
    "hooks_on_all_modules",
    "in_autocast",
    "in_backward",
    "is_fake",
    "is_weight_hook",
    "keeps_its_output",
    "load_dynamo",
    "normalisations",
    "original",
    "out_of_memory",
    "own_caches",
    "pre_hooks",
    "registry",
    "saved_tensors_are_hooked",
    "transform",
    "untraced",
    "version",
    "was_compiled",
    "without_dispatch_modes",
]

_TESTED = "torch 2.1 to 2.13, the versions that were tested"


class MissingNameError(CMIEIError):
    """This torch lacks a private name that is needed now and has no exact substitute."""


def _missing(name: str, purpose: str, remedy: str = "") -> MissingNameError:
    return MissingNameError(
        f"this torch has no {name}, which cmiei_hooks needs to {purpose}",
        got=f"torch {torch.__version__}, newer than what was tested",
        expected=_TESTED,
        remedy="install a tested torch" + (f", or {remedy}" if remedy else ""),
    )


def _find(path: str) -> Any:
    """The object at a dotted path below ``torch``; None if there is none."""
    try:
        return _getter(path)(torch)
    except AttributeError:
        return None


_getter = lru_cache(attrgetter)


# Memory


def out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: an error that says nothing about the model or its input.

    Torch has a type of its own for it on CUDA only; elsewhere it is a RuntimeError.
    """
    if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)):
        return True
    texts = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(error, RuntimeError) and any(text in str(error) for text in texts)


# Autograd


def current_backward() -> int:
    """The number of the backward pass that autograd is running in this thread; -1 outside of one.

    Uses ``torch._C._current_graph_task_id``, to tell the second recompute of a checkpointed region
    from the first.

    Raises:
        MissingNameError: without it nothing tells two backward passes apart.
    """
    number = _find("_C._current_graph_task_id")
    if number is None:
        raise _missing(
            "torch._C._current_graph_task_id",
            "tell one backward pass from another",
            _WITHOUT_CHECKPOINTING,
        )
    return int(number())


_WITHOUT_CHECKPOINTING = "train without activation checkpointing, or do not substitute (P_MAX 0)"


def in_backward() -> bool:
    """Whether autograd is running a backward pass here: a module called now is being recomputed.

    Uses ``torch._C._current_graph_task_id``. Fallback, exact: a call of ``torch.autograd.backward``
    or ``grad`` is on the stack, or the thread is one of autograd's own.
    """
    try:  # asked in every step: faster than _find
        number = torch._C._current_graph_task_id
    except AttributeError:
        return _backward_on_the_stack()
    return number() != -1


def _backward_on_the_stack() -> bool:
    # Python did not start the threads in which autograd serves devices: it calls them "Dummy-1".
    if threading.current_thread().name.startswith("Dummy-"):
        return True
    entries = (torch.autograd.backward.__code__, torch.autograd.grad.__code__)
    return any(frame.f_code in entries for frame in _frames())


def _frames() -> Iterator[FrameType]:
    """The frames of this thread, from the caller outwards."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        yield frame
        frame = frame.f_back


def saved_tensors_are_hooked() -> bool:
    """Whether autograd hands the tensors it saves to hooks, as under non-reentrant checkpointing.

    Uses ``torch._C._autograd._top_saved_tensors_default_hooks`` (torch 2.5 or so). Fallback: True,
    with which every call is looked at more closely.
    """
    try:
        top = torch._C._autograd._top_saved_tensors_default_hooks
    except AttributeError:
        return True
    return top(True) is not None


def keeps_its_output(tensor: Tensor) -> str:
    """The operation that made the tensor, if it needs its value in backward (ReLU, softmax).

    Uses ``_raw_saved_result`` of the node, and ``Tensor._base`` for the base of a view. Fallback:
    ""; a write into the tensor is then refused in backward, by autograd itself.
    """
    for made in (tensor, getattr(tensor, "_base", None)):
        producer = None if made is None else made.grad_fn
        # Only whether it is there: reading it would make checkpointing recompute it.
        if hasattr(producer, "_raw_saved_result"):
            return type(producer).__name__
    return ""


def is_fake(tensor: Tensor) -> bool:
    """Whether the tensor has a shape and no values, as those under ``FakeTensorMode``.

    Uses ``torch._subclasses.fake_tensor.FakeTensor``. Fallback: False; such a tensor is then
    measured, and its influence means nothing.
    """
    fakes = sys.modules.get("torch._subclasses.fake_tensor")
    fake = getattr(fakes, "FakeTensor", None)
    return fake is not None and isinstance(tensor, fake)


def version(tensor: Tensor) -> int:
    """How often the tensor was written into.

    Uses ``Tensor._version``. Fallback: 0. Then ``verify`` compares values only, and a training
    loop that neither calls ``set_epoch`` nor the head and leaves no gradients is not warned about.
    """
    return int(getattr(tensor, "_version", 0))


# Activation checkpointing


@dataclass(frozen=True)
class Region:
    """A checkpointed region around the caller."""

    key: Any
    """The object that checkpointing keeps for the region between its two passes."""
    recomputing: bool
    needs_gradient: bool = False
    """Whether it is of the reentrant kind, and an input of it requires gradient."""


def checkpointed_regions() -> Iterator[Region]:
    """The checkpointed regions around the caller, from the inside out.

    Reads locals of functions in ``torch/utils/checkpoint.py``: ``frame`` in ``unpack_hook`` (the
    recompute), ``gen`` in ``checkpoint`` and ``new_frame`` in the generator that it holds (the
    first pass); of the reentrant kind, the ``ctx`` of an ``autograd.Function``.

    Raises:
        MissingNameError: the call is checkpointed, and this torch names these otherwise.
    """
    for frame in _frames():
        code = frame.f_code
        # The locals of other frames are not touched: reading them would keep them alive.
        if code.co_filename == torch.utils.checkpoint.__file__:
            _refuse_renamed_locals()
            if code.co_name == "unpack_hook":
                yield Region(_local(frame, "frame"), recomputing=True)
                continue
            if "gen" in code.co_varnames:
                generator = frame.f_locals.get("gen")  # None in the reentrant kind
                if generator is not None and generator.gi_frame is not None:
                    yield Region(_local(generator.gi_frame, "new_frame"), recomputing=False)
                continue
        if code.co_name in ("forward", "backward") and code.co_varnames[:1] == ("ctx",):
            function = frame.f_locals.get("ctx")
            if isinstance(function, FunctionCtx):
                needed = any(getattr(function, "needs_input_grad", (True,)))
                yield Region(function, code.co_name == "backward", needed)


def _local(frame: FrameType, name: str) -> Any:
    if name not in frame.f_locals:
        raise _renamed(name)
    return frame.f_locals[name]


_LOCALS = {
    ("unpack_hook", "frame"),
    ("checkpoint", "gen"),
    ("_checkpoint_without_reentrant_generator", "new_frame"),
}
"""Functions of ``torch.utils.checkpoint``, and the local of each that is read."""


def _refuse_renamed_locals() -> None:
    functions = (
        _find("utils.checkpoint.checkpoint"),
        _find("utils.checkpoint._checkpoint_without_reentrant_generator"),
        _find("utils.checkpoint._checkpoint_hook.__init__"),
    )
    codes = [getattr(inspect.unwrap(f), "__code__", None) for f in functions if f is not None]
    codes += [inner for code in codes if code is not None for inner in code.co_consts]
    known = {
        (code.co_name, name)
        for code in codes
        if isinstance(code, CodeType)
        for name in (*code.co_varnames, *code.co_freevars, *code.co_cellvars)
    }
    for function, name in _LOCALS - known:
        raise _renamed(f"{name} of {function}")


def _renamed(name: str) -> MissingNameError:
    return _missing(
        f"local variable {name} in torch/utils/checkpoint.py",
        "find the checkpointed region that calls the head",
        _WITHOUT_CHECKPOINTING,
    )


@contextmanager
def without_dispatch_modes() -> Iterator[None]:
    """Inside, no ``TorchDispatchMode`` is active, so that selective checkpointing records nothing.

    Uses ``torch.utils._python_dispatch._disable_current_modes``. Fallback: outside of
    ``torch.utils.checkpoint`` nothing is done; a mode of the user's then sees the re-runs.

    Raises:
        MissingNameError: without it, under checkpointing: the re-runs might be recorded.
    """
    disabled = _find("utils._python_dispatch._disable_current_modes")
    if disabled is None and any(
        frame.f_code.co_filename == torch.utils.checkpoint.__file__ for frame in _frames()
    ):
        raise _missing(
            "torch.utils._python_dispatch._disable_current_modes",
            "keep re-runs of the head out of selective checkpointing",
            "train without activation checkpointing",
        )
    with nullcontext() if disabled is None else disabled():
        yield


# Transforms and tracers


def transform() -> str | None:
    """The function transform or tracer that is running this code, if there is one.

    Tensors are then proxies (for per-sample tensors, dual numbers, symbols), and what is kept of
    them cannot be read after the call. Uses ``torch._C._functorch.maybe_current_level`` (before
    torch 2.2: ``peek_interpreter_stack``) and the flag of ``torch.fx``. On a torch without them
    these two kinds are not recognised, and a hook under them gets torch's own errors.
    """
    level = _find("_C._functorch.maybe_current_level")
    level = level or _find("_C._functorch.peek_interpreter_stack")
    if level is not None and level() is not None:
        return "a transform of torch.func (grad, vjp, jacrev, vmap, ...)"
    tracer = sys.modules.get("torch.fx._symbolic_trace")
    if getattr(tracer, "_is_fx_tracing_flag", False):
        return "torch.fx tracing or torch.export"
    tracing = torch.jit.is_tracing()  # type: ignore[attr-defined,no-untyped-call]  # no types in torch
    return "torch.jit.trace" if tracing else None


def exporting() -> bool:
    """Whether Dynamo is reading this code for ``torch.export``, which allows no graph break.

    Uses ``torch.compiler._is_exporting_flag``: in torch 2.8 Dynamo takes ``is_exporting()`` for
    True in every compiled model, whose hooks would then do nothing. False without it (before 2.7):
    there strict export refuses an attached model.
    """
    flag = getattr(torch.compiler, "_is_exporting_flag", False)
    return bool(flag and torch.compiler.is_dynamo_compiling())


def compiling() -> bool:
    """Whether Dynamo is reading this code, for ``torch.compile`` or for an export.

    False where torch cannot tell (before 2.2).
    """
    known = getattr(torch.compiler, "is_dynamo_compiling", None)
    return known is not None and bool(known())


def untraced(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, which Dynamo does not compile if it is loaded now.

    As it is otherwise: to say so to Dynamo would load it, which takes a second. Where a model may
    be compiled later, call ``load_dynamo`` before.
    """
    if not dynamo_is_loaded():
        return function
    return torch.compiler.disable(function)  # type: ignore[no-any-return,no-untyped-call]  # no types in torch


def load_dynamo() -> None:
    """Import Dynamo, under whatever name, so that it can be told what not to compile."""
    torch.compiler.disable(_nothing)  # type: ignore[no-untyped-call]  # no types in torch


def _nothing() -> None:
    """For Dynamo."""


def dynamo_is_loaded() -> bool:
    """Whether anything in this process has used ``torch.compile``, or is about to.

    Uses the name of ``torch._dynamo``. Fallback: True, with which Dynamo is loaded.
    """
    return "torch._dynamo" in sys.modules or importlib.util.find_spec("torch._dynamo") is None


def frames_are_read() -> bool:
    """Whether Dynamo compiles the functions that are called now, as in a compiled model.

    Uses ``torch._C._dynamo.eval_frame.get_eval_frame_callback``. Fallback: True, with which every
    step is kept from Dynamo, which takes longer.
    """
    try:
        callback = torch._C._dynamo.eval_frame.get_eval_frame_callback
    except AttributeError:
        return True
    return callback() is not None


# Caches and compiled code


@contextmanager
def own_caches(module: nn.Module) -> Iterator[None]:
    """Inside, the module's weights are not put into the caches that a later forward reads.

    Autocast (before torch 2.13) and ``parametrize.cached()`` would hand weights that were computed
    without gradient to the real forward, and the head would silently get no gradient.

    Uses ``torch.is_autocast_cache_enabled``, ``torch.set_autocast_cache_enabled`` and
    ``torch.nn.utils.parametrize._cache``.

    Raises:
        MissingNameError: without ``_cache``, for a module with parametrizations; without the other
            two, under autocast.
    """
    enabled, enable = _find("is_autocast_cache_enabled"), _find("set_autocast_cache_enabled")
    cached = getattr(parametrize, "_cache", None)
    if (enabled is None or enable is None) and _autocasts():
        raise _missing(
            "torch.set_autocast_cache_enabled",
            "keep the weights of a re-run out of autocast's cache",
            "train without autocast",
        )
    if cached is None and any(map(parametrize.is_parametrized, module.modules())):
        raise _missing(
            "torch.nn.utils.parametrize._cache",
            "keep the weights of a re-run out of parametrize.cached()",
            "remove the parametrizations of the head",
        )
    before = enabled() if enabled and enable else None
    try:
        if before is not None:
            enable(False)
        if cached is not None:
            parametrize._cache = {}
        yield
    finally:
        if before is not None:
            enable(before)
        if cached is not None:
            parametrize._cache = cached


def _autocasts() -> bool:
    return any(map(in_autocast, ("cpu", "cuda", "xpu", "mps")))


def in_autocast(device: str) -> bool:
    """Whether autocast is on for this type of device."""
    try:
        return torch.is_autocast_enabled(device)
    except TypeError:  # before torch 2.4
        return torch.is_autocast_cpu_enabled() if device == "cpu" else torch.is_autocast_enabled()
    except RuntimeError:  # a type of device without autocast
        return False


def autocast_dtype(device: str) -> torch.dtype | None:
    """The type to which autocast rounds on this type of device; None where autocast is off."""
    if not in_autocast(device):
        return None
    if hasattr(torch, "get_autocast_dtype"):
        return torch.get_autocast_dtype(device)
    cpu = device == "cpu"  # before torch 2.4
    return torch.get_autocast_cpu_dtype() if cpu else torch.get_autocast_gpu_dtype()


def anything_compiled() -> bool:
    """Whether ``torch.compile`` may have compiled something in this process.

    Uses ``torch._dynamo`` and, in it, ``convert_frame.input_codes``. Fallback: True; compiled code
    is then dropped on every attachment, and compiled again.
    """
    if "torch._dynamo" not in sys.modules:
        return dynamo_is_loaded()
    seen = _find("_dynamo.convert_frame.input_codes.seen")
    return seen is None or bool(seen)


def was_compiled(code: CodeType) -> bool:
    """Whether ``torch.compile`` has compiled this code.

    Uses ``torch._dynamo.convert_frame.input_codes``. Fallback: False; the user is then not told
    which module is compiled again.
    """
    codes = _find("_dynamo.convert_frame.input_codes")
    return codes is not None and code in codes


def original(module: nn.Module) -> nn.Module:
    """The module that ``torch.compile`` wrapped; any other module itself.

    Uses ``_orig_mod`` of the wrapper. Compiled code runs no hooks that the wrapper gets.

    Raises:
        MissingNameError: the wrapper has no such attribute.
    """
    inner = getattr(module, "_orig_mod", None)
    if isinstance(inner, nn.Module):
        return original(inner)
    if type(module).__name__ == "OptimizedModule":
        raise _missing(
            "OptimizedModule._orig_mod",
            "find the module behind torch.compile",
            "attach to the module before compiling it",
        )
    return module


WRAPPERS = frozenset(
    {
        "module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module",
        "_module", "_forward_module",
    }
)  # fmt: skip
"""What DDP, torch.compile, FSDP and checkpoint wrappers call the module inside them; and what
opacus (``_module``) and Fabric (``_forward_module``) do.

Without one of these a head must be named by its full path in the wrapped model.
"""


# Modules


def registry(
    module: nn.Module, name: Literal["_buffers", "_parameters", "_modules"]
) -> dict[str, Any]:
    """The dictionary in which a module keeps its own buffers, parameters or children.

    Whoever re-runs the module exchanges the buffers in it, and removes what the re-run added.

    Raises:
        MissingNameError: the module has no such attribute.
    """
    return _attribute(module, name, "leave a module as it was")  # type: ignore[no-any-return]  # as torch has it


def _attribute(module: nn.Module, name: str, purpose: str) -> Any:
    found = getattr(module, name, None)
    if found is None:
        raise _missing(f"nn.Module.{name}", purpose)
    return found


@dataclass(frozen=True)
class ForwardHook:
    """One forward hook or pre-hook of a module."""

    key: int
    """Torch never uses the key of a removed hook again."""
    call: Callable[..., Any]
    with_kwargs: bool


def pre_hooks(module: nn.Module) -> list[ForwardHook]:
    """The forward pre-hooks of a module, in the order of their calls.

    Uses ``_forward_pre_hooks`` and ``_forward_pre_hooks_with_kwargs``.

    Raises:
        MissingNameError: without them.
    """
    return _hooks(module, "_forward_pre_hooks", "_forward_pre_hooks_with_kwargs")


def forward_hooks(module: nn.Module) -> list[ForwardHook]:
    """The forward hooks of a module, in the order of their calls.

    Uses ``_forward_hooks`` and ``_forward_hooks_with_kwargs``.

    Raises:
        MissingNameError: without them.
    """
    return _hooks(module, "_forward_hooks", "_forward_hooks_with_kwargs")


def forward_hook_keys(module: nn.Module) -> tuple[int, ...]:
    """The keys of the forward hooks alone, for a question that is asked in every step.

    Uses ``_forward_hooks``.

    Raises:
        MissingNameError: without it.
    """
    try:
        return tuple(module._forward_hooks)
    except AttributeError:
        raise _missing("nn.Module._forward_hooks", "read the hooks of a module") from None


def _hooks(module: nn.Module, hooks: str, with_kwargs: str) -> list[ForwardHook]:
    marked = _attribute(module, with_kwargs, "tell which hooks take keywords")
    registered = _attribute(module, hooks, "read the hooks of a module")
    return [ForwardHook(key, hook, key in marked) for key, hook in registered.items()]


def before_every_call(hook: Callable[[nn.Module, Any], None]) -> RemovableHandle:
    """Register a forward pre-hook on all modules; it gets no keyword arguments.

    Uses ``torch.nn.modules.module.register_module_forward_pre_hook``, which is public.
    """
    return nn.modules.module.register_module_forward_pre_hook(hook)


def hooks_on_all_modules() -> bool:
    """Whether a hook is registered on all modules at once.

    Uses ``_global_forward_pre_hooks`` and ``_global_forward_hooks`` in ``torch.nn.modules.module``.
    Fallback: True, with which heads are re-run in the general way.
    """
    everywhere = nn.modules.module
    names = ("_global_forward_pre_hooks", "_global_forward_hooks")
    return any(getattr(everywhere, name, True) for name in names)


def is_weight_hook(hook: object) -> bool:
    """Whether a pre-hook computes a weight: pruning and the legacy weight and spectral norm.

    They are the classes in ``torch.nn.utils`` that are registered as pre-hooks. One that torch
    moves elsewhere is taken for a hook of the user's.
    """
    return type(hook).__module__.startswith("torch.nn.utils.")


def normalisations() -> tuple[type[nn.Module], ...]:
    """The base classes of torch's batch and instance normalisations.

    Uses ``torch.nn.modules.batchnorm._NormBase``. Fallback: the public classes.
    """
    private = getattr(nn.modules.batchnorm, "_NormBase", None)
    public: tuple[type[nn.Module], ...] = (
        nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm,
        nn.LazyBatchNorm1d, nn.LazyBatchNorm2d, nn.LazyBatchNorm3d,
        nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d,
        nn.LazyInstanceNorm1d, nn.LazyInstanceNorm2d, nn.LazyInstanceNorm3d,
    )  # fmt: skip
    return public if private is None else (private,)


def dropouts() -> tuple[type[nn.Module], ...]:
    """The base classes of torch's dropouts.

    Uses ``torch.nn.modules.dropout._DropoutNd``. Fallback: the public classes.
    """
    private = getattr(nn.modules.dropout, "_DropoutNd", None)
    public: tuple[type[nn.Module], ...] = (
        nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d,
        nn.AlphaDropout, nn.FeatureAlphaDropout,
    )  # fmt: skip
    return public if private is None else (private,)
