"""What really reaches the head, what is measured, and when."""

from __future__ import annotations

import copy
import io
import math
import pickle
import warnings
from functools import partial

import pytest
import torch
from helpers import WIDTHS, Fused, record_head_input
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import cmiei_hooks
from cmiei_hooks import CMIEIError, CMIEIWarning
from cmiei_hooks.functional import counterfactual_influence, select

ALWAYS = {"k": 1, "warmup_epochs": 0, "abs_thr": 0.0, "rel_thr": 0.0, "log": False}
"""Every sample is triggered in every step."""


def attach(model: Fused, **settings) -> cmiei_hooks.Handle:
    options = {"head": "classifier", "splits": model.widths} | ALWAYS | settings
    return cmiei_hooks.attach(model, **options)


def columns(modality: int) -> slice:
    start = sum(WIDTHS[:modality])
    return slice(start, start + WIDTHS[modality])


@pytest.mark.parametrize("p_max", [0.3, 1.0])
def test_only_the_chosen_modality_of_the_chosen_rows_changes(p_max):
    model, x = Fused(), torch.randn(64, 6)
    handle = attach(model, p_max=p_max, sigma=0.1)
    inputs = record_head_input(model)
    features = model.features(x).detach()
    model(x)
    substituted = handle.last.substituted
    assert (substituted >= 0).sum() == math.floor(p_max * 64)
    assert torch.equal(
        substituted[substituted >= 0], handle.last.influence.argmax(1)[substituted >= 0]
    )
    seen: list[Tensor] = []
    for i, chosen in enumerate(substituted.tolist()):
        for m in range(3):
            new, old = inputs[0][i, columns(m)], features[i, columns(m)]
            if m == chosen:
                noise = new - features[:, columns(m)].mean(0)
                assert (noise != 0).all()
                seen.append(noise)
            else:
                assert torch.equal(new, old)
    noise = torch.cat(seen)
    assert abs(noise.mean()) < 4 * 0.1 / math.sqrt(len(noise))
    assert abs(noise.std() - 0.1) < 4 * 0.1 / math.sqrt(2 * len(noise))


def test_the_metrics_follow_the_formulas():
    model, x = Fused(), torch.randn(64, 6)
    rule = {"abs_thr": 0.03, "rel_thr": 1.25, "p_max": 0.25}
    handle = attach(model, **rule)
    features = model.features(x)
    variants = []
    for m in range(3):
        changed = features.clone()
        changed[:, columns(m)] = 0
        variants.append(
            nn.functional.linear(changed, model.classifier.weight, model.classifier.bias)
        )
    z = model.classifier.forward(features)
    influence = counterfactual_influence(z, torch.stack(variants)).detach()
    chosen = select(influence, sample_level=True, **rule)
    assert 0 < (chosen >= 0).sum() <= 16
    model(x)
    torch.testing.assert_close(handle.last.influence, influence, rtol=1e-4, atol=1e-6)
    assert handle.last.influence.dtype == torch.float32
    assert torch.equal(handle.last.substituted, chosen)
    assert not handle.last.influence.requires_grad
    metrics = handle.metrics()
    assert list(metrics) == ["C_MIEI_Ratio", "CI_r", "CI_n", "CI_t", "Hist_r", "Hist_n", "Hist_t"]
    dominant = torch.bincount(influence.argmax(1), minlength=3) / 64
    assert metrics["C_MIEI_Ratio"] == (chosen >= 0).sum().item() / 64
    assert [metrics[f"Hist_{n}"] for n in "rnt"] == pytest.approx(dominant.tolist())
    assert [metrics[f"CI_{n}"] for n in "rnt"] == pytest.approx(
        influence.mean(0).tolist(), rel=1e-4
    )


