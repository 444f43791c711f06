"""A head of several links: what is checked, what must run before a later link, what is refused."""

from __future__ import annotations

import copy
import pickle
import re
from collections.abc import Callable

import pytest
import torch
from helpers import WIDTHS
from torch import Tensor, nn
from torch.nn.utils import prune, spectral_norm, weight_norm
from torch.utils.checkpoint import checkpoint

import cmiei_hooks
import cmiei_hooks.training.step
from cmiei_hooks import CMIEIError, CMIEIWarning, audit, verify
from cmiei_hooks.counterfactual import ChainCheck

WIDTH = sum(WIDTHS)
CHAIN = {"head": ["neck", "classifier"], "splits": WIDTHS}
ACTING = {"k": 1, "warmup_epochs": 0, "abs_thr": 0.0, "rel_thr": 0.0, "log": False}


class Necked(nn.Module):
    """An encoder, a neck, something between, a classifier."""

    def __init__(
        self,
        neck: nn.Module | None = None,
        classifier: nn.Module | None = None,
        between: Callable[[Tensor], Tensor] = lambda x: x,
    ) -> None:
        super().__init__()
        self.encoder = nn.Linear(6, WIDTH)
        self.neck = neck or nn.BatchNorm1d(WIDTH)
        self.classifier = classifier or nn.Linear(WIDTH, 7)
        self.between = between

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.between(self.neck(self.encoder(x))))


@pytest.mark.parametrize("acting", [{}, {"warmup_epochs": 3}, {"p_max": 0.0}], ids=str)
@pytest.mark.parametrize(
    "neck", [lambda: nn.BatchNorm1d(WIDTH), nn.Dropout, lambda: nn.ReLU(inplace=True)]
)
def test_a_true_chain_is_checked_once_and_the_hook_goes(neck, acting, x):
    model = Necked(neck())
    handle = cmiei_hooks.attach(model, **CHAIN, **ACTING | acting)
    handle.set_epoch(0)
    assert len(chain_hooks(model)) == 1
    model(x)
    assert not chain_hooks(model)
    model(x)
    assert handle.step == 2
    handle.remove()


def chain_hooks(model: nn.Module) -> list[ChainCheck]:
    """The hooks of the check that are on the last link."""
    hooks = model.classifier._forward_hooks.values()
    return [hook for hook in hooks if isinstance(hook, ChainCheck)]


def without_numbers(error: BaseException) -> str:
    """The text of an error; how large a difference is depends on the platform."""
    return re.sub(r"\d\.\d+(e-\d+)?", "<number>", str(error))


BETWEEN = {
    "scaling": lambda x: x * 1.01,
    "an activation": torch.relu,
    "dropout": lambda x: nn.functional.dropout(x, 0.1),
    "another order": lambda x: x.flip(1),
}


@pytest.mark.parametrize("acting", [{}, {"warmup_epochs": 3}], ids=["acting", "warm-up"])
@pytest.mark.parametrize("between", BETWEEN.values(), ids=BETWEEN)
def test_a_chain_that_is_not_what_the_model_computes_is_refused_with_the_difference(
    between, acting, x, golden
):
    model = Necked(between=between)
    with cmiei_hooks.attach(model, **CHAIN, **ACTING | acting) as handle:
        handle.set_epoch(0)
        with pytest.raises(CMIEIError) as error:
            model(x)
    golden(without_numbers(error.value))
    assert not chain_hooks(model)
    with pytest.raises(CMIEIError) as error:
        audit(model, [x], **CHAIN)
    golden(without_numbers(error.value))
    assert not verify(model, x, **CHAIN).ok


def test_a_batch_of_another_size_at_the_end_is_refused(x, golden):
    model = Necked(between=lambda y: torch.cat([y, y]))
    cmiei_hooks.attach(model, **CHAIN, **ACTING)
    with pytest.raises(CMIEIError) as error:
        model(x)
    golden(error.value)


