"""Branches: what is refused, and the ways to train in which they are watched."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from heads import BATCH, BRANCHES, CLASSES, D, Decisions, added, averaged
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from cmiei_hooks import CMIEIWarning, Config, attach, audit, detach, verify
from cmiei_hooks.errors import CMIEIError, ConfigError, HeadError, InputError, SplitsError

WHERE: dict[str, Any] = {"head": BRANCHES, "combine": "sum"}
QUIET = {"k": 1, "warmup_epochs": 0, "p_max": 0.0, "log": False}
ALWAYS = {"k": 1, "warmup_epochs": 0, "abs_thr": 0.0, "rel_thr": 0.0, "p_max": 0.5, "log": False}


def batch() -> Tensor:
    return torch.randn(BATCH, 3, 6)


class Heads(nn.Module):
    """Two heads over features, and what becomes of their logits."""

    def __init__(self, rgb: nn.Module | None = None) -> None:
        super().__init__()
        self.encoder = nn.Linear(18, 2 * D)
        self.clf_rgb, self.clf_depth = rgb or nn.Linear(D, CLASSES), nn.Linear(D, CLASSES)

    def features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        both = self.encoder(x.flatten(1))
        return both[:, :D], both[:, D:]

    def forward(self, x: Tensor) -> Any:
        rgb, depth = self.features(x)
        return self.clf_rgb(rgb) + self.clf_depth(depth)


class Checkpointed(Heads):
    """What checkpointing computes again is the whole of it, or the branches."""

    def __init__(self, what: str, reentrant: bool) -> None:
        super().__init__(nn.Sequential(nn.Dropout(0.4), nn.Linear(D, CLASSES)))
        self.what, self.reentrant = what, reentrant

    def forward(self, x: Tensor) -> Any:
        if self.what == "branches":
            rgb, depth = self.features(x)
            z = checkpoint(self.clf_rgb, rgb, use_reentrant=self.reentrant)
            return z + checkpoint(self.clf_depth, depth, use_reentrant=self.reentrant)
        return super().forward(x)


REFUSED_AT_ATTACH: dict[str, tuple[dict[str, Any], type[CMIEIError]]] = {
    "no combine": ({"head": BRANCHES}, HeadError),
    "another word": (WHERE | {"combine": "max"}, HeadError),
    "combine without branches": (
        {"head": "clf_rgb", "splits": [2, 2], "combine": "sum"},
        HeadError,
    ),
    "splits too": (WHERE | {"splits": [D, D]}, SplitsError),
    "fill too": (WHERE | {"fill": {"rgb": 0}}, SplitsError),
    "one branch": ({"head": {"rgb": "clf_rgb"}, "combine": "sum"}, ConfigError),
    "no such module": ({"head": BRANCHES | {"rgb": "clf_rbg"}, "combine": "sum"}, HeadError),
    "one in the other": (
        {"head": {"rgb": "clf_rgb", "depth": "clf_rgb.0"}, "combine": "sum"},
        SplitsError,
    ),
    "in place": (WHERE | {"inplace": True}, ConfigError),
    "outputs for three": (WHERE | {"output": [0, 1, 2]}, CMIEIError),
}


@pytest.mark.parametrize("why", REFUSED_AT_ATTACH)
def test_what_is_known_at_attach_is_refused_there(why, golden):
    where, kind = REFUSED_AT_ATTACH[why]
    model = Heads(nn.Sequential(nn.Linear(D, CLASSES)))
    with pytest.raises(kind) as caught:
        attach(model, **where, log=False)
    golden(caught.value)
    assert not model._forward_hooks


class Squared(Heads):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).square()


class LossAlone(Heads):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).square().mean()


class Twice(Heads):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + 0 * self.clf_rgb(self.features(x)[0])


class Alone(Heads):
    def forward(self, x: Tensor) -> Tensor:
        return self.clf_rgb(self.features(x)[0])


def two_arguments(a: Tensor, b: Tensor) -> Tensor:
    return a + b


REFUSED_IN_THE_FIRST_STEP: dict[str, tuple[Callable[[], nn.Module], dict[str, Any]]] = {
    "a mean": (Heads, WHERE | {"combine": "mean"}),
    "a function follows": (Squared, WHERE),
    "a loss alone": (LossAlone, WHERE),
    "called twice": (Twice, WHERE),
    "never called": (Alone, WHERE),
    "combine takes two": (Heads, WHERE | {"combine": two_arguments}),
    "combine returns a list": (Heads, WHERE | {"combine": lambda z: z}),
    "named once too often": (Heads, {"head": {"rgb": "clf_rgb", "n": "clf_rgb"}, "combine": "sum"}),
    "writes into its input": (
        lambda: Heads(nn.Sequential(nn.ELU(inplace=True), nn.Linear(D, CLASSES))),
        WHERE,
    ),
    "returns a pair": (lambda: Heads(Pair()), WHERE),
}


class Pair(nn.Linear):
    def __init__(self) -> None:
        super().__init__(D, CLASSES)

    def forward(self, x: Tensor) -> Any:
        return Sum((super().forward(x), x))


class Sum(tuple):
    """A pair that can be added to the logits of another branch."""

    __slots__ = ()

    def __add__(self, other: Any) -> Any:
        return self[0] + other


@pytest.mark.parametrize("why", REFUSED_IN_THE_FIRST_STEP)
def test_what_a_call_shows_is_refused_in_the_first_step(why, golden):
    make, where = REFUSED_IN_THE_FIRST_STEP[why]
    torch.manual_seed(0)
    model, x = make(), torch.ones(BATCH, 3, 6)
    with attach(model, **where, **ALWAYS), pytest.raises(CMIEIError) as caught:
        model(x)
    assert [line.split(":")[0].strip() for line in str(caught.value).splitlines()[1:]] == [
        "got",
        "expected",
        "remedy",
    ]
    golden(f"{caught.value.problem}\n{caught.value.remedy}")
    model(x)  # nothing is left


def test_the_refusal_stays():
    model = Heads()
    with attach(model, **WHERE | {"combine": "mean"}, **QUIET):
        for _ in range(2):
            with pytest.raises(HeadError, match="does not give the logits"):
                model(batch())


@pytest.mark.negative_control
def test_without_the_comparison_the_influence_would_be_that_of_another_model(monkeypatch):
    from cmiei_hooks.counterfactual.combined_logits import Found

    seen = "cmiei_hooks.counterfactual.branch_calls.find_combined"
    monkeypatch.setattr(seen, lambda returned, combined: Found(((),), True, ""))
    model, x = Heads(), batch()
    with attach(model, **WHERE | {"combine": "mean"}, **QUIET) as wrong:
        model(x)
    with attach(model, **WHERE, **QUIET) as right:
        model(x)
    assert not torch.allclose(wrong.last.influence, right.last.influence, rtol=0.1)


def test_the_remedy_for_a_mean_that_was_called_a_sum_works():
    model = Decisions(averaged)
    with attach(model, **WHERE, **QUIET), pytest.raises(HeadError) as caught:
        model(batch())
    assert caught.value.remedy == "pass combine='mean', which gives them"
    with attach(model, **WHERE | {"combine": "mean"}, **QUIET):
        model(batch())


def test_zero_logits_in_the_first_steps_decide_nothing():
    model = Heads()
    for parameter in (*model.clf_rgb.parameters(), *model.clf_depth.parameters()):
        nn.init.zeros_(parameter)
    with attach(model, **WHERE | {"combine": "mean"}, **QUIET) as handle:
        model(batch())  # the mean of zeros is their sum
        nn.init.ones_(model.clf_rgb.bias)
        with pytest.raises(HeadError):
            model(batch())
        assert handle.step == 1


class Parts(nn.Module):
    """The module that combines is inside of the one that is attached to, and alone is called."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Heads()


