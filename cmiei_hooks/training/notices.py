"""The warnings that a user gets while training goes on; each is given once."""

from __future__ import annotations

import warnings
import weakref

from torch import Tensor, nn

from .._torch import WRAPPERS, registry, version
from ..counterfactual import ChainCheck, OutputComparison, larger_head
from ..errors import CMIEIWarning
from ..functional import cap
from ..fusion import Head, MissingModalityError, one_modality_a_row, why_never_called
from ..settings import Config
from .schedule import Schedule
from .statistics import Statistics

__all__ = ["Notices"]

_LOADED = 8
"""How often weights may be loaded into a model that is not trained. Training writes into them in
every step."""


class Notices:
    """Watches one attachment for training that does not do what the user thinks it does."""

    def __init__(self, model: nn.Module, head: Head) -> None:
        self._model, self._head = weakref.ref(model), head
        self._calls = self._calls_in_epoch = self._without_gradient = 0
        self._paths = [_path(model, link, name) for name, link in head.modules]
        self._epoch_begun = False
        self._written = [(weakref.ref(p), version(p)) for p in _parameters(model)]
        self._had_gradients = _has_gradients(model)
        self._given: set[str] = set()

    def called(self) -> None:
        """Count one training call of the head, a suspended one too."""
        self._calls += 1
        self._calls_in_epoch += 1

    def called_without_gradient(self) -> None:
        """Count one call in training mode that is not training."""
        self._without_gradient += 1

    def called_in_transform(self, kind: str) -> None:
        """Warn about a call inside a function transform or a tracer, where nothing is done."""
        self._warn(
            "transform",
            f"the head {self._head.name!r} was called inside {kind}: there the hook passes "
            "everything through, and nothing is measured, substituted or counted",
        )

    def epoch_begins(self) -> None:
        """Note that the training loop announces its epochs."""
        self._epoch_begun = True

    def epoch_ends(self, statistics: Statistics, chain: ChainCheck) -> None:
        """Warn about an epoch without a call of the head, or a chain that could not be compared."""
        if self._epoch_begun and not self._calls_in_epoch:
            self._warn_of_silence()
        self.check_head()
        self.check_finite(statistics)
        self._check_chain(chain)
        self._calls_in_epoch = 0

    def training_ends(self, statistics: Statistics, chain: ChainCheck) -> None:
        """Warn if the model was trained and the head was never called."""
        if not self._calls and (self._epoch_begun or self._trained()):
            self._warn_of_silence()
        self.check_head(only_trained=True)
        self.check_finite(statistics)
        self._check_chain(chain)

    def _trained(self) -> bool:
        """Whether the model was trained since attach, as far as its parameters show.

        Weights that are loaded are written into each parameter, too, but not often.
        """
        model = self._model()
        if model is None:
            return False
        if not self._had_gradients and _has_gradients(model):
            return True
        known = [(one(), before) for one, before in self._written]
        return any(p is not None and version(p) - before > _LOADED for p, before in known)

    def check_epoch(self, schedule: Schedule) -> None:
        """Warn about a warm-up that never ends because nobody announces the epochs."""
        if not schedule.needs_epochs or schedule.epochs or schedule.ask is not None:
            return
        if schedule.config.p_max == 0 and schedule.config.sample_level:
            return  # it only measures: there is nothing that a warm-up could hold back
        ends = schedule.config.end_epoch is not None and not schedule.in_warmup(schedule.step)
        never = "END_EPOCH will never come" if ends else "the warm-up will never end"
        in_steps = "the end in steps: attach(..., end_step=1000)"
        in_steps = in_steps if ends else "the warm-up in steps: attach(..., warmup_steps=1000)"
        self._warn(
            "epoch",
            f"head {self._head.name!r}: handle.set_epoch(epoch) has not been called yet, and "
            f"without it {never}. Call it at the start of every epoch, or pass "
            f"attach(..., epoch=lambda: <the epoch>), or count {in_steps}",
        )

    def check_finite(self, statistics: Statistics) -> None:
        """Warn about samples that were left out, or emptied; waits for the device."""
        if "emptied" not in self._given and (emptied := statistics.emptied):
            self._warn(
                "emptied",
                f"the strategy substituted all modalities of {emptied} samples at the head "
                f"{self._head.name!r}: nothing of such a sample is left to learn from. Leave one "
                "modality of every sample out of what choose() returns",
            )
        if "finite" not in self._given and (left_out := statistics.totals.left_out):
            self._warn(
                "finite",
                f"{left_out} samples had NaN or infinite logits at the head "
                f"{self._head.name!r}; they are never substituted and are kept out of the averages",
            )

    def check_head(self, *, only_trained: bool = False) -> None:
        """Warn if the model no longer holds the head where it was at attach.

        Args:
            only_trained: not of a module that has no gradients, such as a new one for a later task.
        """
        model = self._model()
        if model is None:
            return
        for (name, link), path in zip(self._head.modules, self._paths, strict=True):
            problem = _moved(model, path, link)
            if problem is not None and not (only_trained and _untrained(model, path, link)):
                self._warn(
                    "head",
                    f"the head {name!r} {problem}: C-MIEI still measures and substitutes at the "
                    "module it was attached to, which the model no longer has under this name. "
                    "Call remove() and attach again after the model has its final form (after "
                    "get_peft_model, merge_and_unload, reset_classifier, quantisation)",
                )

    def moved_by_another_tool(self, kind: str) -> None:
        """Warn that the hook was moved to a module that it was not made for."""
        self._warn(
            "head",
            f"another tool has replaced the head {self._head.name!r} by a {kind} and moved the "
            "hook of C-MIEI to it, where the hook does nothing. Call remove(), and attach again "
            "after that tool has changed the model",
        )

    def check_output(self, found: OutputComparison, encoders: tuple[str, ...] = ()) -> None:
        """Warn about a head whose logits are not those of the model, or are probabilities.

        Also of one that is called once for each modality: each call follows an encoder of its own.
        """
        model = self._model()
        if encoders:
            calls = ", ".join(f"call {i} follows {name!r}" for i, name in enumerate(encoders, 1))
            got = f"one forward of the model calls it {len(encoders)} times, and {calls}"
            otherwise = "if each call receives all modalities of a sample, ignore this warning"
            error = one_modality_a_row(self._head.names[0], got, otherwise)
            self._warn("apart", f"{error.problem}: {error.got}. Remedy: {error.remedy}")
        if found.sigmoid and self._head.measure != "squared":
            measure = "" if self._head.measure == "bernoulli" else ", measure='bernoulli'"
            self._warn(
                "probabilities",
                f"the head {self._head.name!r} returns the output of a sigmoid, and influence is "
                "many times too small. Name a head that returns the logits, or turn them back: "
                f"output=lambda p: p.logit(1e-6){measure}",
            )
        if found.verdict == "different" and model is not None:
            self._warn(
                "output",
                f"the head {self._head.name!r} does not return the logits of the model: "
                f"{found.sentence}. Influence is measured on a hidden layer; "
                + larger_head(model, self._head, found),
            )

    def check_probabilities(self, found: Tensor | None) -> None:
        """Warn about a head that returns probabilities; waits for the device."""
        if found is None or "probabilities" in self._given or self._head.measure == "squared":
            return
        if bool(found):
            self._warn(
                "probabilities",
                f"the head {self._head.name!r} returns probabilities: every row is at least 0 and "
                "sums to 1. Softmax of probabilities is nearly uniform, so influence is many times "
                "too small. Name a head that returns the logits, or turn them back: "
                "output=lambda p: p.log()",
            )

    def check_batch(self, batch: int, config: Config) -> None:
        """Warn about batches that are too small for anything to be substituted."""
        capped = config.sample_level and config.p_max and config.selection == "dominant"
        if batch == 1 and config.drop == "mean":
            problem = "in a batch of one sample the batch mean is the sample itself, so DROP mean "
            problem += "drops nothing, and every influence is 0"
        elif batch == 1:
            problem = "in a batch of one sample the batch mean is the sample itself, and "
            in_features = config.sigma_unit == "feature"
            problem += (
                "substitution only adds noise to it"
                if in_features
                else "its standard deviation is 0, so substitution changes nothing (SIGMA_UNIT std)"
            )
        elif batch and capped and not cap(config.p_max, batch):
            problem = f"P_MAX {config.p_max:g} of a batch of {batch} is less than one sample: "
            problem += "nothing can be substituted"
        else:
            return
        self._warn("batch", f"head {self._head.name!r}: {problem}. Use larger batches")

    def modality_missing(self, found: MissingModalityError) -> None:
        """Warn of a batch without one of the modalities."""
        problem = found.problem.replace("the head", f"the head {self._head.name!r}", 1)
        self._warn(
            "missing",
            f"{problem} ({found.got}). In such a batch nothing is "
            "estimated or substituted, and training goes on; Handle.skipped counts the estimates "
            "that were left out. If the modality is never there, correct modalities=",
        )

    def _check_chain(self, chain: ChainCheck) -> None:
        if chain.missing:
            first, last = self._head.names[0], self._head.names[-1]
            self._warn(
                "chain",
                f"the model called {first!r} without calling {last!r} after it, so the logits of "
                "the chain could not be compared with those of the model. Name a chain that the "
                "model runs through in training mode",
            )

    def _warn_of_silence(self) -> None:
        self.check_head()
        if "head" in self._given:
            return  # that is the cause
        message = why_never_called(*self._head.modules[0], self._model())
        if self._head.branches:
            message += ". Branches are seen where a module of the model calls all of them and "
            message += "returns their combination: their logits must be combined in a forward"
        if self._without_gradient:
            message += f". It was called {self._without_gradient} times in training mode without "
            message += "gradient, which does not count as training"
        self._warn("called", message)

    def _warn(self, about: str, message: str) -> None:
        if about not in self._given:
            self._given.add(about)
            warnings.warn(message, CMIEIWarning, stacklevel=2)