@pytest.mark.negative_control
def test_without_the_check_a_wrong_chain_would_be_measured(x, monkeypatch):
    monkeypatch.setattr(
        cmiei_hooks.counterfactual.chain_check.ChainCheck, "expect", lambda *_: None
    )
    model = Necked(between=torch.relu)
    handle = cmiei_hooks.attach(model, **CHAIN, **ACTING)
    model(x)
    assert handle.last.influence.isfinite().all()


def test_a_refused_chain_stays_refused(x, golden):
    model = Necked(between=torch.relu)
    handle = cmiei_hooks.attach(model, **CHAIN, **ACTING)
    for _ in range(3):
        with pytest.raises(CMIEIError) as error:
            model(x)
        golden(without_numbers(error.value))
    handle.remove()
    model(x)


def zeroed(between: Callable[[Tensor], Tensor]) -> Necked:
    """A classifier that begins with zeros, as some libraries make it."""
    model = Necked(between=between)
    for parameter in model.classifier.parameters():
        nn.init.zeros_(parameter)
    return model


def test_logits_that_are_all_zero_do_not_hide_a_wrong_chain(x, golden):
    cmiei_hooks.attach(zeroed(torch.relu), **CHAIN, **ACTING)
    model = zeroed(lambda y: torch.relu(3 * y))
    cmiei_hooks.attach(model, **CHAIN, **ACTING)
    with pytest.raises(CMIEIError) as error:
        model(x)
    golden(without_numbers(error.value))
    right = zeroed(lambda y: y)
    cmiei_hooks.attach(right, **CHAIN, **ACTING)
    right(x)
    assert not chain_hooks(right)


@pytest.mark.parametrize("first", [torch.full((16, 6), torch.nan), torch.zeros(0, 6)])
def test_the_check_waits_for_a_batch_that_can_be_compared(first, x):
    model = Necked(nn.Identity())
    handle = cmiei_hooks.attach(model, **CHAIN, **ACTING)
    model(first)
    assert chain_hooks(model)
    model(x)
    assert not chain_hooks(model)
    assert handle.step == 2


class TwoViews(Necked):
    """Encodes two views before it classifies either, and a tensor of its own before both."""

    def forward(self, x: Tensor) -> Tensor:
        one, two = (self.neck(self.encoder(view)) for view in (x, -x))
        return (
            self.classifier(x.new_ones(4, WIDTH)).sum()
            + self.classifier(one)
            + self.classifier(two)
        )


def test_the_last_link_may_also_be_called_with_something_else(x):
    model = TwoViews()
    handle = cmiei_hooks.attach(model, **CHAIN, **ACTING)
    model(x)
    assert handle.step == 2
    assert not chain_hooks(model)


@pytest.mark.parametrize("between", ["retry", "eval pass", "features only"])
def test_a_forward_that_was_broken_off_is_forgotten(between, x):
    fails = [between != "features only"]

    def out_of_memory(y: Tensor) -> Tensor:
        if fails and fails.pop():
            raise torch.cuda.OutOfMemoryError
        return y

    model = Necked(between=out_of_memory)
    cmiei_hooks.attach(model, **CHAIN, **ACTING)
    if between == "features only":
        model.neck(model.encoder(x))
    else:
        with pytest.raises(torch.cuda.OutOfMemoryError):
            model(x)
    if between == "eval pass":
        model.eval()
        model(-x)
        model.train()
    model(x)
    model(x)
    assert not chain_hooks(model)


class Skips(Necked):
    def forward(self, x: Tensor) -> Tensor:
        return self.neck(self.encoder(x))


@pytest.mark.parametrize("said_by", ["remove", "set_epoch"])
def test_a_last_link_that_is_never_called_is_said(said_by, x, golden):
    model = Skips()
    handle = cmiei_hooks.attach(model, **CHAIN, **ACTING)
    model(x)
    with pytest.warns(CMIEIWarning) as warned:
        handle.remove() if said_by == "remove" else handle.set_epoch(1)
    golden(warned[0].message)
    with pytest.raises(CMIEIError) as error:
        audit(model, [x], **CHAIN)
    golden(error.value)
    report = verify(Skips(), x, **CHAIN)
    assert "'classifier' was not" in report.checks[1].found
    assert not report.ok