def test_the_training_loop_need_not_call_the_module_that_is_attached_to():
    outer = Parts()
    names = {name: f"model.{path}" for name, path in BRANCHES.items()}
    with attach(outer, head=names, combine="sum", **ALWAYS) as handle:
        outer.model(batch())
        assert handle.step == 1
        assert (handle.last.substituted >= 0).sum() == BATCH // 2


class Answers(Heads):
    """A dict with the logits twice, and others beside them."""

    def forward(self, x: Tensor) -> Any:
        rgb, depth = self.features(x)
        a, b = self.clf_rgb(rgb), self.clf_depth(depth)
        return {"rgb": a, "logits": a + b, "again": [a + b]}


def test_every_place_of_the_logits_is_replaced_and_nothing_else():
    model, x = Answers(), batch()
    plain = model(x)
    with attach(model, **WHERE, **ALWAYS) as handle:
        found = model(x)
        kept = handle.last.substituted < 0
    assert torch.equal(found["rgb"], plain["rgb"])
    assert torch.equal(found["logits"], found["again"][0])
    assert torch.equal(found["logits"][kept], plain["logits"][kept])
    assert not torch.isclose(found["logits"][~kept], plain["logits"][~kept]).all(1).any()


def test_the_gradient_flows_to_the_batch_mean_and_to_the_branch_that_ran_again():
    """Against the same sums written by hand, in float64."""
    model = Heads().double()
    twin, x = copy.deepcopy(model), batch().double()
    with attach(model, **WHERE, **ALWAYS, sigma=0.0) as handle:
        model(x).square().sum().backward()
        chosen = handle.last.substituted[:, None]
    rgb, depth = twin.features(x)
    rgb = torch.where(chosen == 0, rgb.mean(0), rgb)
    depth = torch.where(chosen == 1, depth.mean(0), depth)
    (twin.clf_rgb(rgb) + twin.clf_depth(depth)).square().sum().backward()
    for ours, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


