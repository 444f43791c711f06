"""What the documentation repeats is what the command writes."""

from __future__ import annotations

import shutil

import pytest

from tools.generate import ROOT, main

FILES = ["configs/default.yml", "docs/configuration.md"]
PAGE = "docs/frameworks.md"


@pytest.fixture
def checkout(tmp_path):
    for folder in ("configs", "docs", "examples"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
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
    (checkout / "docs" / "configuration.md").write_text("no table\n", encoding="utf-8")
    with pytest.raises(SystemExit):
        main([], checkout)


@pytest.mark.negative_control
def test_a_page_that_shows_other_lines_than_the_example_is_reported_and_renewed(checkout, capsys):
    script = checkout / "examples" / "accelerate_training.py"
    code = script.read_text(encoding="utf-8")
    inside = "    # begin C-MIEI\n    handle.remove()\n"
    assert inside in code
    script.write_text(code.replace(inside, inside + "    print(handle)\n"), encoding="utf-8")
    assert main(["--check"], checkout) == 1
    assert capsys.readouterr().out == f"{PAGE} is stale\n"
    assert main([], checkout) == 0
    page = (checkout / PAGE).read_text(encoding="utf-8")
    assert "\n...\nhandle.remove()\nprint(handle)\n```" in page
    script.write_text(code.replace("import cmiei_hooks\n", "import cmiei_hooks\n\n"), "utf-8")
    main([], checkout)  # a change elsewhere in the script does not matter
    current = (ROOT / PAGE).read_text(encoding="utf-8")
    assert (checkout / PAGE).read_text(encoding="utf-8") == current


def test_an_example_that_the_page_does_not_show_is_refused(checkout):
    example = checkout / "examples" / "accelerate_training.py"
    example.rename(example.with_name("new_training.py"))
    with pytest.raises(SystemExit, match="new_training"):
        main([], checkout)


def test_an_example_without_marked_lines_is_refused(checkout):
    example = checkout / "examples" / "accelerate_training.py"
    example.write_text("print()\n", encoding="utf-8")
    with pytest.raises(SystemExit, match="marks no lines"):
        main([], checkout)
