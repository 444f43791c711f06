"""What is published: the wheel, its version, and the files that name them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml
from helpers import ROOT

import cmiei_hooks

pytestmark = pytest.mark.slow
TOP = ("README.md", "LICENSE", "MANIFEST.in", "pyproject.toml", "setup.cfg")
FOLDERS = ("cmiei_hooks", "configs", "docs", "examples", "tests", "tools")
SHORT = (
    "from cmiei_hooks.demo import digit_runs; digit_runs.EPOCHS = 2\n"
    "from cmiei_hooks.cli import main; raise SystemExit(main(['demo']))"
)
"""``cmiei demo`` with fewer epochs."""


@pytest.fixture(scope="module")
def wheel(once) -> Path:
    """The wheel of this checkout, built as ``python -m build --no-isolation`` does."""
    pytest.importorskip("setuptools", minversion="70.1", reason="setuptools is too old (extra dev)")

    def build(folder: Path) -> None:
        checkout = folder / "checkout"
        checkout.mkdir()
        for name in TOP:
            shutil.copy(ROOT / name, checkout)
        for name in FOLDERS:
            leave_out = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, checkout / name, ignore=leave_out)
        code = "from setuptools.build_meta import build_wheel; build_wheel('..')"
        command = [sys.executable, "-c", code]
        built = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)
        assert built.returncode == 0, built.stderr
        shutil.rmtree(checkout)

    (path,) = once("wheel", build).glob("*.whl")
    return path


def test_the_wheel_has_the_package_alone_and_all_of_it(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    info = f"cmiei_hooks-{cmiei_hooks.__version__}.dist-info"
    assert {name.partition("/")[0] for name in names} == {"cmiei_hooks", info}
    package = {name for name in names if not name.startswith(info)}
    files = (path for path in (ROOT / "cmiei_hooks").rglob("*") if path.is_file())
    ours = {path.relative_to(ROOT).as_posix() for path in files if path.suffix != ".pyc"}
    assert package == ours
    assert {"cmiei_hooks/py.typed", "cmiei_hooks/reporting/templates/style.css"} <= package


def test_its_description_and_dependencies(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith("METADATA"))
        metadata = archive.read(name).decode()
    needed = re.findall(r"^Requires-Dist: ([\w-]+)[^;\n]*$", metadata, re.M)
    assert sorted(needed) == ["pyyaml", "rich", "torch"]
    assert "Description-Content-Type: text/markdown" in metadata


def test_the_demo_runs_from_the_wheel_in_an_empty_directory(wheel, tmp_path, python):
    pytest.importorskip("sklearn", reason="scikit-learn is not installed (extra demo)")
    installed, empty = tmp_path / "installed", tmp_path / "empty"
    empty.mkdir()
    zipfile.ZipFile(wheel).extractall(installed)
    where = "import cmiei_hooks; print(cmiei_hooks.__file__)\n"
    done = python.run(["-c", where + SHORT], cwd=empty, env={"PYTHONPATH": str(installed)})
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(installed) + os.sep)
    assert "accuracy % without pixels" in done.stdout
    assert (empty / "runs/demo/plain/report.html").is_file()


def test_the_citation_names_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == cmiei_hooks.__version__
    assert citation["license"] == "MIT"


def test_the_workflow_runs_what_ci_runs():
    workflow = (ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8")
    jobs = yaml.safe_load(workflow)["jobs"]
    tried = {
        (one["python"], one["torch"]) for one in jobs["tests"]["strategy"]["matrix"]["include"]
    }
    assert {python for python, _ in tried} == {"3.10", "3.11", "3.12", "3.13"}
    assert {torch for _, torch in tried} == {"2.1", "2.4", "2.13", "nightly"}
    steps = " ".join(step.get("run", "") for step in jobs["lint"]["steps"])
    commands = re.findall(r"^\.venv/bin/(.*)$", (ROOT / ".ci/run").read_text("utf-8"), re.M)
    assert len(commands) > 3
    assert [command for command in commands if command not in steps] == []