class Arcs(nn.Linear):
    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        return super().forward(x) - label[:, None]


class WithLabels(Necked):
    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.neck(self.encoder(x)), x[:, 0])


@pytest.mark.parametrize(
    "model",
    [
        WithLabels(classifier=Arcs(WIDTH, 7)),
        Necked(classifier=nn.Linear(2 * WIDTH, 7), between=lambda y: torch.cat([y, y], 1)),
    ],
)
def test_a_link_that_cannot_be_called_with_the_last_ones_output_is_named(model, x, golden):
    cmiei_hooks.attach(model, **CHAIN, **ACTING)
    with pytest.raises(CMIEIError) as error:
        model(x)
    golden(error.value.problem)


def test_a_doubled_batch_is_a_failed_check_of_verify(x):
    report = verify(Necked(between=lambda y: torch.cat([y, y])), x, **CHAIN)
    assert any("[32, 7]" in check.found for check in report.checks if not check.ok)
    assert not report.ok


class MixedPrecision(Necked):
    """A neck under autocast and a classifier outside of it."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = self.neck(self.encoder(x))
        return self.classifier(y.float())


def test_a_neck_under_autocast_and_a_classifier_outside(x):
    model = MixedPrecision(nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 7).bfloat16())
    model.classifier.float()
    cmiei_hooks.attach(model, **CHAIN, **ACTING)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=False):
        model(x)
    assert not chain_hooks(model)


def saving(op: object) -> Callable:
    """Selective checkpointing that keeps the results of one operator."""
    from torch.utils.checkpoint import (  # came with torch 2.4
        CheckpointPolicy,
        create_selective_checkpoint_contexts,
    )

    def policy(_: object, called: object, *__: object, **___: object) -> CheckpointPolicy:
        return CheckpointPolicy.MUST_SAVE if called == op else CheckpointPolicy.PREFER_RECOMPUTE

    return lambda: create_selective_checkpoint_contexts(policy)


class Selective(Necked):
    def forward(self, x: Tensor) -> Tensor:
        context = saving(torch.ops.aten.sub.Tensor)
        return checkpoint(self.inner, x, use_reentrant=False, context_fn=context)

    def inner(self, x: Tensor) -> Tensor:
        return super().forward(x) - x[:, :1]


def gradients(model: nn.Module, x: Tensor, **where: object) -> list[Tensor]:
    """Of one step from one seed, observing if ``where`` is given."""
    if where:
        cmiei_hooks.attach(model, **where, **ACTING | {"p_max": 0.0})
    torch.manual_seed(1)
    returned = model(x)
    (returned[0] if isinstance(returned, tuple) else returned).square().sum().backward()
    return [p.grad for p in model.parameters()]


@pytest.mark.skipif(
    not hasattr(torch.utils.checkpoint, "create_selective_checkpoint_contexts"),
    reason="selective checkpointing came after torch 2.4",
)
@pytest.mark.cell
def test_the_comparison_is_no_part_of_selective_checkpointing(x):
    plain = Selective()
    watched = copy.deepcopy(plain)
    assert all(map(torch.equal, gradients(plain, x), gradients(watched, x, **CHAIN)))


class TupleHead(nn.Linear):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return super().forward(x), x


@pytest.mark.cell
def test_the_output_function_is_no_part_of_a_checkpointed_region(x):
    where = CHAIN | {"output": lambda out: out[0].log_softmax(-1)}
    plain = ThroughCheckpoint(classifier=TupleHead(WIDTH, 7))
    plain.reentrant = False
    watched = copy.deepcopy(plain)
    assert all(map(torch.equal, gradients(plain, x), gradients(watched, x, **where)))


class ThroughCheckpoint(Necked):
    def forward(self, x: Tensor) -> Tensor:
        return checkpoint(super().forward, x.requires_grad_(), use_reentrant=self.reentrant)


@pytest.mark.parametrize("reentrant", [False, True])
def test_the_check_looks_at_the_forward_and_not_at_its_recompute(reentrant, x):
    model = ThroughCheckpoint()
    model.reentrant = reentrant
    handle = cmiei_hooks.attach(model, **CHAIN, **ACTING)
    for _ in range(2):
        model(x).square().sum().backward()
    assert handle.step == 2


NORMS = {
    "weight norm": lambda: weight_norm(nn.Linear(WIDTH, 7)),
    "spectral norm": lambda: spectral_norm(nn.Linear(WIDTH, 7)),
    "pruning": lambda: prune.l1_unstructured(nn.Linear(WIDTH, 7), "weight", 0.5),
}


def influence_after_a_step(norm: str, x: Tensor) -> tuple[Tensor, Tensor]:
    """Influence of the second step, where the weights of the first are out of date; and by hand."""
    torch.manual_seed(0)
    model = Necked(nn.Identity(), NORMS[norm]())
    optimizer = torch.optim.SGD(model.parameters(), 1.0)
    handle = cmiei_hooks.attach(model, **CHAIN, **ACTING | {"p_max": 0.0})
    model(x).square().mean().backward()
    optimizer.step()
    model(x)
    z = model(x).detach()
    features = model.encoder(x).detach()
    without = []
    for start, stop in ((0, 4), (4, 7), (7, 12)):
        changed = features.clone()
        changed[:, start:stop] = 0
        without.append(
            nn.functional.linear(changed, model.classifier.weight, model.classifier.bias)
        )
    expected = cmiei_hooks.functional.counterfactual_influence(z, torch.stack(without))
    return handle.last.influence, expected.detach()


@pytest.mark.filterwarnings("ignore:.*(weight_norm|spectral_norm):FutureWarning")
@pytest.mark.parametrize("norm", ["weight norm", "pruning"])
def test_what_computes_the_weight_of_a_later_link_has_run(norm, x):
    got, expected = influence_after_a_step(norm, x)
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*(weight_norm|spectral_norm):FutureWarning")
@pytest.mark.parametrize("norm", NORMS)
def test_the_chain_check_holds_with_weights_that_were_trained(norm, x):
    model = Necked(nn.Identity(), NORMS[norm]())
    optimizer = torch.optim.SGD(model.parameters(), 1.0)
    model(x).square().mean().backward()
    optimizer.step()
    cmiei_hooks.attach(model, **CHAIN, **ACTING)
    model(x)


@pytest.mark.negative_control
@pytest.mark.filterwarnings("ignore:.*(weight_norm|spectral_norm):FutureWarning")
@pytest.mark.parametrize("norm", NORMS)
def test_without_them_a_stale_weight_would_be_used_and_the_check_sees_it(
    norm, x, monkeypatch, golden
):
    monkeypatch.setattr("cmiei_hooks.counterfactual.rerun.is_weight_hook", lambda hook: False)
    with pytest.raises(CMIEIError) as error:
        test_the_chain_check_holds_with_weights_that_were_trained(norm, x)
    golden(without_numbers(error.value))


def test_other_hooks_on_a_later_link_run_once(x):
    model, calls = Necked(), []
    model.classifier.register_forward_pre_hook(lambda *_: calls.append("before"))
    model.classifier.register_forward_hook(lambda *_: calls.append("after"))
    cmiei_hooks.attach(model, **CHAIN, **ACTING)
    model(x)
    assert calls == ["before", "after"]


CHANGING_HOOKS = {
    "forward hook of the first link": lambda m: m.neck.register_forward_hook(
        lambda module, args, output: output * 2
    ),
    "forward hook of the last link": lambda m: m.classifier.register_forward_hook(
        lambda module, args, output: output * 2
    ),
    "pre-hook of the last link": lambda m: m.classifier.register_forward_pre_hook(
        lambda module, args: (args[0] * 2,)
    ),
}


@pytest.mark.parametrize("register", CHANGING_HOOKS.values(), ids=CHANGING_HOOKS)
def test_a_users_hook_on_a_link_that_changes_something_is_refused(register, x, golden):
    model = Necked()
    register(model)
    cmiei_hooks.attach(model, **CHAIN, **ACTING)
    with pytest.raises(CMIEIError) as error:
        model(x)
    golden(without_numbers(error.value))


@pytest.mark.parametrize("make_copy", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_copy_checks_nothing(make_copy, x):
    model = Necked(between=torch.nn.Identity())
    handle = cmiei_hooks.attach(model, **CHAIN, **ACTING)
    other = make_copy(model)
    other(x)
    assert handle.step == 0
    assert len(chain_hooks(model)) == 1
    model(x)
    assert not chain_hooks(model)


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_compiled_chain_is_measured_and_checked(when, x, golden):
    model = Necked()
    if when == "before":
        handle = cmiei_hooks.attach(model, **CHAIN, **ACTING)
    compiled = torch.compile(model, backend="aot_eager")
    if when == "after":
        handle = cmiei_hooks.attach(compiled, **CHAIN, **ACTING)
    for _ in range(3):
        compiled(x).sum().backward()
    assert handle.step == 3
    assert not chain_hooks(model)
    torch._dynamo.reset()
    wrong = Necked(between=torch.relu)
    cmiei_hooks.attach(wrong, **CHAIN, **ACTING)
    with pytest.raises(CMIEIError) as error:
        torch.compile(wrong, backend="aot_eager")(x)
    golden(without_numbers(error.value))


def test_a_suspended_call_is_not_expected_to_end(x):
    model = Skips()
    handle = cmiei_hooks.attach(model, **CHAIN, **ACTING)
    with handle.suspend():
        model(x)
        model(x)
    assert handle.step == 0
    handle.set_epoch(1)  # nothing is said


@pytest.mark.parametrize(
    ("model", "where"),
    [
        (Necked(), {"head": ["classifier", "neck"]}),
        (Necked(nn.Sequential(nn.Linear(WIDTH, WIDTH))), {"head": ["neck", "neck.0"]}),
        (Necked(), {"head": ["neck", "clasifier"]}),
        (Necked(classifier=nn.LazyLinear(7)), {}),
        (Necked(classifier=nn.Linear(WIDTH, 1)), {}),
        (Necked(), {"output": [0]}),
        (Necked(), {"splits": [4, 4, 5]}),
    ],
)
def test_what_cannot_be_a_chain_is_refused(model, where, golden):
    with pytest.raises(CMIEIError) as error:
        cmiei_hooks.attach(model, **CHAIN | where, log=False)
    golden(error.value)
    assert not any(
        m._forward_pre_hooks or m._forward_hooks
        for m in model.modules()
        if not isinstance(m, nn.LazyLinear)
    )


def test_overlapping_attachments_are_refused(golden):
    model = Necked()
    first = cmiei_hooks.attach(model, **CHAIN, log=False)
    with pytest.raises(CMIEIError) as error:
        cmiei_hooks.attach(model, head="classifier", splits=WIDTHS, log=False)
    golden(error.value)
    first.remove()
    second = cmiei_hooks.attach(model, head="classifier", splits=WIDTHS, log=False)
    with pytest.raises(CMIEIError) as error:
        cmiei_hooks.attach(model, **CHAIN, log=False)
    golden(error.value)
    second.remove()
    assert not chain_hooks(model)


def test_a_handle_that_is_removed_early_takes_the_check_with_it(x):
    model = Necked()
    cmiei_hooks.attach(model, **CHAIN, **ACTING).remove()
    assert not chain_hooks(model)
    assert not model.neck._forward_pre_hooks


def test_a_chain_from_yaml(tmp_path, x, capsys):
    path = tmp_path / "cmiei.yml"
    path.write_text(
        f"MODEL: {{C_MIEI: {{ENABLED: True, HEAD: [neck, classifier], SPLITS: {WIDTHS}, K: 1}}}}"
    )
    model = Necked()
    handle = cmiei_hooks.attach(model, config=path)
    handle.set_epoch(0)
    model(x)
    assert "head neck -> classifier | splits r:4 n:3 t:5" in capsys.readouterr().out
    assert handle.config.to_dict()["HEAD"] == ["neck", "classifier"]
    state = handle.state_dict()
    again = cmiei_hooks.attach(Necked(), config=path, log=False)
    again.load_state_dict(state)
    assert again.step == 1
