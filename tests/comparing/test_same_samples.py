"""What is not the same is refused; what cannot be known is said."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from audits import audited, batches, model

from cmiei_hooks.comparing.same_samples import refuse_other_measure, refuse_other_samples
from cmiei_hooks.comparing.saved_audit import read_audit
from cmiei_hooks.errors import InputError

LABELS = ["first", "second"]


def pair(*data, **arguments):
    return [read_audit(audited(seed, one, **arguments)) for seed, one in enumerate(data)]


def without(audit, *columns):
    left = {name: values for name, values in audit.columns.items() if name not in columns}
    return dataclasses.replace(audit, columns=left, group=None)


def ordered(order, **arguments):
    x, label = (torch.cat(part) for part in zip(*batches(**arguments), strict=True))
    return list(zip(x[order].split(16), label[order].split(16), strict=True))


SHUFFLED = torch.randperm(40, generator=torch.Generator().manual_seed(1))


def test_the_same_samples_pass_whatever_the_batches_are():
    x, label = (torch.cat(part) for part in zip(*batches(), strict=True))
    assert refuse_other_samples(pair(batches(), [(x, label)]), LABELS) == []


def test_another_number_of_samples_is_refused(golden):
    with pytest.raises(InputError) as error:
        refuse_other_samples(pair(batches(40), batches(39)), LABELS)
    golden(error.value)


def test_shuffled_samples_are_refused(golden):
    audits = pair(batches(), ordered(SHUFFLED))
    with pytest.raises(InputError) as error:
        refuse_other_samples(audits, LABELS)
    golden(error.value)
    unlabelled = [without(audit, "label") for audit in audits]
    with pytest.raises(InputError) as error:
        refuse_other_samples(unlabelled, LABELS)
    golden(error.value)


@pytest.mark.negative_control
def test_with_one_label_only_the_fingerprints_see_the_order(golden):
    audits = pair(batches(classes=1), ordered(SHUFFLED, classes=1))
    assert len(set(audits[0].columns["label"].tolist())) == 1
    with pytest.raises(InputError) as error:
        refuse_other_samples(audits, LABELS)
    golden(error.value)
    blind = [without(audit, "fingerprint") for audit in audits]
    assert refuse_other_samples(blind, LABELS) == []


def test_other_inputs_with_the_same_labels_are_noted_and_without_labels_refused(golden):
    scaled = [(x * 0.5, label) for x, label in batches()]
    audits = pair(batches(), scaled)
    (note,) = refuse_other_samples(audits, LABELS)
    golden(note)
    with pytest.raises(InputError) as error:
        refuse_other_samples([without(audit, "label") for audit in audits], LABELS)
    golden(error.value)


def test_other_groups_are_refused(golden):
    cameras = [["left", "right"] * 20, ["left", "right"] * 10 + ["right", "left"] * 10]
    data = []
    for column in cameras:
        x, label = (torch.cat(part) for part in zip(*batches(), strict=True))
        data.append([(x, label, column)])
    audits = pair(*data, group_by=2)
    with pytest.raises(InputError) as error:
        refuse_other_samples(audits, LABELS)
    golden(error.value)


def test_that_nothing_could_be_checked_is_said(golden):
    audits = [without(audit, "label", "fingerprint") for audit in pair(batches(), batches())]
    (note,) = refuse_other_samples(audits, LABELS)
    golden(note)


@pytest.mark.parametrize(
    "other", [{"names": ["r", "n", "x"]}, {"measure": "js"}, {"drop": "mean"}], ids=str
)
def test_what_does_not_mean_the_same_is_refused(other, golden):
    audits = [read_audit(audited(0)), read_audit(audited(1, **other))]
    with pytest.raises(InputError) as error:
        refuse_other_measure(audits, LABELS)
    golden(error.value)
    refuse_other_measure([audits[0], audits[0]], LABELS)


def test_the_models_of_these_tests_differ():
    x = torch.randn(4, 6)
    assert not torch.equal(model(0)(x), model(1)(x))
