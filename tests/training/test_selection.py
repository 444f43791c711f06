"""Several modalities of a sample in one step: drawn, substituted, recorded and repeated."""

from __future__ import annotations

import copy
import re
import warnings

import pytest
import torch
from heads import SHAPES
from helpers import WIDTHS, Fused, record_head_input
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import cmiei_hooks
from cmiei_hooks import CMIEIWarning
from cmiei_hooks.errors import InputError
from cmiei_hooks.training.substitution import noise_generator

# An untrained model is not sure of any sample: without the gate all may be substituted.
SOFT = {"preset": "selfpaced", "gate": None, "end_step": 10**6, "seed": 3, "log": False}


class Several:
    """A strategy that substitutes what it is told to, in every step."""

    every_step = True
    usual = cmiei_hooks.training.selection.Published

    def __init__(self, chosen: Tensor, config, noise) -> None:
        self.chosen, self.replace = chosen, self.usual(config, noise).replace

    def choose(self, call):
        return self.chosen


def attached(model: nn.Module, chosen: Tensor, **settings):
    return cmiei_hooks.attach(
        model,
        "classifier",
        WIDTHS,
        strategy=lambda *given: Several(chosen, *given),
        **{"k": 1, "warmup_epochs": 0, "sigma": 0.5, "seed": 3, "log": False} | settings,
    )


def some(batch: int = 16) -> Tensor:
    """Every subset of three modalities but the full one, several times."""
    subsets = [[bool(code & 1), bool(code & 2), bool(code & 4)] for code in range(7)]
    return torch.tensor([subsets[i % 7] for i in range(batch)])


@pytest.mark.negative_control
@pytest.mark.parametrize(
    "chosen",
    [torch.zeros(3), torch.zeros(16, 3), torch.ones(16, 2, dtype=torch.bool), [0] * 16],
    ids=["floats", "a float for each", "two of three modalities", "a list"],
)
def test_what_is_not_a_choice_of_modalities_is_refused(chosen, golden):
    model = Fused()
    attached(model, chosen)
    with pytest.raises(InputError) as refusal:
        model(torch.randn(16, 6))
    golden(refusal.value)


def warnings_of(run) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run()
    return [str(one.message) for one in caught if issubclass(one.category, CMIEIWarning)]


@pytest.mark.parametrize("settings", [{"log": False}, {"log": [lambda _: None], "log_period": 2}])
def test_samples_of_which_all_modalities_are_substituted_are_said_once(settings, golden):
    model, chosen = Fused(), some()
    chosen[:3] = True
    handle = attached(model, chosen, **settings)

    def train() -> None:
        for _ in range(4):
            model(torch.randn(16, 6))

    found = warnings_of(train)
    assert len(found) == (settings["log"] is not False)  # nobody has read a value otherwise
    found += warnings_of(handle.metrics) + warnings_of(train) + warnings_of(handle.remove)
    (text,) = found
    golden(re.sub("[0-9]+ samples", "N samples", text))


@pytest.mark.negative_control
def test_a_sample_that_keeps_one_modality_is_not_said():
    model = Fused()
    handle = attached(model, some())
    model(torch.randn(16, 6))
    assert not warnings_of(handle.metrics) + warnings_of(handle.remove)


def test_each_modality_of_a_sample_gets_its_own_mean_and_its_own_noise():
    torch.manual_seed(0)
    model, chosen = Fused(), some()
    (features, given) = record_head_input(model), None
    handle = attached(model, chosen)
    given = record_head_input(model)
    model(torch.randn(16, 6))
    generator = noise_generator(torch.device("cpu"), 3, 0, "classifier", 0)
    numbers = torch.empty(16, sum(WIDTHS)).normal_(generator=generator).double()
    before, after = features[0].double(), given[0].double()
    columns = chosen.repeat_interleave(torch.tensor(WIDTHS), 1)
    expected = torch.where(columns, before.mean(0) + 0.5 * numbers, before)
    torch.testing.assert_close(after, expected, rtol=1e-6, atol=1e-6)
    assert torch.equal(after[~columns], before[~columns])
    assert handle.last.substituted is chosen
    assert handle.metrics()["C_MIEI_Ratio"] == pytest.approx(chosen.any(1).double().mean())