def _path(model: nn.Module, link: nn.Module, name: str) -> list[str]:
    """The names that lead from the model to a link, as they are at attach."""
    known = model.named_modules(remove_duplicate=False)
    paths = [path for path, module in known if module is link]
    found = name if name in paths or not paths else paths[0]
    return found.split(".") if found else []


def _moved(model: nn.Module, path: list[str], link: nn.Module) -> str | None:
    """What has happened to a link, if it is no longer where it was."""
    now: nn.Module | None = model
    for name in path:
        now = None if now is None else registry(now, "_modules").get(name)
        while now is not None and now is not link:
            children = registry(now, "_modules")
            inner = [children[name] for name in WRAPPERS - {"module"} if name in children]
            if not inner:
                break
            now = inner[0]
    if now is link:
        return None
    if now is not None and any(module is link for module in now.modules()):
        return f"was put inside another module ({type(now).__name__})"
    if any(module is link for module in model.modules()):
        return None  # called from a module that has replaced its parent
    return "was removed" if now is None else f"was replaced by another {type(now).__name__}"


def _untrained(model: nn.Module, path: list[str], link: nn.Module) -> bool:
    """Whether no backward pass has reached what stands in the place of a link."""
    own = {id(parameter) for parameter in link.parameters()}
    now: nn.Module | None = model
    for name in path:
        now = None if now is None else registry(now, "_modules").get(name)
    parameters = [] if now is None else list(now.parameters())
    return all(p.grad is None or id(p) in own for p in parameters)


def _parameters(model: nn.Module) -> list[nn.Parameter]:
    """Those that count how often they were written into."""
    known = [p for p in model.parameters() if not isinstance(p, nn.UninitializedParameter)]
    return [p for p in known if not p.is_inference()]


def _has_gradients(model: nn.Module) -> bool:
    return any(p.grad is not None for p in _parameters(model))
