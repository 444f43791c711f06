"""A comparison against the audits themselves, scipy, and formulas written again."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from audits import WHERE, audited, batches, model
from scipy import stats

import cmiei_hooks
from cmiei_hooks import audit, compare
from cmiei_hooks.errors import CMIEIWarning, ConfigError, InputError

METRICS = ("accuracy", "accuracy_without", "accuracy_alone", "influence", "dominance", "shapley")


def value_of(report, line):
    found = getattr(report, line.metric)
    return (found if line.modality is None else found[line.modality]).mean


def test_the_values_are_those_of_the_audits():
    first, second = audited(0), audited(1)
    report = compare(first, second)
    assert (report.reference, report.comparisons[0].name) == ("0", "1")
    assert (report.n_samples, report.left_out, report.over) == (40, 0, "samples")
    lines = report.comparisons[0].lines
    expected = [(m, n) for m in METRICS for n in ([None] if m == "accuracy" else "rnt")]
    assert [(line.metric, line.modality) for line in lines] == expected
    for line in lines:
        assert line.reference == pytest.approx(value_of(first, line), rel=1e-6)
        assert line.value == pytest.approx(value_of(second, line), rel=1e-6)
        assert line.difference.mean == pytest.approx(line.value - line.reference)
        assert line.difference.low <= line.difference.mean <= line.difference.high
        assert line.difference.n == 40
    assert any(line.seen for line in lines)
    assert not all(line.seen for line in lines)


def test_a_difference_of_accuracy_is_that_of_the_predictions():
    """From the models alone: McNemar's pairs, resampled by scipy."""
    x, label = (torch.cat(part) for part in zip(*batches(), strict=True))
    right = [(model(seed)(x).argmax(1) == label).double() for seed in (0, 1)]
    report = compare(audited(0), audited(1))
    (line,) = report.comparisons[0].of("accuracy")
    difference = (right[1] - right[0]).numpy()
    assert line.difference.mean == pytest.approx(difference.mean())
    found = stats.bootstrap((difference,), lambda d, axis: d.mean(axis), method="BCa", rng=0)
    low, high = found.confidence_interval
    assert (line.difference.low, line.difference.high) == pytest.approx((low, high), abs=0.026)
    assert line.verdict == ("worse" if line.difference.high < 0 else "no difference seen")


def test_the_order_turns_every_sign():
    one, other = compare(audited(0), audited(1)), compare(audited(1), audited(0))
    turned = {"better": "worse", "worse": "better", "higher": "lower", "lower": "higher"}
    for a, b in zip(one.comparisons[0].lines, other.comparisons[0].lines, strict=True):
        assert a.difference.mean == -b.difference.mean
        assert a.difference.low == pytest.approx(-b.difference.high, abs=2e-3)
        assert turned.get(a.verdict, a.verdict) == b.verdict


def test_a_model_does_not_differ_from_itself():
    report = compare(audited(0), audited(0))
    for line in report.comparisons[0].lines:
        found = line.difference
        assert (found.mean, found.low, found.high, found.p) == (0, 0, 0, 1)
        assert line.verdict == "no difference seen"
    assert report.reference == "run 1"


def test_several_are_each_compared_with_the_first():
    reports = [audited(seed) for seed in (0, 1, 2)]
    whole = compare(*reports)
    assert [one.name for one in whole.comparisons] == ["1", "2"]
    for one, other in zip(whole.comparisons, reports[1:], strict=True):
        (alone,) = compare(reports[0], other).comparisons
        assert [line.difference for line in one.lines] == [line.difference for line in alone.lines]
    smallest = min(line.p_holm for line in whole.comparisons[0].lines)
    assert smallest == pytest.approx(32 * min(x.difference.p for x in whole.comparisons[0].lines))


