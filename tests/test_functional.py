"""The formulas against an implementation written again here, in float64 and plain Python."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cmiei_hooks import CMIEIError
from cmiei_hooks.functional import (
    cap,
    counterfactual_influence,
    dominant,
    gate_of,
    mean_influence,
    select,
    select_softly,
    soft_probabilities,
    substitute,
)
from cmiei_hooks.mean_influence import running_mean
from cmiei_hooks.mean_plus_noise import batch_mean, batch_std
from cmiei_hooks.measures import FLOOR, MEASURES, floor_of


def softmax(row: list[float]) -> list[float]:
    top = max(row)
    powers = [math.exp(v - top) for v in row]
    return [p / math.fsum(powers) for p in powers]


def kl(z: list[float], without: list[float]) -> float:
    return math.fsum(
        p * math.log(p / q) for p, q in zip(softmax(z), softmax(without), strict=True) if p > 0
    )


def reference_select(
    ci: list[list[float]],
    abs_thr: float,
    rel_thr: float,
    p_max: str,
    sample_level: bool,
    mean: list[float] | None = None,
) -> list[int]:
    """The rule of the method, row by row; ``p_max`` is the decimal as it was written."""

    def rule(row: list[float]) -> tuple[int, float, bool]:
        scaled = row if mean is None else [v / (u + 1e-12) for v, u in zip(row, mean, strict=True)]
        m1 = scaled.index(max(scaled))
        m2 = max(v for m, v in enumerate(scaled) if m != m1)
        return m1, scaled[m1], row[m1] > abs_thr and scaled[m1] / (m2 + 1e-12) > rel_thr

    finite = [i for i, row in enumerate(ci) if all(map(math.isfinite, row))]
    chosen = [-1] * len(ci)
    if not sample_level:
        if finite:
            means = [math.fsum(ci[i][m] for i in finite) / len(finite) for m in range(len(ci[0]))]
            m1, _, triggered = rule(means)
            for i in finite if triggered else []:
                chosen[i] = m1
        return chosen
    triggered_rows = [(i, *rule(ci[i])[:2]) for i in finite if rule(ci[i])[2]]
    triggered_rows.sort(key=lambda t: (-t[2], t[0]))
    for i, m1, _ in triggered_rows[: math.floor(Fraction(p_max) * len(ci))]:
        chosen[i] = m1
    return chosen


shapes = st.tuples(st.integers(2, 5), st.integers(1, 9), st.integers(2, 8))  # M, B, C


@settings(deadline=None, max_examples=60)
@given(shapes, st.integers(0, 2**31), st.sampled_from([0.1, 1.0, 10.0, 60.0]))
def test_influence_is_the_kl_divergence(shape, seed, scale):
    M, B, C = shape
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(B, C, generator=generator, dtype=torch.float64) * scale
    without = torch.randn(M, B, C, generator=generator, dtype=torch.float64) * scale
    expected = torch.tensor(
        [[kl(z[i].tolist(), without[m, i].tolist()) for m in range(M)] for i in range(B)],
        dtype=torch.float64,
    )
    exact = counterfactual_influence(z, without)
    assert exact.dtype == torch.float64
    torch.testing.assert_close(exact, expected, rtol=1e-9, atol=1e-12)
    single = counterfactual_influence(z.float(), without.float())
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), expected, rtol=2e-4, atol=2e-4)


def js(z: list[float], without: list[float]) -> float:
    p, q = softmax(z), softmax(without)
    middle = [(a + b) / 2 for a, b in zip(p, q, strict=True)]

    def to_middle(one: list[float]) -> float:
        return math.fsum(a * math.log(a / m) for a, m in zip(one, middle, strict=True) if a > 0)

    return (to_middle(p) + to_middle(q)) / 2


def ted(z: list[float], without: list[float]) -> float:
    target = z.index(max(z))

    def margin(row: list[float]) -> float:
        return row[target] - max(v for i, v in enumerate(row) if i != target)

    return max(0.0, margin(z) - margin(without))


def bernoulli(z: list[float], without: list[float]) -> float:
    total = []
    for a, b in zip(z, without, strict=True):
        p, q = 1 / (1 + math.exp(-a)), 1 / (1 + math.exp(-b))
        rest_p, rest_q = 1 / (1 + math.exp(a)), 1 / (1 + math.exp(b))
        total += [p * math.log(p / q), rest_p * math.log(rest_p / rest_q)]
    return math.fsum(total)


def squared(z: list[float], without: list[float]) -> float:
    return math.fsum((a - b) ** 2 for a, b in zip(z, without, strict=True))


@pytest.mark.parametrize(("measure", "formula"), [("js", js), ("ted", ted), ("kl", kl)])
@settings(deadline=None, max_examples=40)
@given(shapes, st.integers(0, 2**31), st.sampled_from([0.1, 1.0, 10.0, 60.0]))
def test_the_other_measures_of_classes(measure, formula, shape, seed, scale):
    check_measure(measure, formula, shape, seed, scale)


@pytest.mark.parametrize(("measure", "formula"), [("bernoulli", bernoulli), ("squared", squared)])
@settings(deadline=None, max_examples=40)
@given(
    st.tuples(st.integers(1, 4), st.integers(1, 6), st.integers(1, 5)),
    st.integers(0, 2**31),
    st.sampled_from([0.1, 1.0, 10.0]),
)
def test_the_measures_that_need_no_second_logit(measure, formula, shape, seed, scale):
    check_measure(measure, formula, shape, seed, scale)


def check_measure(measure, formula, shape, seed, scale) -> None:
    m, b, c = shape
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(b, c, generator=generator, dtype=torch.float64) * scale
    without = torch.randn(m, b, c, generator=generator, dtype=torch.float64) * scale
    got = counterfactual_influence(logits, without, measure)
    expected = [
        [formula(logits[i].tolist(), without[k, i].tolist()) for k in range(m)] for i in range(b)
    ]
    torch.testing.assert_close(
        got, torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-9
    )
    alike = counterfactual_influence(logits, logits.expand(m, b, c), measure)
    assert torch.equal(alike, torch.zeros_like(got))
    single = counterfactual_influence(logits.float(), without.float(), measure)
    assert single.dtype == torch.float32
    assert (single >= 0).all()


def test_js_is_symmetric_and_at_most_log_two_and_ted_does_not_saturate():
    z, far, farther = (torch.tensor([[v, 0.0]]) for v in (50.0, -50.0, -500.0))
    both = [counterfactual_influence(a, b[None], "js").item() for a, b in ((z, far), (far, z))]
    assert both == pytest.approx([math.log(2)] * 2)
    ted = [counterfactual_influence(z, b[None], "ted").item() for b in (far, farther)]
    assert ted == [100.0, 550.0]


@pytest.mark.parametrize("measure", ["kl", "js", "ted"])
def test_a_measure_that_is_always_zero_on_one_logit_is_refused(measure):
    with pytest.raises(CMIEIError, match="C >= 2"):
        counterfactual_influence(torch.zeros(4, 1), torch.zeros(2, 4, 1), measure)


def test_a_measure_that_was_mistyped():
    with pytest.raises(CMIEIError, match="did you mean 'bernoulli'"):
        counterfactual_influence(torch.zeros(4, 2), torch.zeros(2, 4, 2), "bernouli")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_are_compared_in_float32(dtype):
    z, without = torch.randn(4, 9).to(dtype), torch.randn(2, 4, 9).to(dtype)
    got = counterfactual_influence(z, without)
    assert got.dtype == torch.float32
    exact = counterfactual_influence(z.double(), without.double())
    torch.testing.assert_close(got.double(), exact, rtol=1e-4, atol=1e-5)


def test_influence_under_autocast_is_still_float32():
    z, without = torch.randn(4, 9), torch.randn(2, 4, 9)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under = counterfactual_influence(z, without)
    assert under.dtype == torch.float32
    assert torch.equal(under, counterfactual_influence(z, without))


def test_replacing_a_modality_by_itself_has_influence_exactly_zero():
    z = torch.randn(64, 33) * 7
    assert torch.equal(counterfactual_influence(z, z[None]), torch.zeros(64, 1))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("where", ["logits", "counterfactual"])
def test_a_sample_with_non_finite_logits_is_nan_and_the_others_are_not(bad, where):
    z, without = torch.randn(4, 5), torch.randn(3, 4, 5)
    clean = counterfactual_influence(z, without)
    (z if where == "logits" else without[1])[2, 0] = bad
    got = counterfactual_influence(z, without)
    assert got[2].isnan().all()
    keep = [0, 1, 3]
    assert torch.equal(got[keep], clean[keep])
    assert dominant(got)[2] == -1


@pytest.mark.parametrize("measure", ["kl", "js", "ted"])
def test_a_sample_whose_classes_are_all_masked_has_no_influence_that_could_be_measured(measure):
    z, without = torch.randn(4, 5), torch.randn(3, 4, 5)
    clean = counterfactual_influence(z, without, measure)
    z[2] = without[:, 2] = -math.inf
    got = counterfactual_influence(z, without, measure)
    assert got[2].isnan().all()
    assert torch.equal(got[[0, 1, 3]], clean[[0, 1, 3]])


influences = st.integers(2, 4).flatmap(
    lambda m: st.lists(
        st.lists(
            # Few values, so that ties are common, and sums of powers of two, so that the batch
            # means of both implementations are rounded alike; NaN rows too.
            st.sampled_from([0.0, 1 / 128, 1 / 32, 5 / 128, 1 / 16, 0.5, 2.0, math.nan]),
            min_size=m,
            max_size=m,
        ),
        min_size=1,
        max_size=12,
    )
)


@settings(deadline=None, max_examples=300)
@given(
    influences,
    st.sampled_from([0.0, 1 / 32, 0.5]),
    st.sampled_from([0.0, 1.0, 1.25, 4.0]),
    st.sampled_from(["0", "0.1", "0.29", "0.3", "0.5", "0.7", "1"]),
    st.booleans(),
)
def test_select_follows_the_rule(ci, abs_thr, rel_thr, p_max, sample_level):
    got = select(
        torch.tensor(ci, dtype=torch.float64),
        abs_thr=abs_thr,
        rel_thr=rel_thr,
        p_max=float(p_max),
        sample_level=sample_level,
    )
    assert got.dtype == torch.int64
    assert got.tolist() == reference_select(ci, abs_thr, rel_thr, p_max, sample_level)


@settings(deadline=None, max_examples=200)
@given(influences, st.sampled_from([0.0, 1 / 32, 0.5]), st.sampled_from([0.0, 1.0, 1.25, 4.0]))
def test_relative_to_the_mean_the_rule_is_the_same(ci, abs_thr, rel_thr):
    finite = [row for row in ci if all(map(math.isfinite, row))]
    means = [math.fsum(column) / len(finite) for column in zip(*finite, strict=True)]
    means = means or [0.0] * len(ci[0])
    rule = {"abs_thr": abs_thr, "rel_thr": rel_thr, "sample_level": True}
    influence, mean = (torch.tensor(v, dtype=torch.float64) for v in (ci, means))
    got = select(influence, p_max=0.7, relative=True, mean=mean, **rule)
    assert got.tolist() == reference_select(ci, p_max="0.7", mean=means, **rule)
    if all(map(math.isfinite, means)):
        assert select(influence, p_max=0.7, relative=True, **rule).equal(got)


def test_a_modality_that_is_strong_everywhere_is_not_dominant_relative_to_itself():
    ci = torch.tensor([[0.9, 0.1], [0.9, 0.3], [0.9, 0.1], [1.8, 0.1]])
    rule = {"abs_thr": 0.03, "rel_thr": 1.1, "p_max": 1.0, "sample_level": True}
    assert select(ci, **rule).tolist() == [0, 0, 0, 0]
    assert select(ci, relative=True, **rule).tolist() == [0, 1, 0, 0]
    never_used = torch.tensor([[0.9, 0.0], [0.4, 0.0]])
    assert select(never_used, relative=True, **rule).tolist() == [0, 0]
    with pytest.raises(CMIEIError, match="mean has one influence"):
        select(ci, relative=True, mean=ci.mean(0)[:1], **rule)
    with pytest.raises(CMIEIError, match="RELATIVE"):
        select(ci, relative=True, **rule | {"sample_level": False})


@pytest.mark.parametrize(
    ("p_max", "batch", "allowed"),
    [(0.29, 100, 29), (0.57, 100, 57), (0.5, 7, 3), (0.1, 9, 0), (1.0, 5, 5), (0.0, 5, 0)],
)
def test_the_cap_is_the_floor_of_the_decimal_that_was_written(p_max, batch, allowed):
    assert cap(p_max, batch) == allowed
    ci = torch.stack([torch.linspace(1, 2, batch), torch.zeros(batch)], dim=1)
    chosen = select(ci, abs_thr=0.03, rel_thr=1.25, p_max=p_max, sample_level=True)
    assert (chosen != -1).sum() == allowed
    # and those are the largest
    assert (chosen != -1).nonzero().flatten().tolist() == list(range(batch - allowed, batch))


@settings(deadline=None)
@given(st.integers(0, 1000), st.integers(0, 300))
def test_the_cap_of_every_three_digit_share(thousandths, batch):
    assert cap(thousandths / 1000, batch) == thousandths * batch // 1000


def test_thresholds_are_exclusive():
    ci = torch.tensor([[0.5, 0.25]], dtype=torch.float64)
    options = {"p_max": 1.0, "sample_level": True}
    assert select(ci, abs_thr=0.5, rel_thr=1.0, **options).tolist() == [-1]
    assert select(ci, abs_thr=0.49, rel_thr=1.0, **options).tolist() == [0]
    assert select(ci, abs_thr=0.49, rel_thr=2.0, **options).tolist() == [-1]
    assert select(ci, abs_thr=0.49, rel_thr=1.99, **options).tolist() == [0]


def test_batch_level_takes_every_sample_and_ignores_the_cap():
    ci = torch.tensor([[0.9, 0.0], [0.0, 0.2], [0.5, 0.1]])
    options = {"abs_thr": 0.03, "rel_thr": 1.25, "p_max": 0.0}
    assert select(ci, sample_level=False, **options).tolist() == [0, 0, 0]
    assert select(ci, sample_level=True, **options).tolist() == [-1, -1, -1]


def test_substitute_uses_the_mean_of_the_whole_batch_and_noise_of_the_given_spread():
    features = torch.randn(400, 50, dtype=torch.float64) * 3 + 5
    rows = torch.arange(400) % 4 == 1
    new = substitute(features, rows, sigma=0.2, generator=torch.Generator().manual_seed(1))
    assert torch.equal(new[~rows], features[~rows])
    noise = (new - features.mean(0))[rows]
    # 5000 normal numbers: four standard errors of the mean and of the standard deviation
    assert abs(noise.mean()) < 4 * 0.2 / math.sqrt(5000)
    assert abs(noise.std() - 0.2) < 4 * 0.2 / math.sqrt(2 * 5000)
    assert noise.std(0).min() > 0.1  # every feature and every row has noise of its own
    assert noise.std(1).min() > 0.1


def test_substitute_without_noise_is_the_batch_mean_and_gradient_flows_through_it():
    features = torch.randn(5, 2, 3, dtype=torch.float64, requires_grad=True)
    rows = torch.tensor([True, False, False, True, False])
    new = substitute(features, rows, sigma=0.0)
    torch.testing.assert_close(new[0], features.mean(0))
    weight = torch.randn_like(features)
    (new * weight).sum().backward()
    through_mean = weight[rows].sum(0) / 5
    expected = through_mean + weight * (~rows)[:, None, None]
    torch.testing.assert_close(features.grad, expected)


def test_substitute_draws_from_the_given_generator_only():
    features, rows = torch.randn(6, 3), torch.ones(6, dtype=torch.bool)
    before = torch.get_rng_state()
    one = substitute(features, rows, sigma=1.0, generator=torch.Generator().manual_seed(3))
    two = substitute(features, rows, sigma=1.0, generator=torch.Generator().manual_seed(3))
    assert torch.equal(one, two)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_broken_row_does_not_spread_through_the_mean():
    features = torch.randn(6, 3)
    features[2, 1] = math.nan
    rows = torch.tensor([True, False, False, False, False, False])
    new = substitute(features, rows, sigma=0.0)
    torch.testing.assert_close(new[0], features[[0, 1, 3, 4, 5]].mean(0))


def test_the_mean_of_large_half_precision_features_does_not_overflow():
    features = torch.full((4096, 2), 1000.0, dtype=torch.float16)
    assert torch.equal(batch_mean(features), torch.full((1, 2), 1000.0, dtype=torch.float16))


@pytest.mark.parametrize(
    "call",
    [
        lambda: counterfactual_influence(torch.zeros(3), torch.zeros(2, 3)),
        lambda: counterfactual_influence(torch.zeros(3, 1), torch.zeros(2, 3, 1)),
        lambda: counterfactual_influence(torch.zeros(3, 4), torch.zeros(3, 4)),
        lambda: counterfactual_influence(torch.zeros(3, 4), torch.zeros(2, 4, 4)),
        lambda: counterfactual_influence(torch.zeros(3, 4), torch.zeros(2, 3, 4), "l2"),
        lambda: select(torch.zeros(3, 1), abs_thr=0, rel_thr=1, p_max=1, sample_level=True),
        lambda: substitute(torch.zeros(3, 2), torch.zeros(2, dtype=torch.bool), sigma=0.1),
        lambda: substitute(torch.zeros(3, 2), torch.zeros(3), sigma=0.1),
        lambda: substitute(torch.zeros(3, 2), torch.zeros(3, dtype=torch.bool), sigma=-0.1),
        lambda: substitute(torch.zeros(3, 2).int(), torch.zeros(3, dtype=torch.bool), sigma=0.1),
        lambda: select(torch.zeros(3, 2), abs_thr=0, rel_thr=1, p_max=-0.5, sample_level=True),
        lambda: select(torch.zeros(3, 2), abs_thr=0, rel_thr=1, p_max=1.5, sample_level=True),
    ],
)
def test_shapes_that_do_not_fit_are_refused(call):
    with pytest.raises(CMIEIError, match=r"got:[\s\S]*expected:[\s\S]*remedy:"):
        call()


@pytest.mark.parametrize("measure", MEASURES)
def test_classes_that_are_masked_everywhere_are_left_out_exactly(measure):
    z, without = torch.randn(5, 6).double(), torch.randn(2, 5, 6).double()
    expected = counterfactual_influence(z[:, ::2], without[..., ::2], measure)
    z[:, 1::2] = without[..., 1::2] = -math.inf
    got = counterfactual_influence(z, without, measure)
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=0)


def test_a_class_that_is_masked_in_one_of_the_two_only_is_not_finite():
    z, without = torch.randn(4, 6), torch.randn(2, 4, 6)
    z[0, 3] = -math.inf
    without[1, 2, 3] = -math.inf
    found = counterfactual_influence(z, without).isnan()
    assert found.all(1).tolist() == found.any(1).tolist() == [True, False, True, False]


@pytest.mark.negative_control
def test_without_the_mask_these_samples_would_be_lost(monkeypatch):
    monkeypatch.setattr("cmiei_hooks.functional.MASKED", -math.inf)
    z, without = torch.randn(5, 6), torch.randn(2, 5, 6)
    z[:, 1] = without[..., 1] = -math.inf
    assert counterfactual_influence(z, without).isnan().all()


def test_influences_that_are_rounding_make_no_modality_dominant():
    ci = torch.tensor([[0.0, 0.0], [1e-6, 1e-7], [3e-6, 0.0], [math.nan, 1.0]])
    rule = {"abs_thr": 0.0, "rel_thr": 1.0, "p_max": 1.0}
    assert dominant(ci).tolist() == [-1, -1, 0, -1]
    assert select(ci, sample_level=True, **rule).tolist() == [-1, -1, 0, -1]
    assert select(ci[:2], sample_level=False, **rule).tolist() == [-1, -1]
    assert select(ci[:2], sample_level=True, relative=True, **rule).tolist() == [-1, -1]


def test_rounding_of_equal_predictions_stays_below_the_floor():
    """Two ways to add up the same logits, as a head computes them with and without a modality."""
    features, weight = torch.randn(512, 300), torch.randn(40, 300)
    z, other = features @ weight.T, sum(features[:, [i]] * weight[:, i] for i in range(300))
    assert not torch.equal(z, other)
    assert counterfactual_influence(z, other[None]).max() < FLOOR


def test_squared_influences_have_no_floor_because_their_unit_is_not_known():
    ci = torch.tensor([[0.0, 0.0], [1e-9, 1e-10]])
    assert dominant(ci, floor_of("squared")).tolist() == [-1, 0]
    assert dominant(ci, floor_of("kl")).tolist() == [-1, -1]


def reference_probabilities(
    ci: list[list[float]],
    taus: tuple[float, float],
    rate: float,
    floor: float,
    mean: list[float],
    usual: list[float],
) -> list[list[float]]:
    """The rule row by row: a logistic regression on two centred logarithms."""

    def centred(logs: list[float]) -> list[float]:
        return [v - math.fsum(logs) / len(logs) for v in logs]

    found = []
    for row in ci:
        pairs = zip(row, mean, strict=True)
        sample = centred([math.log(max(v, floor)) - math.log(max(u, floor)) for v, u in pairs])
        modality = centred([math.log(max(u, floor)) for u in usual])
        powers = [
            rate / (1 - rate) * math.exp(taus[0] * s + taus[1] * g)
            for s, g in zip(sample, modality, strict=True)
        ]
        found.append([power / (1 + power) for power in powers])
    return found


INFLUENCES = st.integers(2, 5).flatmap(
    lambda m: st.lists(
        st.lists(st.sampled_from([0.0, 1e-9, 1e-6, 1e-3, 0.2, 3.0, 50.0]), min_size=m, max_size=m),
        min_size=1,
        max_size=8,
    )
)


@settings(deadline=None, max_examples=100)
@given(
    INFLUENCES,
    st.tuples(st.sampled_from([0.0, 0.5, 3.0]), st.sampled_from([-1.0, 0.0, 1.0])),
    st.sampled_from([0.05, 0.38, 0.5, 0.9]),
    st.sampled_from([FLOOR, 1e-3]),
    st.booleans(),
)
def test_soft_probabilities_follow_the_rule(ci, taus, rate, floor, given_usual):
    influence = torch.tensor(ci, dtype=torch.float64)
    mean = influence.mean(0)
    usual = mean.flip(0) if given_usual else None
    of_modality = mean if usual is None else usual
    expected = reference_probabilities(ci, taus, rate, floor, mean.tolist(), of_modality.tolist())
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        found = soft_probabilities(
            influence.to(dtype),
            tau_samples=taus[0],
            tau_modalities=taus[1],
            rate=rate,
            usual=usual,
            floor=floor,
        )
        exact = torch.tensor(expected, dtype=torch.float64)
        torch.testing.assert_close(found.double(), exact, rtol=0, atol=tolerance)


def test_with_equal_taus_only_the_influences_of_the_sample_matter():
    """Then the means cancel: it is a sigmoid of the log influence, centred in its sample."""
    influence = torch.tensor([[0.4, 0.1], [0.3, 0.3], [0.0, 0.0]], dtype=torch.float64)
    found = soft_probabilities(influence, tau_samples=1.0, tau_modalities=1.0, rate=0.5)
    expected = [[2 / 3, 1 / 3], [0.5, 0.5], [0.5, 0.5]]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


BOTH = {"tau_samples": 0.5, "tau_modalities": -1.0}


def test_a_rate_of_0_is_never_and_of_1_always_and_nan_is_never():
    influence = torch.tensor([[0.2, 0.1], [math.nan, 0.1], [math.inf, 0.1]])
    never, always = (soft_probabilities(influence, **BOTH, rate=rate) for rate in (0, 1))
    assert never.tolist() == [[0, 0]] * 3
    assert always.tolist() == [[1, 1], [0, 0], [0, 0]]


def test_a_batch_without_finite_influences_leaves_the_running_mean_alone():
    one, two = torch.tensor([0.5, 0.1]).double(), torch.tensor([0.3, 0.0]).double()
    nothing = mean_influence(torch.full((4, 2), math.nan))
    after = running_mean(running_mean(None, one), two)
    torch.testing.assert_close(after, torch.tensor([0.48, 0.09]).double())
    assert torch.equal(running_mean(after, nothing), after)
    # As if there had been none before: a state does not tell the two apart.
    assert torch.equal(running_mean(running_mean(None, nothing), one), one)


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 2**31),
    st.integers(2, 5),
    st.sampled_from([0.0, 0.2, 0.7, 1.0]),
    st.sampled_from([None, 0.0, 0.6, 1.0]),
)
def test_several_are_drawn_but_never_all(seed, modalities, rate, gate):
    generator = torch.Generator().manual_seed(seed)
    draws = torch.rand(40, 2 * modalities + 1, generator=generator)
    gates = None if gate is None else torch.full((40,), gate)
    chosen = select_softly(torch.full((40, modalities), rate), draws, gates)
    for i in range(40):
        drawn = [bool(u < rate) for u in draws[i, :modalities]]
        if all(drawn):
            ties = draws[i, modalities:-1].tolist()
            drawn[ties.index(max(ties))] = False
        if gate is not None and draws[i, -1] >= gate:
            drawn = [False] * modalities
        assert chosen[i].tolist() == drawn


def test_of_a_sample_that_would_lose_all_each_modality_is_as_likely_to_stay():
    draws = torch.rand(6000, 7, generator=torch.Generator().manual_seed(0))
    kept = ~select_softly(torch.ones(6000, 3), draws)
    assert (kept.sum(1) == 1).all()
    # 2000 each; five standard deviations of a binomial are 183
    assert (kept.sum(0) - 2000).abs().max() < 183


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
@pytest.mark.parametrize("start", [0.0, 0.5, 0.9, 1.0])
def test_the_gate_opens_with_the_probability_of_the_predicted_class(dtype, start):
    z = [[0.0, 0.0], [3.0, 0.0], [0.0, 9.0], [60.0, -60.0], [-math.inf, 1.0], [math.nan, 1.0]]
    found = gate_of(torch.tensor(z, dtype=dtype), start)
    assert found.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    for row, value in zip(z[:4], found.tolist(), strict=False):
        sure = max(softmax(row))
        expected = min(max((sure - start) / (1 - start), 0), 1) if start < 1 else 0.0
        if start < 1 or sure < 1 - 1e-6:
            assert value == pytest.approx(expected, abs=1e-6)
    assert found[5] == 0
    assert start == 1 or found[4] == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_the_spread_is_that_of_the_finite_rows(dtype):
    features = (torch.randn(32, 2, 3) * 300 + 1000).to(dtype)
    features[5] = math.inf
    found = batch_std(features, batch_mean(features))
    rows = [i for i in range(32) if i != 5]
    x = features[rows].double()
    expected = (x - x.mean(0)).square().mean(0, keepdim=True).sqrt()
    assert (found.dtype, found.shape) == (dtype, (1, 2, 3))
    tolerance = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}[dtype]
    torch.testing.assert_close(found.double(), expected, rtol=tolerance, atol=0)
    one = torch.ones(1, 4, dtype=dtype)
    assert batch_std(one, batch_mean(one)).tolist() == [[0.0] * 4]
