"""``cmiei compare``: saved audits without a model, checkpoints with one, groups, and refusals."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import torch

from cmiei_hooks import compare
from cmiei_hooks.cli import build_parser, main
from cmiei_hooks.cli.compare_options import groups_of

ROOT = Path(__file__).parents[2]

MODEL = ["--model", "their_code:model", "--data", "their_code:three_batches"]
MODEL += ["--head", "classifier", "--splits", "a=4,b=4", "--device", "cpu"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, enter_project):
    """Four checkpoints, and audits of the first two."""
    folder = tmp_path_factory.mktemp("compare")
    with pytest.MonkeyPatch.context() as patch:
        their_code = enter_project(folder, patch)
        for seed in range(4):
            torch.manual_seed(seed)
            torch.save(their_code.model().state_dict(), f"{seed}.pth")
        for seed in range(2):
            words = ["diagnose", *MODEL, "--checkpoint", f"{seed}.pth", "--output", f"audit{seed}"]
            assert main(words) == 0
    (folder / "empty").mkdir()
    return folder


@pytest.fixture(autouse=True)
def inside(folder, monkeypatch, enter_project):
    enter_project(folder, monkeypatch)


def test_saved_audits_need_no_model(folder, tmp_path, capsys):
    assert main(["compare", "audit0", "audit1", "--output", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert said.startswith("audit1, compared with audit0\n")
    assert "written to" in said
    content = json.loads((tmp_path / "report.json").read_text())
    expected = compare("audit0", "audit1").to_dict()
    assert content["comparisons"] == expected["comparisons"]
    assert content["environment"]["command"].startswith("cmiei compare audit0 audit1 --output")
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "report.html",
        "report.json",
        "report.md",
    ]


def test_checkpoints_are_audited_and_saved_and_give_the_same(tmp_path):
    words = ["compare", "0.pth", "1.pth", *MODEL, "--output", str(tmp_path)]
    assert main(words) == 0
    content = json.loads((tmp_path / "report.json").read_text())
    assert (
        content["comparisons"][0]["lines"]
        == (compare("audit0", "audit1").to_dict()["comparisons"][0]["lines"])
    )
    audits = tmp_path / "audits"
    assert sorted(p.name for p in audits.iterdir()) == ["1-0", "2-1"]
    again = compare(audits / "1-0", audits / "2-1").to_dict()
    assert again["comparisons"][0]["lines"] == content["comparisons"][0]["lines"]


def test_groups_are_compared_pair_by_pair(tmp_path, capsys):
    words = ["compare", "audit0", "1.pth", "--with", "2.pth", "3.pth", *MODEL]
    assert main([*words, "--output", str(tmp_path)]) == 0
    content = json.loads((tmp_path / "report.json").read_text())
    assert content["interval"]["over"] == "runs"
    assert content["runs"] == {"group 1": ["audit0", "1.pth"], "group 2": ["2.pth", "3.pth"]}
    assert "over 2 pairs of runs" in capsys.readouterr().out.replace("\n", " ")


def test_other_samples_are_refused(tmp_path, capsys, golden):
    words = [word.replace("three_batches", "three_batches_turned") for word in MODEL]
    words = ["compare", "audit0", "1.pth", *words, "--output", str(tmp_path)]
    assert main(words) == 3
    golden(capsys.readouterr().err)
    assert not (tmp_path / "report.json").exists()


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["audit0"],
        ["audit0", "audit2"],
        ["audit0", "1.pth"],
        ["audit0", "audit1/samples.csv"],
        ["empty", "audit1"],
        ["audit0", "audit1", "--with", "audit0"],
        ["audit0", "audit1", "--wiht", "audit0"],
        ["audit0", "audit1", "--checkpoint", "0.pth"],
        ["audit0", "audit1", "--limit", "0"],
    ],
    ids=" ".join,
)
def test_wrong_lines_are_refused_before_anything_is_run(words, capsys, golden, monkeypatch):
    monkeypatch.setattr("importlib.import_module", None)  # the command itself is not reached
    assert main(["compare", *words]) == 2
    golden(capsys.readouterr().err)


def lines_of_the_guide() -> list[str]:
    text = (ROOT / "docs" / "guides" / "compare.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```", text, flags=re.M | re.S)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return lines + re.findall(r"^\| `(cmiei compare [^`]*)`", text, flags=re.M)


@pytest.mark.parametrize("line", lines_of_the_guide())
def test_the_lines_of_the_guide_are_understood(line):
    args = build_parser().parse_args(shlex.split(line)[1:])
    assert args.command == "compare"
    assert len(groups_of(args)) > 1


def test_help(capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["compare", "--help"])
    assert exit_.value.code == 0
    assert "--with PATH" in capsys.readouterr().out


def test_a_process_of_its_own(python, folder, tmp_path):
    words = ["compare", "audit0", "audit1", "--output", str(tmp_path)]
    done = python.run(["-m", "cmiei_hooks", *words], cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "compared with audit0" in done.stdout
