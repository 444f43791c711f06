"""The life of an attachment: what is refused, what is left behind, what can be saved."""

from __future__ import annotations

import copy
import io
import math
import pickle
import warnings

import pytest
import torch
from helpers import WIDTHS, Fused, record_head_input, trace
from torch import Tensor, nn

import cmiei_hooks
from cmiei_hooks import CMIEIError, Config, Handle
from cmiei_hooks.errors import StateError

EAGER = {"k": 1, "warmup_epochs": 0, "abs_thr": 0.0, "rel_thr": 0.0, "log": False}


def attach(model: nn.Module, **settings) -> Handle:
    return cmiei_hooks.attach(
        model, **({"head": "classifier", "splits": WIDTHS} | EAGER | settings)
    )


def test_remove_leaves_no_trace_and_may_be_called_twice(model, x):
    model.classifier.register_forward_pre_hook(lambda *_: None)
    before = trace(model)
    handle = attach(model)
    assert trace(model) != before  # the hook is seen by this test
    model(x)
    metrics = handle.metrics()
    handle.remove()
    handle.remove()
    assert trace(model) == before
    assert handle.metrics() == metrics
    model(x)
    assert handle.step == 1


def test_as_a_context_manager_it_is_removed_also_when_the_body_raises(model, x):
    before = trace(model)
    with pytest.raises(RuntimeError, match="stop"), attach(model) as handle:
        model(x)
        raise RuntimeError("stop")
    assert trace(model) == before
    assert handle.step == 1


class Raises(nn.Module):
    """Raises in forward when it is told to."""

    def __init__(self, armed: bool) -> None:
        super().__init__()
        self.armed = armed

    def forward(self, x: Tensor) -> Tensor:
        if self.armed:
            raise RuntimeError("stop")
        return x


def refuse(*_: object) -> None:
    raise RuntimeError("stop")


def interrupt() -> None:
    raise KeyboardInterrupt("stop")


@pytest.mark.parametrize("where", ["backbone", "head", "after the hook", "logger", "backward"])
def test_no_trace_is_left_when_something_raises_in_between(where, x):
    """And hooks that somebody else added meanwhile stay, in their order."""
    model = Fused(nn.Sequential(Raises(where == "head"), nn.BatchNorm1d(12), nn.Linear(12, 7)))
    before = trace(model)
    handle = attach(
        model, log=[lambda r: interrupt() if where == "logger" and r.event == "figures" else None]
    )
    others = [model.classifier.register_forward_pre_hook(lambda *_: None)]
    if where == "backbone":
        others.append(model.encoders[1].register_forward_hook(refuse))
    if where == "after the hook":
        others.append(model.classifier.register_forward_pre_hook(refuse))
    buffers = dict(model.named_buffers())
    values = {name: buffer.clone() for name, buffer in buffers.items()}
    with pytest.raises((RuntimeError, KeyboardInterrupt), match="stop"):
        out = model(x)
        out.register_hook(refuse)
        out.sum().backward()
    if where != "backward":  # the real forward of the head never came to its BatchNorm
        assert all(torch.equal(b, values[name]) for name, b in model.named_buffers())
    assert all(b is buffers[name] for name, b in model.named_buffers())
    handle.remove()
    assert [hook.id in model.classifier._forward_pre_hooks for hook in others[:1]] == [True]
    for other in others:
        other.remove()
    assert trace(model) == before


def test_a_second_attachment_to_the_same_head_is_refused_until_the_first_is_removed(model, golden):
    first = attach(model)
    with pytest.raises(CMIEIError) as error:
        attach(model)
    golden(error.value)
    first.remove()
    attach(model)


def test_two_heads_of_one_model_draw_different_noise(model, x):
    model.auxiliary = nn.Linear(12, 7)
    seen = []
    for head in ("classifier", "auxiliary"):
        attach(model, head=head, seed=1, sample_level=False)
        module = getattr(model, head)
        module.load_state_dict(model.classifier.state_dict())
        module.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
        module(model.features(x))
    assert not torch.equal(*seen)


