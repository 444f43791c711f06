"""An audit reads the same from memory and from disk; what is no audit is refused."""

from __future__ import annotations

import json

import pytest
import torch
from audits import audited, batches

from cmiei_hooks.comparing.saved_audit import read_audit
from cmiei_hooks.errors import InputError


@pytest.fixture
def report():
    data = [(*batch, [f"=cam{i}" for i in range(len(batch[0]))]) for batch in batches()]
    return audited(0, data, group_by=2, names=["a\x1b", "=b", "c|"])


def test_memory_and_disk_say_the_same(report, tmp_path):
    report.save(tmp_path)
    memory = read_audit(report)
    assert memory.path == "runs/0.pth"
    for path in (tmp_path, str(tmp_path), tmp_path / "report.json"):
        disk = read_audit(path)
        assert disk.path == str(tmp_path)
        assert disk.facts == memory.facts
        assert disk.names == memory.names == ("a\x1b", "=b", "c|")
        assert disk.group == memory.group
        assert disk.columns.keys() == memory.columns.keys()
        for name, values in disk.columns.items():
            torch.testing.assert_close(values, memory.columns[name], rtol=0, atol=0, equal_nan=True)


def test_the_columns_are_those_of_the_audit(report):
    found = read_audit(report)
    assert len(found) == 40
    influence = found.of_each("CI", report.names)
    means = torch.tensor([report.influence[name].mean for name in report.names])
    torch.testing.assert_close(influence.mean(0).float(), means)
    assert found.of_each("alone", report.names).shape == (40, 3)
    assert found.of_each("no_such", report.names) is None


def test_an_empty_cell_is_nan(report, tmp_path):
    report.save(tmp_path)
    file = tmp_path / "samples.csv"
    header, first, *rest = file.read_text().splitlines()
    cells = first.split(",")
    cells[header.split(",").index("predicted")] = ""
    file.write_text("\n".join([header, ",".join(cells), *rest]))
    known = read_audit(tmp_path).columns["predicted"].isfinite()
    assert known.tolist() == [False] + [True] * 39


def broken_json(folder):
    (folder / "report.json").write_text("{")


def other_version(folder):
    content = json.loads((folder / "report.json").read_text())
    (folder / "report.json").write_text(json.dumps(content | {"schema_version": 99}))


def changed(folder, **facts):
    content = json.loads((folder / "report.json").read_text())
    kept = {key: value for key, value in (content | facts).items() if value is not None}
    (folder / "report.json").write_text(json.dumps(kept))


def no_interval(folder):
    changed(folder, interval=None)


def no_measure(folder):
    changed(folder, measure=None)


def no_names(folder):
    changed(folder, names=[])


def a_word_for_the_accuracy(folder):
    changed(folder, accuracy="high")


def identities_without_labels(folder):
    changed(folder, interval={"over": "identities"})
    file = folder / "samples.csv"
    file.write_text(file.read_text().replace(",label,", ",lable,", 1))


def a_list(folder):
    (folder / "report.json").write_text("[]")


def no_samples(folder):
    (folder / "samples.csv").unlink()


def empty_samples(folder):
    (folder / "samples.csv").write_text("")


def half_a_row(folder):
    file = folder / "samples.csv"
    file.write_bytes(file.read_bytes()[:-40])


def samples_of_another_audit(folder):
    file = folder / "samples.csv"
    file.write_text(file.read_text().rpartition("\n")[0].rpartition("\n")[0])


def a_word(folder):
    file = folder / "samples.csv"
    file.write_text(file.read_text().replace("\n0,", "\nzero,", 1))


@pytest.mark.parametrize(
    "damage",
    [
        broken_json,
        other_version,
        no_interval,
        no_measure,
        no_names,
        a_word_for_the_accuracy,
        identities_without_labels,
        a_list,
        no_samples,
        empty_samples,
        half_a_row,
        samples_of_another_audit,
        a_word,
    ],
)
def test_what_is_damaged_is_refused(report, tmp_path, monkeypatch, damage, golden):
    monkeypatch.chdir(tmp_path)
    report.save("audit")
    damage(tmp_path / "audit")
    with pytest.raises(InputError) as error:
        read_audit("audit")
    golden(error.value)