def test_relative_goes_by_the_mean_of_the_batch_and_leaves_the_metrics_alone(x):
    rule = {"abs_thr": 0.001, "rel_thr": 1.25, "p_max": 0.5}
    chosen = {}
    for relative in (False, True):
        torch.manual_seed(0)
        model = Fused()
        with torch.no_grad():
            model.classifier.weight[:, :4] *= 4  # r is strong in every sample
        handle = attach(model, relative=relative, **rule)
        model(x)
        influence, chosen[relative] = handle.last.influence, handle.last.substituted
        expected = select(influence, relative=relative, sample_level=True, **rule)
        assert torch.equal(chosen[relative], expected)
        assert handle.metrics()["CI_r"] == pytest.approx(influence[:, 0].mean().item())
    assert chosen[False].max() == 0
    assert chosen[True].max() > 0


def test_batch_level_substitutes_one_modality_in_every_row(model, x):
    handle = attach(model, sample_level=False, p_max=0.0)
    inputs = record_head_input(model)
    features = model.features(x).detach()
    model(x)
    m = int(handle.last.influence.mean(0).argmax())
    assert handle.last.substituted.tolist() == [m] * 16
    changed = (inputs[0] != features).all(0)
    assert changed.nonzero().flatten().tolist() == list(range(12))[columns(m)]
    assert handle.metrics()["C_MIEI_Ratio"] == 1


def test_batch_level_leaves_all_rows_when_the_batch_is_balanced(model, x):
    handle = attach(model, sample_level=False, rel_thr=1e6)
    inputs = record_head_input(model)
    model(x)
    assert handle.last.substituted.tolist() == [-1] * 16
    assert torch.equal(inputs[0], model.features(x))


def test_warm_up_measures_and_never_substitutes(model, x):
    handle = attach(model, warmup_epochs=2)
    inputs = record_head_input(model)
    for epoch in range(4):
        handle.set_epoch(epoch)
        model(x)
        metrics = handle.metrics()
        assert metrics["CI_r"] > 0
        assert (metrics["C_MIEI_Ratio"] > 0) == (epoch >= 2)
        assert torch.equal(inputs[-1], model.features(x)) == (epoch < 2)


def test_after_the_end_epoch_it_only_measures(model, x):
    handle = attach(model, end_epoch=1)
    for epoch, ratio in ((0, 0.5), (1, 0.0)):
        handle.set_epoch(epoch)
        model(x)
        assert handle.metrics()["C_MIEI_Ratio"] == ratio


def test_between_estimation_steps_nothing_happens_and_the_metrics_stay(model, x):
    handle = attach(model, k=3)
    inputs = record_head_input(model)
    features = model.features(x).detach()
    figures = []
    for _ in range(4):
        model(x)
        figures.append((handle.last, handle.metrics()))
    changed = [not torch.equal(seen, features) for seen in inputs]
    assert changed == [True, False, False, True]
    assert figures[0] == figures[1] == figures[2]
    assert figures[3][0] is not figures[0][0]
    assert handle.step == 4


def test_eval_mode_and_suspension_do_nothing_and_do_not_count(model, x):
    handle = attach(model)
    inputs = record_head_input(model)
    model.eval()
    model(x)
    assert handle.last is None
    model.train()
    with handle.suspend():
        with handle.suspend():
            model(x)
        model(x)
    assert handle.last is None
    assert handle.step == 0
    assert all(torch.equal(seen, model.features(x)) for seen in inputs)
    model(x)
    assert handle.step == 1
    assert not torch.equal(inputs[-1], model.features(x))


def test_a_new_epoch_begins_a_new_average(model, x):
    handle = attach(model)
    handle.set_epoch(0)
    model(x)
    one = handle.metrics()
    handle.set_epoch(0)
    assert handle.metrics() == one
    handle.set_epoch(1)
    assert all(math.isnan(value) for value in handle.metrics().values())


def run(seed: int | None, steps: int = 3, **settings) -> list[Tensor]:
    torch.manual_seed(5)
    model, x = Fused(), torch.randn(16, 6)
    attach(model, seed=seed, **settings)
    inputs = record_head_input(model)
    for _ in range(steps):
        model(x)
    return inputs


