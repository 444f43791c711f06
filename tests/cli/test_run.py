"""``cmiei run``: scripts that nobody edited, each compared with the same script run by Python."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import textwrap
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import scripts
import torch
from warm_python import WarmPython

from cmiei_hooks.cli import main

ROOT = Path(__file__).parents[2]
HEAD = ["--head", "classifier", "--splits", "4,3", "--names", "audio,video"]
COMMAND = ["-m", "cmiei_hooks", "run"]
TORCHRUN = ["-m", "torch.distributed.run", "--nproc-per-node", "2"]

pytestmark = pytest.mark.slow


@dataclass
class Ended:
    code: int
    out: list[str]
    """The lines on stdout that are the script's own."""
    log: list[str]
    err: str


def execute(python: WarmPython, words: list[str], directory: Path) -> Ended:
    env = {"PYTHONPATH": str(ROOT)}
    done = python.run(words, cwd=directory, env=env, warm_children=True)
    lines = done.stdout.splitlines()
    ours = [line for line in lines if line.startswith("C-MIEI")]
    return Ended(done.returncode, [x for x in lines if x not in ours], ours, done.stderr)


def run_with(python, tmp_path, script, *words, options=(), module=(), name="train.py") -> Ended:
    """The end of a script under ``cmiei run``."""
    start = [*COMMAND, *HEAD, "--output", "report", *options, "K", "1", "--"]
    return run_script(
        python, tmp_path / "with/here", script, [*start, *(module or [name]), *words], name
    )


def run_script(
    python: WarmPython, directory: Path, script: str, words: list[str], name: str = "train.py"
) -> Ended:
    (directory / name).parent.mkdir(parents=True)
    (directory / name).write_text(script)
    return execute(python, words, directory)


def both(
    python, tmp_path, script, *words, options=(), module=(), name="train.py"
) -> tuple[Ended, Ended]:
    """The ends of a script in two directories: without and with ``cmiei run``."""
    start = [*(module or [name]), *words]
    without = run_script(python, tmp_path / "without/here", script, start, name)
    with_run = run_with(python, tmp_path, script, *words, options=options, module=module, name=name)
    # The directories differ by their name.
    with_run.out = [
        line.replace(f"{tmp_path}/with", f"{tmp_path}/without") for line in with_run.out
    ]
    return without, with_run


def weights(tmp_path, kind, name="weights.pt"):
    return torch.load(tmp_path / kind / "here" / name, weights_only=True)


def same_weights(tmp_path, name="weights.pt") -> bool:
    without, with_run = (weights(tmp_path, kind, name) for kind in ("without", "with"))
    assert list(without) == list(with_run)
    return all(torch.equal(value, with_run[key]) for key, value in without.items())


def report(tmp_path) -> dict:
    return json.loads((tmp_path / "with/here/report/report.json").read_text())


@pytest.mark.parametrize(
    ("script", "code"),
    [
        (scripts.PLAIN, 0),
        (scripts.SAVES_THE_MODEL, 0),
        (scripts.FAILS, 1),
        (scripts.INTERRUPTED, 130),
        (scripts.EXITS, 7),
    ],
    ids=["plain", "saves the model", "fails", "interrupted", "exits"],
)
def test_weights_output_and_exit_code_are_those_of_the_script_alone(python, tmp_path, script, code):
    without, with_run = both(python, tmp_path, script)
    assert same_weights(tmp_path)
    assert with_run.out == without.out
    assert with_run.code == code
    assert without.code in (code, -2)  # Python itself ends by the signal
    assert with_run.err.replace("/with/", "/without/") == without.err
    found = report(tmp_path)
    totals = {"steps": 12, "estimates": 12, "samples": 192, "substituted": 0}
    assert found["totals"] | totals == found["totals"]
    assert found["exit_code"] == code
    assert (tmp_path / "with/here/report/report.html").read_text().count("<svg role") == 3
    steps = (tmp_path / "with/here/report/steps.jsonl").read_text().splitlines()
    assert [json.loads(line)["event"] for line in steps] == ["start", "figures", "end"]


@pytest.fixture
def plain(python, once, tmp_path) -> Path:
    """The directory of the test, with the plain script trained without ``cmiei run``."""

    def train(folder: Path) -> None:
        run_script(python, folder / "here", scripts.PLAIN, ["train.py"])

    (tmp_path / "without").symlink_to(once("script without cmiei run", train))
    return tmp_path


@pytest.mark.negative_control
def test_acting_changes_the_weights(python, plain, tmp_path):
    options = ["--act", "--warmup-steps", "2", "ABS_THR", "0", "REL_THR", "0"]
    run_with(python, tmp_path, scripts.PLAIN, options=options)
    assert not same_weights(tmp_path)
    assert report(tmp_path)["totals"]["substituted"] == 10 * 8


def test_epochs_are_counted_in_steps(python, tmp_path):
    options = ["--act", "--epoch-length", "4", "ABS_THR", "0", "REL_THR", "0", "WARMUP_EPOCHS", "1"]
    run_with(python, tmp_path, scripts.PLAIN, options=options)
    found = report(tmp_path)
    assert [(p["epoch"], p["C_MIEI_Ratio"]) for p in found["curve"]] == [(0, 0), (1, 0.5), (2, 0.5)]