def test_the_defaults_of_attach():
    handle = cmiei_hooks.attach(Fused(), "classifier", WIDTHS, log=False)
    expected = Config(enabled=True, head="classifier", splits=WIDTHS)
    assert handle.config == expected
    assert handle.names == ("r", "n", "t")
    assert (handle.step, handle.epoch, handle.last) == (0, 0, None)
    assert all(math.isnan(value) for value in handle.metrics().values())


def test_settings_win_over_the_configuration_and_arguments_over_both():
    config = {"ENABLED": True, "K": 7, "SIGMA": 0.5, "HEAD": "nowhere", "NAMES": ["a", "b", "c"]}
    handle = cmiei_hooks.attach(
        Fused(), head="classifier", splits=WIDTHS, config=config, log=False, k=2
    )
    assert (handle.config.k, handle.config.sigma) == (2, 0.5)
    assert handle.names == ("a", "b", "c")


def test_everything_may_come_from_the_configuration(tmp_path, x):
    path = tmp_path / "c.yml"
    path.write_text("MODEL:\n  C_MIEI: {ENABLED: True, HEAD: classifier, SPLITS: [4, 3, 5]}\n")
    model = Fused()
    handle = cmiei_hooks.attach(model, config=path, log=False)
    handle.set_epoch(0)
    model(x)
    assert handle.step == 1


@pytest.mark.parametrize("config", [Config(), {"K": 1}, {"ENABLED": False}])
def test_a_configuration_that_is_not_enabled_registers_nothing_and_says_so(config, x):
    model, records = Fused(), []
    before = trace(model)
    handle = cmiei_hooks.attach(
        model, head="no such head", splits=WIDTHS, config=config, log=records.append
    )
    assert trace(model) == before
    assert [record.event for record in records] == ["disabled"]
    assert "disabled" in records[0].text()
    handle.set_epoch(3)
    with handle.suspend():
        model(x)
    assert handle.step == 0
    assert list(handle.metrics()) == [
        "C_MIEI_Ratio",
        "CI_r",
        "CI_n",
        "CI_t",
        "Hist_r",
        "Hist_n",
        "Hist_t",
    ]
    handle.remove()


def test_a_disabled_training_is_saved_and_resumed_as_any_other(model, x, golden):
    """So a switch in the configuration is enough; the code that saves needs none."""
    disabled = attach(model, enabled=False)
    assert disabled.state_dict() == {}
    enabled = attach(model)
    enabled.set_epoch(1)
    model(x)
    state = enabled.state_dict()
    for saved in (disabled.state_dict(), state):
        disabled.load_state_dict(saved)
    assert (disabled.step, disabled.epoch) == (0, 0)
    with pytest.raises(StateError) as error:
        enabled.load_state_dict(disabled.state_dict())
    golden(error.value)
    assert enabled.step == 1


@pytest.mark.parametrize(
    "duplicate",
    [copy.deepcopy, lambda handle: pickle.loads(pickle.dumps(handle))],
    ids=["deepcopy", "pickle"],
)
def test_the_state_of_a_copy_is_refused(model, duplicate, golden):
    """It would be empty, and the step and epoch of the attachment silently lost."""
    copied = duplicate(attach(model))
    with pytest.raises(StateError) as error:
        copied.state_dict()
    golden(error.value)
    with pytest.raises(StateError, match="no state to be loaded"):
        copied.load_state_dict({})


@pytest.mark.parametrize(
    "arguments",
    [
        {"head": "clasifier"},
        {"head": None},
        {"splits": None},
        {"splits": [4, 3, 4]},
        {"splits": [12]},
        {"splits": [12, 0]},
        {"splits": [13, -1]},
        {"names": ["r", "n"]},
        {"names": ["r", "n", "r"]},
        {"dim": 0},
        {"k": 0},
        {"end_epoch": 5},
        {"output": 1.5},
        {"head": "encoders.0"},
        {"head": "encoders"},
        {"sigmma": 0.1},
        {"config": {"SIGMMA": 1}},
        {"model": "a string"},
    ],
    ids=str,
)
def test_what_can_be_known_at_attach_is_refused_there(arguments, golden):
    model = Fused()
    before = trace(model)
    with pytest.raises(CMIEIError) as error:
        cmiei_hooks.attach(
            **({"model": model, "head": "classifier", "splits": WIDTHS, "log": False} | arguments)
        )
    golden(error.value)
    assert trace(model) == before