def test_the_same_seed_gives_the_same_noise_and_another_seed_another():
    one, two, other = run(1), run(1), run(2)
    assert all(map(torch.equal, one, two))
    assert not torch.equal(one[0], other[0])
    assert not torch.equal(one[0], one[1])  # every step draws anew


def test_without_a_seed_it_is_torchs_initial_seed():
    assert all(map(torch.equal, run(None), run(5)))


def test_the_global_generator_is_not_touched_by_the_noise():
    model, x = Fused(), torch.randn(16, 6)
    attach(model)
    state = torch.get_rng_state()
    model(x)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_captured_tensor_is_replaced_and_not_written_into(model, x):
    attach(model)
    features = model.features(x)
    before = features.detach().clone()
    model.classifier(features)
    assert torch.equal(features, before)
    assert features._version == 0


def test_inplace_writes_into_the_captured_tensor(model, x):
    handle = attach(model, inplace=True, sigma=0.0)
    features = model.features(x)
    before = features.detach().clone()
    logits = model.classifier(features)
    rows = handle.last.substituted >= 0
    assert torch.equal((features != before).any(1), rows)
    assert torch.equal(logits, model.classifier.forward(features))
    logits.sum().backward()  # autograd accepts it
    assert model.encoders[0].weight.grad is not None


def test_inplace_gives_the_gradients_of_the_replacement():
    def gradients(inplace: bool) -> list[Tensor]:
        torch.manual_seed(1)
        model, x = Fused(), torch.randn(16, 6)
        attach(model, inplace=inplace, seed=3)
        model(x).square().sum().backward()
        return [p.grad for p in model.parameters()]

    for one, two in zip(gradients(True), gradients(False), strict=True):
        torch.testing.assert_close(one, two)


@pytest.mark.parametrize(
    "produce", [torch.relu, torch.sigmoid, torch.exp, lambda z: torch.relu(z).view(-1, 12)]
)
def test_inplace_is_refused_where_the_producer_needs_its_output(model, x, produce, golden):
    attach(model, inplace=True, warmup_epochs=9).set_epoch(0)  # not only when it would act
    features = produce(model.features(x))
    with pytest.raises(CMIEIError) as error:
        model.classifier(features)
    golden(error.value)


def test_inplace_is_refused_on_a_leaf(model, golden):
    attach(model, inplace=True)
    with pytest.raises(CMIEIError) as error:
        model.classifier(torch.randn(4, 12, requires_grad=True))
    golden(error.value)


@pytest.mark.parametrize("p_max", [0.5, 1.0])
def test_a_batch_of_one(model, p_max):
    handle = attach(model, p_max=p_max, sigma=0.1)
    inputs = record_head_input(model)
    x = torch.randn(1, 6)
    with pytest.warns(CMIEIWarning):
        model(x)
    assert handle.last.influence.shape == (1, 3)
    # floor(0.5 * 1) is 0; with P_MAX 1 the mean is the sample itself, and only noise is added
    changed = (inputs[0] != model.features(x)).sum()
    assert changed == (0 if p_max == 0.5 else WIDTHS[int(handle.last.substituted)])


def test_an_empty_batch_passes(model):
    handle = attach(model)
    assert model(torch.randn(0, 6)).shape == (0, 7)
    assert math.isnan(handle.metrics()["C_MIEI_Ratio"])


def test_samples_with_nan_logits_are_left_alone_counted_and_warned_about_once(model, x, golden):
    handle = attach(model, p_max=1.0)
    inputs = record_head_input(model)
    x[3] = math.nan
    model(x)
    assert handle.last.substituted[3] == -1
    assert handle.last.influence[3].isnan().all()
    others = torch.arange(16) != 3
    assert (handle.last.substituted[others] >= 0).all()
    assert inputs[0][others].isfinite().all()
    with pytest.warns(CMIEIWarning) as seen:
        metrics = handle.metrics()
    golden(seen[0].message)
    assert metrics["C_MIEI_Ratio"] == 1
    assert metrics["CI_r"] == pytest.approx(handle.last.influence[others, 0].mean().item())
    assert handle.non_finite == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        handle.metrics()