def test_a_preset_acts_without_a_warm_up(python, tmp_path):
    options = ["--act", "PRESET", "selfpaced", "GATE", "null", "END_STEP", "6"]
    run_with(python, tmp_path, scripts.PLAIN, options=options)
    found = report(tmp_path)
    assert found["settings"]["SELECTION"] == "soft"
    assert found["totals"]["substituted"] > 6 * 8  # of 16 samples in each of the first six steps


def test_settings_that_would_act_only_observe(python, plain, tmp_path):
    file = tmp_path / "acts.yml"
    file.write_text("{WARMUP_EPOCHS: 0, SAMPLE_LEVEL: false, ABS_THR: 0, REL_THR: 0, END_EPOCH: 9}")
    run_with(python, tmp_path, scripts.PLAIN, options=["--config", str(file)])
    assert same_weights(tmp_path)
    assert report(tmp_path)["settings"]["P_MAX"] == 0


def test_spawned_workers_neither_attach_nor_miss_the_classes_of_the_script(python, tmp_path):
    without, with_run = both(python, tmp_path, scripts.PLAIN, "--workers", "1", "--epochs", "1")
    assert same_weights(tmp_path)
    assert with_run.out == without.out
    assert [line.split(" | ")[0] for line in with_run.log].count("C-MIEI attached") == 1


def test_a_forked_process_writes_nothing(python, tmp_path):
    with_run = run_with(python, tmp_path, scripts.FORKS)
    assert with_run.code == 0
    assert sum("ended after" in line for line in with_run.log) == 1
    assert report(tmp_path)["totals"]["steps"] == 13


def test_a_module_of_a_package(python, tmp_path):
    module = ["-m", "package.train"]
    without, with_run = both(
        python, tmp_path, scripts.PLAIN, module=module, name="package/train.py"
    )
    assert same_weights(tmp_path)
    assert with_run.out == without.out
    assert any("package.train" in line for line in with_run.out)


def run_ranks(python: WarmPython, folder: Path, script: str, *words: str) -> None:
    """Run a script by itself on two ranks."""
    (folder / "here").mkdir(parents=True)
    (folder / "here/train.py").write_text(script)
    for done in python.run_ranks(["train.py", *words], cwd=folder / "here"):
        assert done.returncode == 0, done.stderr


@pytest.fixture
def plain_ranks(python, once, tmp_path) -> Path:
    """The directory of the test, with the script of two ranks trained without ``cmiei run``."""
    trained = once("ranks without cmiei run", partial(run_ranks, python, script=scripts.DDP))
    (tmp_path / "without").symlink_to(trained)
    return tmp_path