def gradients(model: nn.Module, x: Tensor, call: Callable[[Tensor], Tensor]) -> list[Tensor]:
    torch.manual_seed(3)
    model.zero_grad()
    call(x).square().sum().backward()
    return [parameter.grad.clone() for parameter in model.parameters()]


@pytest.mark.parametrize("what", ["branches", "model"])
def test_under_checkpointing_the_gradients_are_those_without_it(what):
    torch.manual_seed(0)
    model = Checkpointed(what, reentrant=False)
    plain, x = Heads(copy.deepcopy(model.clf_rgb)), batch().requires_grad_()
    plain.load_state_dict(model.state_dict())

    def called(inputs: Tensor) -> Tensor:
        if what == "model":
            return checkpoint(model, inputs, use_reentrant=False)
        return model(inputs)

    found = []
    for one, call in ((model, called), (plain, plain)):
        with attach(one, **WHERE, **ALWAYS, seed=1):
            found.append(gradients(one, x, call))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("what", ["branches", "model"])
def test_reentrant_checkpointing_is_measured_and_not_substituted(what, golden):
    model, x = Checkpointed(what, reentrant=True), batch().requires_grad_()

    def call() -> Tensor:
        if what == "model":
            return checkpoint(model, x, use_reentrant=True)
        return model(x)

    with attach(model, **WHERE, **ALWAYS | {"p_max": 0.0}) as handle:
        call().sum().backward()
        assert handle.step == 1
    with attach(model, **WHERE, **ALWAYS), pytest.raises(InputError) as caught:
        call()
    golden(caught.value)


def test_a_batch_may_lack_a_modality():
    class MayLack(Heads):
        def forward(self, x: Tensor, depth_too: bool = True) -> Tensor:
            rgb, depth = self.features(x)
            return self.clf_rgb(rgb) + (self.clf_depth(depth) if depth_too else 0)

    model = MayLack()
    with attach(model, **WHERE, **ALWAYS) as handle:
        model(batch())
        with pytest.warns(CMIEIWarning, match="without the modality 'depth'"):
            model(batch(), depth_too=False)
        assert (handle.step, handle.skipped) == (2, 1)
        model(batch())
        assert (handle.step, handle.skipped) == (3, 1)