def test_a_missing_set_epoch_is_warned_about_once(model, x, golden):
    attach(model, warmup_epochs=5)
    with pytest.warns(CMIEIWarning) as seen:
        model(x)
        model(x)
    golden(seen[0].message)
    assert len(seen) == 1


@pytest.mark.parametrize("settings", [{"warmup_epochs": 0}, {"warmup_epochs": 5}])
def test_no_warning_without_warm_up_or_with_set_epoch(model, x, settings):
    handle = attach(model, **settings)
    if settings["warmup_epochs"]:
        handle.set_epoch(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model(x)


def test_an_input_that_does_not_fit_is_refused_at_the_first_call(model, golden):
    model.classifier = nn.Sequential(nn.Flatten(), nn.Linear(11, 7))  # no width to check before
    attach(model)
    with pytest.raises(CMIEIError) as error:
        model.classifier(torch.randn(4, 11))
    golden(error.value)


def test_an_output_that_is_not_logits_is_refused_at_the_first_call(model, x, golden):
    model.classifier = nn.Sequential(nn.Linear(12, 8), nn.Unflatten(1, (2, 4)))
    attach(model)
    with pytest.raises(CMIEIError) as error:
        model(x)
    golden(error.value)


def test_gradient_reaches_every_parameter_though_every_sample_is_substituted(model, x):
    attach(model, p_max=1.0, sample_level=False)
    model(x).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


class Checkpointed(Fused):
    """The head, or a block that holds it, under activation checkpointing."""

    def __init__(self, around: str, reentrant: bool) -> None:
        super().__init__(nn.Sequential(nn.Dropout(0.3), nn.Linear(12, 7)))
        self.around, self.reentrant = around, reentrant

    def forward(self, x: Tensor) -> Tensor:
        if self.around == "head":
            return checkpoint(self.classifier, self.features(x), use_reentrant=self.reentrant)
        if self.around == "block":
            return checkpoint(super().forward, x.requires_grad_(), use_reentrant=self.reentrant)
        return super().forward(x)


def checkpointed_gradients(around: str, reentrant: bool, same: bool, **settings) -> list[Tensor]:
    torch.manual_seed(2)
    model = Checkpointed(around, reentrant)
    batches = [torch.randn(16, 6) for _ in range(4)]
    if same:
        batches = [batches[0].clone() for _ in batches]
    handle = attach(model, seed=3, **settings)
    # gradient accumulation, several forwards before one backward
    for half in (batches[:2], batches[2:]):
        sum(model(x).square().sum() for x in half).backward()
    assert handle.step == 4  # a recompute is not a call
    return [p.grad for p in model.parameters()]


@pytest.mark.parametrize("same", [False, True], ids=["batches differ", "batches are equal"])
@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("around", ["head", "block"])
def test_a_recompute_repeats_the_substitution_exactly(around, reentrant, k, same):
    plain = checkpointed_gradients("nothing", reentrant, same, k=k)
    recomputed = checkpointed_gradients(around, reentrant, same, k=k)
    for one, two in zip(plain, recomputed, strict=True):
        if reentrant:  # it adds up the gradients of the calls in another order
            torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-6)
        else:
            assert torch.equal(one, two)


@pytest.mark.negative_control
def test_a_recompute_without_the_replay_would_be_wrong(monkeypatch):
    monkeypatch.setattr(cmiei_hooks.training.checkpoint_replay.Replays, "recall", lambda _: None)
    plain = checkpointed_gradients("nothing", True, False)
    recomputed = checkpointed_gradients("block", True, False)
    assert not torch.allclose(plain[0], recomputed[0], rtol=1e-3)