def test_two_ranks_under_torchrun(python, plain_ranks, tmp_path):
    directory = tmp_path / "with/here"
    directory.mkdir(parents=True)
    (directory / "train.py").write_text(scripts.DDP)
    command = [*COMMAND, *HEAD, "--output", "report", "K", "1", "--", "train.py"]
    done = python.run(
        [*TORCHRUN, "--no-python", python.executable, *command],
        cwd=directory,
        env={"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    assert same_weights(tmp_path, "rank0.pt")
    assert same_weights(tmp_path, "rank1.pt")
    assert done.stdout.count("ended after 12 steps") == 1
    assert report(tmp_path)["totals"]["samples"] == 192


def test_a_script_that_starts_its_ranks_is_observed_on_rank_0_and_told_so(
    python, plain_ranks, tmp_path, golden
):
    with_run = run_with(python, tmp_path, scripts.STARTS_ITS_RANKS)
    assert with_run.code == 0, with_run.err
    assert same_weights(tmp_path, "rank0.pt")
    assert same_weights(tmp_path, "rank1.pt")
    assert report(tmp_path)["totals"]["samples"] == 192
    golden(with_run.err[with_run.err.index("cmiei run:") :])


def test_a_script_that_never_trains(python, tmp_path, golden):
    with_run = run_with(python, tmp_path, "print('nothing')")
    assert with_run.code == 0
    assert with_run.out == ["nothing"]
    golden(with_run.err)


def test_a_model_that_trains_in_a_spawned_process_is_not_observed_and_this_is_said(
    python, plain, tmp_path
):
    spawns = "torch.multiprocessing.spawn(work)"
    script = scripts.PLAIN.replace("    main()\n", f"    {spawns}\n")
    script = script.replace("if __name__", "def work(_):\n    main()\n\n\nif __name__")
    with_run = run_with(python, tmp_path, script)
    assert with_run.code == 0
    assert same_weights(tmp_path)
    assert with_run.log == []
    assert "mp.spawn" in with_run.err


def test_a_head_that_is_not_found_is_reported_while_the_script_runs(python, tmp_path, golden):
    script = scripts.PLAIN.replace("print(f", "print(flush=True, *[f").replace(
        ':.9f}")', ':.9f}"])'
    )
    directory = tmp_path / "here"
    directory.mkdir()
    (directory / "train.py").write_text(script)
    words = [*COMMAND, "--head", "clasifier", "--splits", "4,3", "--", "train.py"]
    done = python.run(
        [*words, "--epochs", "20"],
        cwd=directory,
        env={"PYTHONPATH": str(ROOT)},
        stderr=subprocess.STDOUT,
    )
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    said = next(i for i, line in enumerate(lines) if "after 50 training calls" in line)
    assert lines[said - 1].startswith("epoch 11 ")
    assert lines[said + 4].startswith("epoch 12 ")
    golden("\n".join(lines[said : said + 4]))


def test_discover_prints_the_lines_and_stops_at_the_first_batch(python, tmp_path):
    (tmp_path / "train.py").write_text(scripts.PLAIN)
    done = execute(python, [*COMMAND, "--discover", "--", "train.py"], tmp_path)
    assert done.code == 0, done.err
    assert done.out[-2].startswith('cmiei_hooks.attach(model, head="classifier", splits=[4, 3]')
    assert not any(line.startswith("epoch 0") for line in done.out)
    assert not (tmp_path / "weights.pt").exists()


def test_discover_looks_into_a_model_whose_batch_it_cannot_read(python, tmp_path):
    task = """
    class Task(nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, batch):
            return self.model(*batch())


    def main():"""
    script = scripts.PLAIN.replace("def main():", textwrap.dedent(task).lstrip())
    script = script.replace(
        "    model, criterion = Model()", "    model, criterion = Task(Model())"
    )
    (tmp_path / "train.py").write_text(script.replace("model(a, v)", "model(lambda: (a, v))"))
    done = execute(python, [*COMMAND, "--discover", "--", "train.py"], tmp_path)
    assert done.code == 0, done.err
    assert done.out[-2].startswith('cmiei_hooks.attach(model, head="classifier", splits=[4, 3]')


def test_discover_of_a_script_without_training_is_refused(python, tmp_path, golden):
    (tmp_path / "train.py").write_text("")
    done = execute(python, [*COMMAND, "--discover", "--", "train.py"], tmp_path)
    assert done.code == 3
    golden(done.err)


@pytest.mark.parametrize(
    "words",
    [
        ["run", *HEAD],
        ["run", *HEAD, "--", "-m"],
        ["run", *HEAD, "--", "no.py"],
        ["run", *HEAD, "--", "python", "train.py"],
        ["run", "--", "train.py"],
        ["run", *HEAD, "P_MAX", "0.3", "--", "train.py"],
        ["run", *HEAD, "--warmup-steps", "5", "--", "train.py"],
        ["run", *HEAD, "--act", "--", "train.py"],
        ["run", *HEAD, "--act", "--warmup-steps", "5", "END_EPOCH", "3", "--", "train.py"],
        ["run", *HEAD, "--act", "PRESET", "selfpaced", "--", "train.py"],
        ["run", *HEAD, "K", "--", "train.py"],
    ],
    ids=" ".join,
)
def test_a_wrong_command_line_runs_nothing(words, tmp_path, monkeypatch, capsys, golden):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text("raise SystemError")
    assert main(words) == 2
    golden(capsys.readouterr().err)


@pytest.fixture
def lightning(python) -> WarmPython:
    return having(python, "lightning.pytorch")


def having(python: WarmPython, library: str) -> WarmPython:
    """A Python that has imported the library, which takes seconds; skip if it is not installed."""
    if importlib.util.find_spec(library.partition(".")[0]) is None:
        pytest.skip(f"{library} is not installed (extra frameworks)")
    return python.having(library)


def test_lightning_with_two_validations_an_epoch(lightning, tmp_path):
    _, with_run = both(lightning, tmp_path, scripts.LIGHTNING, "1")
    assert with_run.code == 0, with_run.err
    assert same_weights(tmp_path)
    assert report(tmp_path)["totals"]["steps"] == 16


def test_lightning_ddp_is_observed_on_rank_0_and_told_so(lightning, tmp_path):
    run_ranks(lightning, tmp_path / "without", scripts.LIGHTNING, "2")
    with_run = run_with(lightning, tmp_path, scripts.LIGHTNING, "2")
    assert with_run.code == 0, with_run.err
    assert same_weights(tmp_path)
    assert report(tmp_path)["totals"]["steps"] == 8
    assert "the script has started the other ranks itself" in with_run.err


def test_lightning_ddp_is_refused_if_only_rank_0_would_act(lightning, tmp_path):
    with_run = run_with(
        lightning, tmp_path, scripts.LIGHTNING, "2", options=["--act", "--warmup-steps", "0"]
    )
    assert with_run.code != 0
    assert "the script has started the other ranks itself" in with_run.err


def test_transformers_with_an_evaluation_every_three_steps(python, tmp_path):
    python = having(python, "transformers.trainer")
    _, with_run = both(python, tmp_path, scripts.TRANSFORMERS)
    assert with_run.code == 0, with_run.err
    assert same_weights(tmp_path)
    assert report(tmp_path)["totals"]["steps"] == 16