@pytest.mark.negative_control
def test_modalities_that_shared_their_noise_would_be_seen(monkeypatch):
    usual = cmiei_hooks.training.substitution._Numbers.__init__
    monkeypatch.setattr(
        "cmiei_hooks.training.substitution._Numbers.__init__",
        lambda self, *given, shared: usual(self, *given, shared=True),
    )
    with pytest.raises(AssertionError, match="not close"):
        test_each_modality_of_a_sample_gets_its_own_mean_and_its_own_noise()


def test_one_modality_of_each_sample_is_the_same_as_a_selection_of_one_but_for_the_noise():
    torch.manual_seed(0)
    one = torch.randint(-1, 3, (16,))
    several = one[:, None] == torch.arange(3)
    model, x, inputs = Fused(), torch.randn(16, 6), []
    for chosen in (one, several):
        own = copy.deepcopy(model)
        handle = attached(own, chosen, sigma=0.0)
        inputs.append(record_head_input(own))
        own(x).square().sum().backward()
        inputs.append([p.grad for p in own.parameters()])
        inputs.append([torch.tensor(list(handle.metrics().values()))])
    for a, b in zip(inputs[:3], inputs[3:], strict=True):
        assert all(torch.equal(p, q) for p, q in zip(a, b, strict=True))


@pytest.mark.parametrize(
    ("reentrant", "settings"),
    [(False, {}), (True, {}), (False, {"inplace": True})],
    ids=["", "reentrant", "in place"],
)
def test_a_recompute_of_checkpointing_repeats_a_soft_selection(reentrant, settings):
    gradients = []
    for recompute in (False, True):
        torch.manual_seed(0)
        model = Fused(nn.Sequential(nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, 7)))
        handle = cmiei_hooks.attach(model, "classifier", WIDTHS, **SOFT, **settings)
        x = torch.randn(16, 6, requires_grad=True)
        for _ in range(2):
            again = checkpoint(model, x, use_reentrant=reentrant) if recompute else model(x)
            again.square().mean().backward()
        assert handle.last.substituted.any()
        gradients.append([p.grad for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_the_calls_of_one_step_share_a_soft_selection_and_its_noise():
    model = Fused()
    handle = cmiei_hooks.attach(model, "classifier", WIDTHS, **SOFT)
    given, x = record_head_input(model), torch.randn(16, 6)
    with handle.same_step():
        model(x)
        model(x)
    model(x)
    assert torch.equal(given[0], given[1])
    assert not torch.equal(given[1], given[2])


def test_soft_selection_acts_from_the_first_step_and_in_every_step():
    model = Fused()
    features = record_head_input(model)
    handle = cmiei_hooks.attach(model, "classifier", WIDTHS, **SOFT)
    given, seen = record_head_input(model), []
    for _ in range(4):
        model(torch.randn(64, 6))
        changed = (features[-1] != given[-1]).split(WIDTHS, 1)
        seen.append(torch.stack([part.any(1) for part in changed], 1))
        assert torch.equal(seen[-1], handle.last.substituted)
    rates = torch.stack(seen).float().mean((1, 2))
    assert ((rates > 0.2) & (rates < 0.7)).all()
    assert not torch.stack(seen).all(-1).any()  # never all of a sample
    assert not torch.equal(seen[0], seen[1])


def test_between_two_estimates_and_outside_of_its_epochs_nothing_is_selected():
    model = Fused()
    features = record_head_input(model)
    handle = cmiei_hooks.attach(
        model,
        "classifier",
        WIDTHS,
        **SOFT | {"end_step": None, "end_epoch": 2},
        k=3,
        warmup_epochs=1,
    )
    given, acted = record_head_input(model), []
    for epoch in range(3):
        handle.set_epoch(epoch)
        for _ in range(3):
            model(torch.randn(16, 6))
            acted.append(not torch.equal(features[-1], given[-1]))
        assert handle.last.substituted.shape == (16, 3)
        assert handle.last.substituted.any() == (epoch == 1)
    assert acted == [False] * 3 + [True, False, False] + [False] * 3


def test_p_max_0_measures_only():
    model = Fused()
    features = record_head_input(model)
    handle = cmiei_hooks.attach(model, "classifier", WIDTHS, **SOFT, p_max=0.0)
    given = record_head_input(model)
    model(torch.randn(16, 6))
    assert torch.equal(features[0], given[0])
    assert not handle.last.substituted.any()
    assert handle.metrics()["C_MIEI_Ratio"] == 0


def test_a_resumed_run_selects_what_the_run_in_one_go_did():
    def model() -> Fused:
        torch.manual_seed(0)
        return Fused()

    x = torch.randn(5, 16, 6) * torch.logspace(0, 2, 5)[:, None, None]
    whole = model()
    handle = cmiei_hooks.attach(whole, "classifier", WIDTHS, **SOFT)
    assert handle.state_dict()["usual_influence"].tolist() == [0, 0, 0]
    states, seen = [], []
    for batch in x:
        states.append(handle.state_dict())
        whole(batch)
        seen.append(handle.last.substituted)
    for step in (0, 3):
        resumed = model()
        handle = cmiei_hooks.attach(resumed, "classifier", WIDTHS, **SOFT)
        handle.load_state_dict(states[step])
        for later in range(step, 5):
            resumed(x[later])
            assert torch.equal(handle.last.substituted, seen[later])
    # The running mean belongs to the state: without it the last step would select others.
    assert (states[3]["usual_influence"] > 0).all()
    handle.load_state_dict(
        states[4] | {"usual_influence": torch.tensor([9.0, 1e-3, 1e-3]).double()}
    )
    resumed(x[4])
    assert not torch.equal(handle.last.substituted, seen[4])


def test_a_state_from_before_the_first_estimate_takes_the_running_mean_back():
    model = Fused()
    handle = cmiei_hooks.attach(model, "classifier", WIDTHS, **SOFT)
    before = handle.state_dict()
    model(torch.randn(16, 6))
    handle.load_state_dict(before)
    assert torch.equal(handle.state_dict()["usual_influence"], before["usual_influence"])


@pytest.mark.filterwarnings("ignore:16 samples had NaN")
def test_a_run_whose_first_batch_is_broken_resumes_to_the_bit():
    ends = []
    for resumed in (False, True):
        torch.manual_seed(0)
        model = Fused()
        handle = cmiei_hooks.attach(model, "classifier", WIDTHS, **SOFT)
        model(torch.full((16, 6), torch.nan))
        if resumed:
            state = handle.state_dict()
            handle.remove()
            handle = cmiei_hooks.attach(model, "classifier", WIDTHS, **SOFT)
            handle.load_state_dict(state)
        for _ in range(3):
            model(torch.randn(16, 6))
        ends.append(handle.state_dict()["usual_influence"])
    assert torch.equal(*ends)


def test_a_sample_without_finite_logits_keeps_all_its_modalities():
    model = Fused()
    handle = cmiei_hooks.attach(model, "classifier", WIDTHS, **SOFT, rate=0.9)
    x = torch.randn(16, 6)
    x[3] = torch.nan
    model(x)
    assert handle.non_finite == 1
    others = [i for i in range(16) if i != 3]
    assert not handle.last.substituted[3].any()
    assert handle.last.substituted[others].any(1).sum() > 10


class Decisions(nn.Module):
    """Three encoders, three classifiers, the sum of their logits."""

    def __init__(self) -> None:
        super().__init__()
        self.encoders = nn.ModuleList(nn.Linear(6, 4) for _ in WIDTHS)
        self.classifiers = nn.ModuleList(nn.Linear(4, 7) for _ in WIDTHS)

    def features(self, x: Tensor) -> list[Tensor]:
        return [encode(x) for encode in self.encoders]

    def decide(self, features: list[Tensor]) -> Tensor:
        pairs = zip(self.classifiers, features, strict=True)
        return torch.stack([classify(one) for classify, one in pairs]).sum(0)

    def forward(self, x: Tensor) -> Tensor:
        return self.decide(self.features(x))


def test_branches_of_which_several_are_chosen_run_again():
    """Against the same sums written by hand, in float64."""
    torch.manual_seed(0)
    model, x, chosen = Decisions().double(), torch.randn(16, 6, dtype=torch.float64), some()
    twin = copy.deepcopy(model)
    cmiei_hooks.attach(
        model,
        head={name: f"classifiers.{m}" for m, name in enumerate("abc")},
        combine="sum",
        k=1,
        warmup_epochs=0,
        sigma=0.0,
        log=False,
        strategy=lambda *given: Several(chosen, *given),
    )
    found = model(x)
    found.square().sum().backward()
    expected = twin.decide(
        [
            torch.where(rows[:, None], one.mean(0), one)
            for rows, one in zip(chosen.T, twin.features(x), strict=True)
        ]
    )
    expected.square().sum().backward()
    torch.testing.assert_close(found, expected)
    for ours, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


def test_token_ids_become_their_fill_value_in_the_samples_that_are_drawn():
    shape = SHAPES["the whole model, token ids"]
    model, (text, image) = shape.make(), shape.batch()
    where = {key: value for key, value in shape.where.items() if key != "fill"}
    handle = cmiei_hooks.attach(model, **where, fill={"text": 9}, **SOFT)
    seen = []
    model.register_forward_pre_hook(lambda _, args: seen.append(args))
    model(text.clone(), image)
    rows = handle.last.substituted[:, handle.names.index("text")]
    assert rows.any()
    assert torch.equal(seen[0][0], torch.where(rows[:, None], 9, text))


@pytest.mark.parametrize(
    ("taus", "strong_is_substituted"),
    [((1.0, 1.0), "more"), ((0.5, -1.0), "less"), ((0.5, 0.0), "as often")],
)
def test_the_modality_that_is_strong_everywhere(taus, strong_is_substituted):
    torch.manual_seed(0)
    model = Fused()
    with torch.no_grad():
        model.classifier.weight[:, : WIDTHS[0]] *= 4
    given = {"tau_samples": taus[0], "tau_modalities": taus[1]}
    handle = cmiei_hooks.attach(model, "classifier", WIDTHS, **SOFT, **given)
    counts = torch.zeros(3)
    for _ in range(40):
        model(torch.randn(64, 6))
        counts += handle.last.substituted.sum(0)
    share = counts[0] / counts.sum()
    bounds = {"more": (0.5, 1), "less": (0, 0.2), "as often": (0.28, 0.38)}[strong_is_substituted]
    assert bounds[0] < share < bounds[1]


@pytest.mark.parametrize("head", ["linear", "chain", "mlp"])
def test_only_samples_of_which_the_model_is_sure_are_substituted(head):
    torch.manual_seed(0)
    layers = {
        "linear": nn.Linear(12, 7),
        "chain": nn.Sequential(nn.BatchNorm1d(12), nn.Linear(12, 7)),
        "mlp": nn.Sequential(nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, 7)),
    }
    model = Fused(layers[head])
    with torch.no_grad():
        (model.classifier if head == "linear" else model.classifier[-1]).weight *= 20
    x = torch.randn(256, 6)
    sure = copy.deepcopy(model)(x).softmax(-1).amax(-1).detach().double()
    given = {**SOFT, "gate": 0.5, "rate": 1.0}
    handle = cmiei_hooks.attach(model, "classifier", WIDTHS, **given)
    rows = torch.zeros(256)
    for _ in range(60):
        model(x)
        rows += handle.last.substituted.any(1)
        assert (handle.last.substituted.sum(1) == 2 * handle.last.substituted.any(1)).all()
    expected = ((sure - 0.5) / 0.5).clamp(0, 1)
    assert not rows[sure <= 0.5].any()
    assert 0.2 < (sure > 0.5).double().mean() < 1
    assert (rows / 60 - expected).abs().max() < 0.3
    assert (rows.sum() / 60 - expected.sum()).abs() < 10


@pytest.mark.parametrize("measure", ["squared", "bernoulli"])
def test_where_nothing_is_a_class_there_is_no_gate(measure):
    model = Fused()
    given = {**SOFT, "gate": 1.0, "measure": measure}
    handle = cmiei_hooks.attach(model, "classifier", WIDTHS, **given)
    model(torch.randn(16, 6))
    assert handle.last.substituted.any()


@pytest.mark.parametrize("kind", ["batch norm, dropout", "linear"])
def test_asking_the_gate_leaves_no_trace(kind):
    """With RATE 0 each step acts, and selects nothing: everything is as without the tool."""
    layers = {
        "batch norm, dropout": lambda: nn.Sequential(
            nn.BatchNorm1d(12), nn.Dropout(0.4), nn.Linear(12, 7)
        ),
        "linear": lambda: nn.Linear(12, 7),
    }[kind]
    ends = []
    for attached_too in (False, True):
        torch.manual_seed(0)
        model = Fused(layers())
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        if attached_too:
            given = {**SOFT, "gate": 0.0, "rate": 0.0}
            handle = cmiei_hooks.attach(model, "classifier", WIDTHS, **given)
        for _ in range(5):
            optimizer.zero_grad()
            model(torch.randn(16, 6)).square().mean().backward()
            optimizer.step()
        ends.append([*model.state_dict().values(), torch.get_rng_state()])
    assert handle.last.substituted.shape == (16, 3)
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))