@pytest.mark.parametrize("reentrant", [False, True])
def test_other_calls_between_forward_and_backward_are_not_mistaken_for_it(reentrant):
    """A suspended pass, a pass without gradient and a new epoch, all with the same features."""

    def gradients(around: str) -> list[Tensor]:
        torch.manual_seed(2)
        model = Checkpointed(around, reentrant)
        x = torch.randn(16, 6)
        handle = attach(model, seed=3, end_epoch=1)
        handle.set_epoch(0)
        with handle.suspend():
            clean = model(x)
        substituted = model(x)
        with torch.no_grad():
            model(x)
        handle.set_epoch(1)
        later = model(x)
        (clean + 2 * substituted + 3 * later).square().sum().backward()
        return [p.grad for p in model.parameters()]

    for one, two in zip(gradients("nothing"), gradients("head"), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-5)


def test_checking_for_inplace_does_not_make_the_backbone_run_again():
    class Backbone(Fused):
        runs = 0

        def encode(self, x: Tensor) -> Tensor:
            self.runs += 1
            return self.features(x).relu() * 2

        def forward(self, x: Tensor) -> Tensor:
            return self.classifier(checkpoint(self.encode, x, use_reentrant=False))

    model = Backbone()
    attach(model, inplace=True)
    model(torch.randn(4, 6))
    assert model.runs == 1


@pytest.mark.skipif(
    not hasattr(torch.utils.checkpoint, "create_selective_checkpoint_contexts"),
    reason="selective checkpointing came after torch 2.4",
)
@pytest.mark.parametrize("settings", [{"p_max": 0.0}, {}], ids=["observing", "substituting"])
def test_selective_checkpointing(settings):
    from torch.utils.checkpoint import create_selective_checkpoint_contexts

    def gradients(selective: bool) -> list[Tensor]:
        torch.manual_seed(0)
        model, x = Fused(), torch.randn(8, 6)
        attach(model, seed=1, **settings)
        tail = nn.Sequential(nn.Linear(7, 9), nn.Tanh(), nn.Linear(9, 3))
        whole = nn.Sequential(model, tail)
        if selective:
            contexts = partial(create_selective_checkpoint_contexts, [torch.ops.aten.addmm.default])
            out = checkpoint(whole, x, use_reentrant=False, context_fn=contexts)
        else:
            out = whole(x)
        out.square().sum().backward()
        return [p.grad for p in whole.parameters()]

    for one, two in zip(gradients(False), gradients(True), strict=True):
        torch.testing.assert_close(one, two)


def test_inplace_under_a_reentrant_checkpoint_is_refused(golden):
    model = Checkpointed("head", True)
    attach(model, inplace=True)
    with pytest.raises(CMIEIError) as error:
        model(torch.randn(4, 6))
    golden(error.value)


def test_when_the_cap_lets_nothing_through_the_very_same_tensor_goes_on(model, x):
    attach(model, p_max=0.0)
    seen = []
    model.classifier.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    features = model.features(x)
    model.classifier(features)
    assert seen[0] is features


def test_the_layout_of_the_features_is_kept(model):
    attach(model)
    inputs = []
    model.classifier.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
    features = torch.randn(12, 16).T
    model.classifier(features)
    assert not torch.equal(inputs[0], features)
    assert inputs[0].stride() == features.stride()


def test_drop_mean_is_obeyed(model, x):
    def figures(drop: str) -> Tensor:
        with attach(model, drop=drop, warmup_epochs=1) as handle:
            handle.set_epoch(0)
            model(x)
            return handle.last.influence

    features = model.features(x).detach()
    changed = features.clone()
    changed[:, columns(0)] = features[:, columns(0)].mean(0)
    head = model.classifier
    expected = counterfactual_influence(head(features), head(changed)[None])[:, 0].detach()
    torch.testing.assert_close(figures("mean")[:, 0], expected, rtol=1e-4, atol=1e-6)
    assert not torch.allclose(figures("zero"), figures("mean"))


def test_output_picks_the_logits_of_the_head(x):
    class Head(nn.Linear):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x, super().forward(x)

    model, plain = Fused(Head(12, 7)), Fused()
    plain.load_state_dict(model.state_dict())
    handle = attach(model, output=1)
    model(x)
    other = attach(plain)
    plain(x)
    # not to the bit: a plain Linear is measured without running it again
    torch.testing.assert_close(handle.last.influence, other.last.influence)