def test_an_error_says_problem_got_expected_and_remedy():
    with pytest.raises(CMIEIError) as caught:
        cmiei_hooks.attach(Fused(), head="classifier", splits=[4, 4, 5])
    error = caught.value
    assert str(error).splitlines() == [
        error.problem,
        f"  got:      {error.got}",
        f"  expected: {error.expected}",
        f"  remedy:   {error.remedy}",
    ]
    assert isinstance(error, ValueError)


def train(model: Fused, handle: Handle, steps: range, optimizer: torch.optim.Optimizer) -> None:
    for step in steps:
        handle.set_epoch(step // 4)
        x = torch.randn(16, 6, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()


def fresh(**settings) -> tuple[Fused, Handle, torch.optim.Optimizer, list[Tensor]]:
    torch.manual_seed(3)
    model = Fused()
    handle = attach(model, k=2, warmup_epochs=1, **settings)
    return model, handle, torch.optim.SGD(model.parameters(), 0.1), record_head_input(model)


# In warm-up, at the end of it, between two estimation steps, on one, and before the last step.
@pytest.mark.parametrize("interrupted", [1, 4, 7, 8, 13])
def test_an_interrupted_run_equals_an_uninterrupted_one_to_the_bit(interrupted):
    model, handle, optimizer, inputs = fresh()
    train(model, handle, range(14), optimizer)

    first, first_handle, first_optimizer, first_inputs = fresh()
    train(first, first_handle, range(interrupted), first_optimizer)
    file = io.BytesIO()
    torch.save({"handle": first_handle.state_dict(), "model": first.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    torch.manual_seed(99)  # another process has another initial seed
    second = Fused()
    second.load_state_dict(saved["model"])
    second_handle = attach(second, k=2, warmup_epochs=1)
    second_handle.load_state_dict(saved["handle"])
    second_inputs = record_head_input(second)
    train(second, second_handle, range(interrupted, 14), torch.optim.SGD(second.parameters(), 0.1))

    assert all(map(torch.equal, inputs, first_inputs + second_inputs))
    assert all(map(torch.equal, model.parameters(), second.parameters()))
    assert second_handle.metrics() == handle.metrics()
    assert (second_handle.step, second_handle.epoch) == (handle.step, handle.epoch)


@pytest.mark.parametrize(
    "change",
    [
        {"names": ["a", "b", "c"]},
        {"splits": [5, 3, 4]},
        {"head": "other"},
        {"version": 0},
    ],
    ids=str,
)
def test_a_state_of_another_attachment_is_refused_with_the_difference(model, change, golden):
    handle = attach(model)
    state = handle.state_dict()
    with pytest.raises(CMIEIError) as error:
        handle.load_state_dict(state | change)
    golden(error.value)


@pytest.mark.parametrize(
    "change",
    [
        {"step": "3"},
        {"step": -3},
        {"step": None},
        {"sums": [1.0]},
        {"sums": torch.zeros(3)},
        {"sums": torch.full((9,), math.nan, dtype=torch.float64)},
        {"totals": None},
    ],
    ids=str,
)
def test_a_state_that_is_none_changes_nothing(model, x, change, golden):
    handle = attach(model)
    model(x)
    before = handle.metrics()
    with pytest.raises(CMIEIError) as error:
        handle.load_state_dict(handle.state_dict() | {"epoch": 9} | change)
    golden(error.value)
    for broken in (None, [], {k: v for k, v in handle.state_dict().items() if k != "step"}):
        with pytest.raises(CMIEIError) as error:
            handle.load_state_dict(broken)
        golden(error.value)
    assert (handle.step, handle.epoch, handle.metrics()) == (1, 0, before)


def test_a_state_drawn_with_another_seed_than_the_given_one_is_refused(model, golden):
    state = attach(model, seed=1).state_dict()
    other = attach(Fused(), seed=2)
    with pytest.raises(CMIEIError) as error:
        other.load_state_dict(state)
    golden(error.value)


def test_a_head_inside_or_around_an_attached_head_is_refused(x, golden):
    model = Fused(nn.Sequential(nn.Flatten(), nn.Linear(12, 7)))
    outer = attach(model)
    with pytest.raises(CMIEIError) as error:
        attach(model, head="classifier.1")
    golden(error.value)
    outer.remove()
    attach(model, head="classifier.1")
    with pytest.raises(CMIEIError) as error:
        attach(model)
    golden(error.value)


def test_a_logger_that_is_interrupted_at_the_start_leaves_nothing_behind(model):
    def interrupted(record):
        raise KeyboardInterrupt

    before = trace(model)
    with pytest.raises(KeyboardInterrupt):
        attach(model, log=interrupted)
    assert trace(model) == before


def test_a_head_that_is_a_normalisation_is_refused(golden):
    with pytest.raises(CMIEIError) as error:
        attach(Fused(nn.BatchNorm1d(12)))
    golden(error.value)


def test_a_head_with_one_logit_is_refused(golden):
    with pytest.raises(CMIEIError) as error:
        attach(Fused(nn.Linear(12, 1)))
    golden(error.value)


def test_every_refusal_has_all_four_parts():
    """Those that the other tests provoke, and a few more: nothing is left to guess."""
    model = Fused()
    calls = [
        {"head": "x"}, {"head": None}, {"splits": None}, {"splits": [12]}, {"splits": [4, 4]},
        {"names": ["r", "r", "t"]}, {"names": ["r"]}, {"dim": 0}, {"k": 0}, {"sigma": -1},
        {"drop": "x"}, {"measure": "x"}, {"p_max": 2}, {"nonsense": 1}, {"log": "x"},
        {"output": 1.5}, {"model": 3}, {"end_epoch": 1}, {"head": "encoders"},
        {"config": 3}, {"config": "none.yml"}, {"config": {"MODEL": 1}}, {"config": {"X": 1}},
    ]  # fmt: skip
    for call in calls:
        arguments = {"model": model, "head": "classifier", "splits": WIDTHS, "log": False} | call
        with pytest.raises(CMIEIError) as caught:
            cmiei_hooks.attach(**arguments)
        error = caught.value
        assert error.problem, call
        assert error.got, call
        assert error.expected, call
        assert error.remedy, call


def test_the_state_has_the_log_and_the_samples_left_out(model, x, golden):
    handle = attach(model, log=[lambda record: None], log_period=7)
    handle.set_epoch(0)
    x[0] = math.nan
    with pytest.warns(cmiei_hooks.CMIEIWarning) as seen:
        model(x)
    golden(seen[0].message)
    state = handle.state_dict()
    other = attach(Fused())
    other.load_state_dict(state)
    tensors = {"sums": 0, "totals": 0, "usual_influence": 0}
    assert other.state_dict() | tensors == state | tensors
    assert (state["next_log_step"], state["epochs"], other.non_finite) == (7, 1, 1)


def test_loading_a_state_does_not_tie_the_handles_together(model, x):
    handle = attach(model)
    model(x)
    state = handle.state_dict()
    model(x)
    assert state["step"] == 1
    other = Fused()
    second = attach(other)
    second.load_state_dict(state)
    other(x)
    assert state["sums"][:2].tolist() == [1, 16]


def test_nothing_is_warned_about_in_a_normal_run(model, x):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with attach(model, warmup_epochs=1) as handle:
            for epoch in range(2):
                handle.set_epoch(epoch)
                model(x)


def test_the_model_may_be_compiled_after_attach(model, x):
    handle = attach(model)
    compiled = torch.compile(model, backend="eager")
    inputs = record_head_input(model)
    for step in range(3):
        compiled(x)
        assert handle.step == step + 1
        assert not torch.equal(inputs[-1], model.features(x))