def test_eval_suspension_no_grad_same_step_and_the_state():
    model, x = Decisions(added), batch()
    with attach(model, **WHERE, **ALWAYS, seed=5) as handle:
        model.eval()(x)
        model.train()
        with handle.suspend():
            model(x)
        with torch.no_grad():
            model(x)
        assert handle.step == 0
        with handle.same_step():
            model(x)
            first = handle.last
            model(x)
            assert handle.last is first
        assert handle.step == 1
        state = handle.state_dict()
    assert state["splits"] == [["clf_rgb"], ["clf_depth"]]
    with attach(model, **WHERE, **ALWAYS, seed=5) as resumed:
        resumed.load_state_dict(state)
        assert resumed.step == 1
        model(x)
        assert resumed.step == 2
    gated = attach(model, head=BRANCHES, combine="mean", **ALWAYS)
    with gated, pytest.raises(CMIEIError, match="another attachment"):
        gated.load_state_dict(state)


def test_an_exception_in_the_forward_leaves_nothing_behind():
    class Fails(Heads):
        fails = True

        def forward(self, x: Tensor) -> Tensor:
            found = super().forward(x)
            if self.fails:
                raise RuntimeError("out of memory")
            return found

    model = Fails()
    with attach(model, **WHERE, **ALWAYS) as handle:
        with pytest.raises(RuntimeError, match="out of memory"):
            model(batch())
        assert not handle._step.branches._given
        model.fails = False
        model(batch())
        assert handle.step == 1


def test_a_call_of_a_branch_alone_is_none_of_ours():
    model = Heads()
    with attach(model, **WHERE, **ALWAYS) as handle:
        model(batch())
        model.clf_rgb(torch.randn(3, D))
        model(batch())
        assert handle.step == 2


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_do_nothing_and_can_be_stripped(copied):
    model = Heads()
    with attach(model, **WHERE, **ALWAYS) as handle:
        twin = copied(model)
        twin(batch())
        assert handle.step == 0
        detach(twin)
    for module in twin.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks


def test_detach_ends_an_attachment():
    model = Heads()
    handle = attach(model, **WHERE, **ALWAYS)
    detach(model)
    assert "removed" in repr(handle)
    handle.remove()
    assert not model._forward_hooks


def test_a_second_attachment_to_a_branch_is_refused():
    model = Heads()
    with attach(model, **WHERE, log=False):
        for other in (WHERE, {"head": "clf_depth", "splits": [2, 2]}):
            with pytest.raises(HeadError, match="already attached to the head 'clf_"):
                attach(model, **other, log=False)


def test_verify_and_audit_leave_an_attachment_alone():
    model, x = Heads(), batch()
    with attach(model, **WHERE, **ALWAYS) as handle:
        verify(model, x, **WHERE, strict=True)
        audit(model, [x], **WHERE)
        assert handle.step == 0
        model(x)
        assert handle.step == 1


def test_verify_says_which_combine_gives_the_logits():
    report = verify(Decisions(averaged), batch(), **WHERE)
    (failed,) = [check for check in report.checks if not check.ok]
    assert "pass combine='mean'" in failed.found


def test_saved_features_are_the_logits_of_the_branches(tmp_path):
    model, file = Heads(), tmp_path / "features.pt"
    whole = audit(model, [batch()], **WHERE, save_features=file)
    alone = audit(model, None, **WHERE, features=file)
    for name in BRANCHES:
        assert alone.influence[name] == whole.influence[name]


def test_the_configuration_names_branches(tmp_path):
    file = tmp_path / "c.yml"
    file.write_text(
        "MODEL:\n  C_MIEI:\n    ENABLED: True\n    COMBINE: sum\n"
        "    HEAD: {rgb: clf_rgb, depth: clf_depth}\n"
    )
    with attach(Heads(), config=file, log=False) as handle:
        assert handle.names == ("rgb", "depth")
    assert Config.load(Config.load(file).to_dict()) == Config.load(file)
    disabled = attach(Heads(), head=BRANCHES, combine="sum", config=Config(), log=False)
    assert disabled.names == ("rgb", "depth")


def test_modules_of_the_model_may_be_named_by_themselves():
    model = Heads()
    head = {"rgb": model.clf_rgb, "depth": model.clf_depth}
    with attach(model, head=head, combine="sum", **ALWAYS) as handle:
        model(batch())
        assert handle.config.head == BRANCHES


