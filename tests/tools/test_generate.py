"""The files that are derived from the settings are those that the command writes."""

from __future__ import annotations

import shutil

import pytest

from tools.generate import ROOT, main

FILES = ["configs/default.yml", "docs/configuration.md", "README.md"]


@pytest.fixture
def checkout(tmp_path):
    for name in FILES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def test_the_files_of_this_checkout_are_up_to_date():
    assert main(["--check"]) == 0


@pytest.mark.negative_control
@pytest.mark.parametrize("name", FILES)
def test_a_stale_file_is_reported_and_renewed(checkout, name, capsys):
    path = checkout / name
    current = path.read_text(encoding="utf-8")
    path.write_text(current.replace("Estimate the influence on", "Estimate on"), encoding="utf-8")
    stale = path.read_text(encoding="utf-8")
    assert stale != current
    assert main(["--check"], checkout) == 1
    assert capsys.readouterr().out == f"{name} is stale\n"
    assert path.read_text(encoding="utf-8") == stale
    assert main([], checkout) == 0
    assert path.read_text(encoding="utf-8") == current


def test_a_file_without_its_markers_is_refused(checkout):
    (checkout / "README.md").write_text("no table\n", encoding="utf-8")
    with pytest.raises(SystemExit):
        main([], checkout)