def test_identities_are_drawn_where_the_audit_drew_them():
    """A copy of every sample says nothing new about its identity."""
    x = torch.randn(32, 6, generator=torch.Generator().manual_seed(3))
    copies = [(x.repeat(2, 1), torch.arange(32).repeat(2))]
    single = [(x, torch.arange(32))]
    reports = {}
    for name, data in (("copies", copies), ("single", single)):
        audits = []
        for seed in (0, 1):
            torch.manual_seed(seed)
            one = model(seed)
            one.classifier = torch.nn.Linear(12, 32)
            audits.append(audit(one, data, **WHERE))
        reports[name] = compare(*audits)
    assert (reports["copies"].over, reports["copies"].n_samples) == ("identities", 64)
    for a, b in zip(*(r.comparisons[0].lines for r in reports.values()), strict=True):
        assert a.difference.n == b.difference.n == 32
        assert a.difference.low == pytest.approx(b.difference.low, rel=1e-9, abs=1e-12)
        assert a.difference.p == pytest.approx(b.difference.p)


def test_groups_are_compared_pair_by_pair():
    plain, new = [audited(seed) for seed in (0, 1, 2)], [audited(seed) for seed in (3, 4, 5)]
    report = compare(plain, new)
    assert report.over == "runs"
    assert (report.reference, report.comparisons[0].name) == ("group 1", "group 2")
    for line in report.comparisons[0].lines:
        before = [value_of(one, line) for one in plain]
        after = [value_of(one, line) for one in new]
        found = stats.ttest_rel(after, before)
        low, high = found.confidence_interval(0.95)
        assert line.difference.n == 3
        assert line.difference.mean == pytest.approx(sum(after) / 3 - sum(before) / 3, abs=1e-6)
        if not math.isnan(line.difference.low):  # all differences are equal
            got = (line.difference.low, line.difference.high, line.difference.p)
            assert got == pytest.approx((low, high, found.pvalue), rel=1e-4, abs=1e-6)
    with pytest.raises(ConfigError, match="no pairs"):
        compare(plain, new[:2])