def test_a_float64_model_has_float32_influences_and_float64_inputs(model, x):
    handle = attach(model.double(), p_max=1.0)
    inputs = record_head_input(model)
    model(x.double())
    assert handle.last.influence.dtype == torch.float32
    assert inputs[0].dtype == torch.float64


def test_other_tensors_of_the_call_are_not_used_up_by_the_estimate(x):
    class Head(nn.Linear):
        def forward(self, x: Tensor, scale: Tensor, memory: list) -> Tensor:
            memory.append(1)
            return super().forward(x) * scale.mul_(0.5)

    model = Fused(Head(12, 7))
    attach(model)
    scale, memory = torch.ones(1), []
    model.classifier(model.features(x), scale, memory)
    assert scale.item() == 0.5
    assert len(memory) == 1


def test_a_head_that_reuses_its_output_is_measured_right(x):
    class Reuses(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            out = super().forward(x)
            if torch.is_grad_enabled():
                return out
            if not hasattr(self, "_same"):
                self.__dict__["_same"] = torch.empty_like(out)
            return self._same.copy_(out)

    model, plain = Fused(Reuses(12, 7)), Fused()
    plain.load_state_dict(model.state_dict())
    handles = attach(model), attach(plain)
    model(x)
    plain(x)
    torch.testing.assert_close(handles[0].last.influence, handles[1].last.influence)


def test_a_suspended_and_another_call_in_one_region(x):
    def gradient(recompute: bool) -> Tensor:
        torch.manual_seed(0)
        model = Fused()
        handle = attach(model, seed=1)

        def both(x: Tensor) -> Tensor:
            with handle.suspend():
                clean = model(x)
            return clean + 2 * model(x)

        x = torch.ones(16, 6).cumsum(0).requires_grad_()
        out = checkpoint(both, x, use_reentrant=False) if recompute else both(x)
        out.square().sum().backward()
        return x.grad

    assert torch.equal(gradient(False), gradient(True))


def test_nan_is_warned_about_at_the_removal(model, x, golden):
    handle = attach(model)
    x[0] = math.nan
    model(x)
    with pytest.warns(CMIEIWarning) as seen:
        handle.remove()
    golden(seen[0].message)


def test_nan_is_warned_about_at_the_end_of_the_epoch(model, x, golden):
    handle = attach(model)
    handle.set_epoch(0)
    x[0] = math.nan
    model(x)
    with pytest.warns(CMIEIWarning) as seen:
        handle.set_epoch(1)
    golden(seen[0].message)


def test_end_epoch_without_set_epoch_is_warned_about(model, x, golden):
    attach(model, end_epoch=3)
    with pytest.warns(CMIEIWarning) as seen:
        model(x)
    golden(seen[0].message)


def test_in_eval_mode_a_compiled_model_stays_in_one_graph(model, x):
    attach(model)
    torch.compile(model.eval(), backend="eager", fullgraph=True)(x)


def test_copies_are_inert(model, x):
    handle = attach(model)
    features = model.features(x)
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    copies = [
        copy.deepcopy(model),
        pickle.loads(pickle.dumps(model)),
        torch.load(buffer, weights_only=False),
    ]
    for other in copies:
        inputs = record_head_input(other)
        other(x)
        assert torch.equal(inputs[0], features)
        assert handle.step == 0
        attach(other)  # the inert hook does not stand in the way


def test_the_other_parameters_of_a_call_are_kept(model):
    class Head(nn.Module):
        def forward(self, bias: float, *, x: Tensor, scale: float) -> Tensor:
            self.seen = (bias, scale)
            return x * scale + bias

    model.classifier = Head()
    attach(model)
    features = torch.randn(4, 12)
    call = {"x": features, "scale": 2.0}
    out = model.classifier(1.0, **call)
    assert model.classifier.seen == (1.0, 2.0)
    assert call["x"] is features
    assert not torch.equal(out, features * 2 + 1)