@pytest.mark.slow
@pytest.mark.skipif(torch.__version__ < "2.4", reason="compiled code runs only some hooks")
def test_compiled(monkeypatch):
    model, x = Decisions(added), batch()
    compiled = torch.compile(model, backend="aot_eager")
    with attach(compiled, **WHERE, **ALWAYS) as handle:
        compiled(x)[0].sum().backward()
        assert handle.step == 1
        assert (handle.last.substituted >= 0).sum() == BATCH // 2


class Gate(nn.Module):
    """A gate with a buffer that its forward moves, as a running mean does."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, logits: list[Tensor]) -> Tensor:
        self.seen += 1
        return logits[0] + 0.5 * logits[1]


class Gated(Heads):
    def __init__(self) -> None:
        super().__init__()
        self.gate = Gate()

    def forward(self, x: Tensor) -> Tensor:
        rgb, depth = self.features(x)
        return self.gate([self.clf_rgb(rgb), self.clf_depth(depth)])


def test_a_module_may_combine_and_is_run_again_without_a_trace():
    model = Gated()
    with attach(model, head=BRANCHES, combine=model.gate, **ALWAYS) as handle:
        model(batch()).sum().backward()
        assert handle.last is not None
    assert model.gate.seen == 1


def test_the_shared_classifier_is_called_in_the_order_of_the_names():
    model, x = Decisions(added, shared=True), batch()
    report = audit(model, [x], head={"rgb": "clf_rgb", "depth": "clf_rgb"}, combine="sum")
    swapped = audit(model, [x], head={"depth": "clf_rgb", "rgb": "clf_rgb"}, combine="sum")
    assert report.influence["rgb"].mean == swapped.influence["depth"].mean


class TwoInputs(nn.Module):
    """A branch for each input, or both for both."""

    def __init__(self, mixed: bool = False) -> None:
        super().__init__()
        self.mixed = mixed
        self.clf_rgb, self.clf_depth = nn.Linear(D, CLASSES), nn.Linear(D, CLASSES)

    def forward(self, rgb: Tensor, depth: Tensor) -> Tensor:
        both = rgb * depth.sigmoid()
        return self.clf_rgb(both if self.mixed else rgb) + self.clf_depth(depth)


@pytest.mark.parametrize(
    ("mixed", "head", "said"),
    [
        (False, BRANCHES, "rgb: rgb, depth: depth"),
        (False, {"depth": "clf_rgb", "rgb": "clf_depth"}, "the names are in another order"),
        (True, BRANCHES, "the modalities are mixed before the branches: rgb receives"),
    ],
)
def test_verify_sees_which_input_reaches_which_branch(mixed, head, said):
    x = torch.randn(BATCH, D), torch.randn(BATCH, D)
    report = verify(TwoInputs(mixed), *x, head=head, combine="sum")
    (check,) = [check for check in report.checks if check.name == "each modality is one input"]
    assert said in check.found
    assert check.ok == (said == "rgb: rgb, depth: depth")


def test_branches_that_no_forward_combines_are_warned_about():
    model = Heads()
    with attach(model, **WHERE, **ALWAYS) as handle:
        handle.set_epoch(0)
        rgb, depth = model.features(batch())
        (model.clf_rgb(rgb) + model.clf_depth(depth)).sum().backward()
        with pytest.warns(CMIEIWarning, match="must be combined in a forward"):
            handle.set_epoch(1)
        assert handle.step == 0


def test_a_branch_that_is_sharded_by_itself_is_measured_and_not_substituted(golden):
    model = Heads()
    model.clf_depth.weight.to_local = None  # as a DTensor has it
    with attach(model, **WHERE, **QUIET) as handle:
        model(batch())
        assert handle.step == 1
    with attach(model, **WHERE, **ALWAYS), pytest.raises(InputError) as caught:
        model(batch())
    golden(caught.value)


def test_a_frozen_branch_may_be_in_eval_mode():
    model = Decisions(added)
    model.clf_depth.requires_grad_(False).eval()
    with attach(model, **WHERE, **ALWAYS) as handle:
        model(batch())[0].sum().backward()
        assert handle.step == 1
        assert (handle.last.influence > 0).all()