def test_saved_audits_checkpoints_and_reports_say_the_same(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for seed in (0, 1):
        torch.save(model(seed).state_dict(), f"{seed}.pth")
        audited(seed).save(f"saved/{seed}")
    saved = compare("saved/0", "saved/1/report.json")
    trained = compare("0.pth", "1.pth", model=model(9), batches=batches(), **WHERE)
    mixed = compare("saved/0", audited(1))
    assert saved.comparisons == trained.comparisons == mixed.comparisons
    assert saved.runs == {"0": ["saved/0"], "1": ["saved/1"]}
    assert trained.runs == {"0": ["0.pth"], "1": ["1.pth"]}


def test_modalities_may_be_in_another_order():
    names, order = ["r", "n", "t"], [2, 0, 1]

    class Turned(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = model(1)
            self.classifier = torch.nn.Linear(12, 7)
            parts = self.inner.classifier.weight.split([4, 3, 5], 1)
            self.classifier.weight.data = torch.cat([parts[m] for m in order], 1)
            self.classifier.bias = self.inner.classifier.bias
            self.inner.classifier = None

        def forward(self, x):
            parts = self.inner.features(x).split([4, 3, 5], 1)
            return self.classifier(torch.cat([parts[m] for m in order], 1))

    turned = audit(
        Turned(),
        batches(),
        head="classifier",
        splits=[5, 4, 3],
        names=[names[m] for m in order],
    )
    lines = compare(audited(0), turned).comparisons[0].lines
    for a, b in zip(lines, compare(audited(0), audited(1)).comparisons[0].lines, strict=True):
        assert (a.metric, a.modality) == (b.metric, b.modality)
        assert a.value == pytest.approx(b.value, rel=1e-5)


def test_samples_that_are_not_finite_in_one_audit_are_left_out_of_all():
    class Breaks(torch.nn.Linear):
        def forward(self, z):
            return super().forward(z).where(z[:, :1] < 0.5, math.nan)

    broken = model(1)
    broken.classifier = Breaks(12, 7)
    x, label = (torch.cat(part) for part in zip(*batches(), strict=True))
    second = audit(broken, [(x, label)], **WHERE)
    assert 0 < second.non_finite < 40
    report = compare(audited(0), second)
    assert report.left_out == second.non_finite
    assert report.n_samples == second.n_samples
    kept = torch.tensor([row["CI_r"] not in ("nan", "inf") for row in second.rows])
    first = audit(model(0), [(x[kept], label[kept])], **WHERE)
    for line in report.comparisons[0].of("influence"):
        assert line.reference == pytest.approx(first.influence[line.modality].mean, rel=1e-6)


def test_accuracy_is_left_out_where_an_audit_has_none(golden):
    unlabelled = [(x,) for x, _ in batches()]
    report = compare(audited(0), audited(1, unlabelled))
    assert {line.metric for line in report.comparisons[0].lines} == {
        "influence",
        "dominance",
        "shapley",
    }
    golden("\n".join(report.notes))
    assert not compare(audited(0, unlabelled), audited(1, unlabelled)).notes


def test_what_an_audit_of_an_earlier_version_lacks_is_noted(golden):
    known = audited(1)
    early = [
        {k: v for k, v in row.items() if not k.startswith(("without_", "alone_", "shapley_"))}
        for row in known.rows
    ]
    report = compare(audited(0), dataclasses.replace(known, rows=early))
    assert {line.metric for line in report.comparisons[0].lines} == {
        "accuracy",
        "influence",
        "dominance",
    }
    golden("\n".join(report.notes))
    both = compare(*[dataclasses.replace(known, rows=early)] * 2)
    assert not both.notes


def test_that_rank_1_is_not_compared_is_noted(golden):
    identities = [(x, 100 + torch.arange(len(x)) // 2) for x, _ in batches()]
    with pytest.warns(CMIEIWarning, match="rank-1"):
        audits = [audited(seed, identities) for seed in (0, 1)]
    assert all(audit.retrieval for audit in audits)
    golden("\n".join(compare(*audits).notes))


def test_a_difference_may_stay_certain_however_many_lines_there_are(monkeypatch):
    """The smallest p-value of 100 draws, times 18 lines, is above 0.05; as of 10,000, times 300."""
    monkeypatch.setattr("cmiei_hooks.comparing.bca.DRAWS", 100)
    x = torch.randn(200, 6, generator=torch.Generator().manual_seed(0))
    reports = [audited(0, [(x,)]), *[audited(1, [(x,)])] * 2]
    whole = compare(*reports)
    assert sum(len(one.lines) for one in whole.comparisons) == 18
    assert any(line.certain for line in whole.comparisons[-1].lines)
    monkeypatch.setattr("cmiei_hooks.comparing.api.draws_for", lambda lines: 100)
    assert not any(line.certain for line in compare(*reports).comparisons[-1].lines)


def test_a_partial_audit_is_noted(golden):
    partial = dataclasses.replace(audited(1), partial=True)
    golden("\n".join(compare(audited(0), partial).notes))


@pytest.mark.parametrize(
    ("runs", "arguments"),
    [
        ([], {}),
        (["one"], {}),
        ([["one", "two"]], {}),
        ([[], []], {}),
        (["one", "two"], {"head": "classifier"}),
        (["no/such.pth", "two"], {}),
    ],
    ids=str,
)
def test_wrong_calls_are_refused(runs, arguments, golden):
    with pytest.raises((ConfigError, InputError)) as error:
        compare(*runs, **arguments)
    golden(error.value)


def test_nothing_finite_is_refused(golden):
    broken = model(1)
    broken.classifier.bias.data[:] = math.nan
    with pytest.raises(InputError) as error:
        compare(audited(0), audit(broken, batches(), **WHERE))
    golden(error.value)


def test_the_public_name_is_this_function():
    assert cmiei_hooks.compare is compare
