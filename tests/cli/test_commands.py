"""The commands end to end, as a user runs them."""

from __future__ import annotations

import errno
import io
import json
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers import torchrun

from cmiei_hooks.cli import main

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path, their_code):
    """A user's project in the working directory, with a checkpoint as DDP would have saved it."""
    torch.manual_seed(0)
    state = {f"module.{k}": v for k, v in their_code.model().state_dict().items()}
    torch.save({"state_dict": state | {"module.old.weight": torch.zeros(1)}}, "best.pth")
    return tmp_path


def arguments(**changes: str) -> list[str]:
    options = {
        "model": "their_code:model",
        "checkpoint": "best.pth",
        "data": "their_code:loader",
        "head": "classifier",
        "splits": "5,3",
        "names": "audio,video",
        "output": "out",
    } | changes
    return ["diagnose", *(word for k, v in options.items() if v for word in (f"--{k}", v))]


def test_diagnose_prints_a_table_and_writes_the_report(project, capsys):
    assert main(arguments()) == 0
    captured = capsys.readouterr()
    report = json.loads((project / "out" / "report.json").read_text())
    assert report["n_samples"] == 10
    assert report["names"] == ["audio", "video"]
    assert report["checkpoint"]["unexpected"] == ["old.weight"]
    for name in ("audio", "video"):
        assert f"{report['influence'][name]['mean']:.4f}" in captured.out
        assert f"{report['dominance'][name]['mean']:.1%}" in captured.out
    assert "1: old.weight" in captured.out
    assert "written to out/" in captured.out
    written = ["report.html", "report.json", "report.md", "samples.csv"]
    assert sorted(path.name for path in Path("out").iterdir()) == written


class Closed:
    """Standard output that cannot be written to any more."""

    encoding = "utf-8"

    def __init__(self, error: OSError) -> None:
        self.error = error

    def write(self, text: str) -> int:
        raise self.error

    def flush(self) -> None:
        pass

    def fileno(self) -> int:
        raise io.UnsupportedOperation


def closed() -> io.StringIO:
    stream = io.StringIO()
    stream.close()
    return stream


@pytest.mark.parametrize(
    "stdout",
    [
        Closed(BrokenPipeError("the reader has gone")),
        Closed(OSError(errno.EBADF, "closed by the shell")),
        closed(),
        None,
    ],
    ids=["broken pipe", "bad descriptor", "closed", "none"],
)
@pytest.mark.parametrize(("gate", "code"), [([], 0), (["--fail-above", "audio=0"], 1)])
def test_what_cannot_be_printed_changes_neither_the_report_nor_the_exit_code(
    project, monkeypatch, stdout, gate, code
):
    monkeypatch.setattr(sys, "stdout", stdout)
    assert main([*arguments(), *gate]) == code
    assert read(project)["n_samples"] == 10


def test_a_full_disk_behind_stdout_is_said_and_leaves_the_report(project, monkeypatch):
    monkeypatch.setattr(sys, "stdout", Closed(OSError(errno.ENOSPC, "the disk is full")))
    assert main(arguments()) == 3
    assert read(project)["n_samples"] == 10


def test_inputs_and_weights_are_chosen_by_their_options(project):
    import their_code

    torch.manual_seed(5)
    ema = {f"ema.{k}": v for k, v in their_code.model().state_dict().items()}
    plain = their_code.model().state_dict()
    torch.save(plain | ema, "twins.pth")
    options = arguments(checkpoint="twins.pth", data="their_code:turned_loader", inputs="1")
    assert main(options) == 0
    report = read(project)
    assert report["environment"]["inputs"] == {"x": "column 1"}
    assert main([*options, "--weights", "ema"]) == 0
    chosen = read(project)
    assert chosen["influence"] != report["influence"]
    torch.save({k.removeprefix("ema."): v for k, v in ema.items()}, "ema.pth")
    assert main([*options, "--checkpoint", "ema.pth"]) == 0
    assert read(project)["influence"] == chosen["influence"]


def test_a_chain_of_two_inputs_and_one_logit_in_the_training_branch_with_its_own_forward(project):
    import their_code

    torch.save(their_code.two_inputs().state_dict(), "two.pth")
    options = arguments(
        model="their_code:two_inputs",
        checkpoint="two.pth",
        data="their_code:records",
        head="fusion,out",
        splits="",
        names="",
        modalities="{a: 0, v: input2}",
        measure="bernoulli",
        forward="their_code:forward",
    )
    assert main([*options, "--training-branch"]) == 0
    report = json.loads((project / "out" / "report.json").read_text())
    assert report["head"] == "fusion -> out"
    assert report["names"] == ["a", "v"]
    assert report["splits"] == [[0], ["input2"]]
    assert report["measure"] == "bernoulli"
    model, (batch, _) = their_code.two_inputs(), their_code.records()
    with torch.no_grad():
        a, v = (model.encode(x) for x in batch["views"])
        z, without = (model.out(model.fusion(one, v)) for one in (a, torch.zeros_like(a)))
    p, q = z.sigmoid(), without.sigmoid()
    expected = (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()).mean().item()
    assert report["influence"]["a"]["mean"] == pytest.approx(expected, rel=1e-4)


def read(project: Path, directory: str = "out") -> dict:
    return json.loads((project / directory / "report.json").read_text())


@pytest.mark.parametrize(
    ("data", "code", "said"),
    [("interrupted_half_way", 130, "interrupted"), ("raising_half_way", 3, "OSError: disk")],
)
def test_what_ends_early_leaves_a_partial_report(project, capsys, data, code, said):
    assert main(arguments(data=f"their_code:{data}")) == code
    captured = capsys.readouterr()
    assert said in captured.err
    assert "This report is partial" in captured.out
    report = read(project)
    assert report["partial"] is True
    assert report["n_samples"] == 5
    assert "partial" in (project / "out" / "report.md").read_text().lower()


def test_when_no_logit_is_finite_it_cannot_be_measured(project, capsys):
    assert main([*arguments(data="their_code:not_a_number"), "--fail-share", "1"]) == 3
    assert "no sample with finite logits" in capsys.readouterr().err
    assert read(project)["non_finite"] == 4


def test_infinite_thresholds_are_written_and_drawn(project):
    assert main([*arguments(), "ABS_THR", ".inf"]) == 0
    assert read(project)["thresholds"]["ABS_THR"] == "inf"
    assert (project / "out" / "report.html").exists()


@pytest.fixture
def listening():
    """Python's own handler, which a shell takes away from what runs in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_ends_the_collection_and_waits_for_the_report(project, monkeypatch, listening):
    from cmiei_hooks.auditing import run

    assert main(arguments(data="their_code:pressing")) == 130
    report = read(project)
    assert (report["partial"], report["n_samples"]) == (True, 5)
    make = run.build_report

    def pressed(*args, **kwargs):
        signal.raise_signal(signal.SIGINT)
        return make(*args, **kwargs)

    monkeypatch.setattr(run, "build_report", pressed)
    assert main(arguments(output="later")) == 130
    report = read(project, "later")
    assert (report["partial"], report["n_samples"]) == (False, 10)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize(
    ("gate", "code"),
    [
        (["--fail-above", "audio=0.5"], 0),
        (["--fail-above", "audio=0.0001"], 1),
        (["--fail-above", "audio=0.5", "--fail-above", "video=0.0001"], 1),
        (["--fail-share", "0.999"], 0),
        (["--fail-share", "0.2"], 1),
    ],
)
def test_as_a_gate(project, capsys, gate, code):
    assert main([*arguments(), *gate]) == code
    assert bool(capsys.readouterr().err) == bool(code)
    assert read(project)["n_samples"] == 10


def test_settings_come_from_a_file_then_the_options_then_the_end_of_the_line(project):
    (project / "cmiei.yml").write_text(
        "MODEL: {C_MIEI: {DROP: mean, ABS_THR: 0.2, REL_THR: 2.0, HEAD: classifier,"
        " SPLITS: [5, 3], NAMES: [audio, video]}}"
    )
    options = arguments(head="", splits="", names="", config="cmiei.yml")
    assert main(options) == 0
    report = read(project)
    assert (report["drop"], report["thresholds"]["ABS_THR"]) == ("mean", 0.2)
    overrides = ["--drop", "zero", "ABS_THR", "0.1", "MODEL.C_MIEI.REL_THR", "1.5"]
    assert main([*options, *overrides]) == 0
    report = read(project)
    assert (report["drop"], report["names"]) == ("zero", ["audio", "video"])
    assert report["thresholds"] == {"ABS_THR": 0.1, "REL_THR": 1.5, "P_MAX": 0.5}
    assert report["environment"]["config"]["ABS_THR"] == 0.1
    assert main([*options, "ABS_TRH", "1"]) == 2
    assert main([*options, "ABS_THR"]) == 2


def test_the_report_can_be_repeated(project):
    import hashlib

    subprocess.run(
        "git init -q && git add . && git -c user.name=a -c user.email=a@b commit -qm a",
        shell=True,
        check=True,
    )
    assert main(arguments(seed="4")) == 0
    report = read(project)
    environment = report["environment"]
    digest = hashlib.sha256((project / "best.pth").read_bytes()).hexdigest()
    assert report["checkpoint"]["sha256"] == digest
    assert environment["seed"] == 4
    assert environment["versions"]["torch"] == torch.__version__
    assert environment["command"].startswith("cmiei diagnose --model their_code:model")
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    )
    assert environment["git"]["commit"] == commit.stdout.strip()
    assert environment["git"]["dirty"] is False
    assert main(arguments(seed="4", output="again")) == 0
    again = read(project, "again")
    assert again.pop("environment") != report.pop("environment")  # the directory is another
    assert again == report


def test_the_factory_may_take_arguments_and_the_loader_may_be_limited(project):
    import their_code

    torch.save(their_code.sized(4).state_dict(), "four.pth")
    options = arguments(model="their_code:sized", checkpoint="four.pth", limit="5")
    assert main([*options, "--model-args", "outputs=4"]) == 0
    assert read(project)["n_samples"] == 5


def test_a_chain_with_a_function_on_the_command_line(project, capsys):
    import their_code

    torch.save(their_code.functional().state_dict(), "f.pth")
    where = {"model": "their_code:functional", "checkpoint": "f.pth"}
    where["data"] = "their_code:parted_loader"
    options = arguments(**where, head="classifier,torch.relu,out", splits="4,3")
    assert main([*options, "--save-features", "kept.pt"]) == 0
    assert main([*options, "--features", "kept.pt", "--output", "again"]) == 0
    one, two = read(project), read(project, "again")
    assert one["influence"] == two["influence"]
    assert one["influence"]["audio"]["mean"] > 0
    assert one["environment"]["config"]["HEAD"] == ["classifier", "torch.relu", "out"]
    assert main(arguments(**where, head="classifier,torch.tanh,out", splits="4,3")) == 3
    assert "does not give the logits" in capsys.readouterr().err


def test_the_batch_axis_is_refused_on_the_command_line(project, capsys):
    assert main(arguments(dim="0")) == 3
    assert "modalities on the batch axis have no influence" in capsys.readouterr().err


def test_saved_features_give_the_same_with_the_head_alone(project):
    chain = {"head": "encode,classifier", "splits": "", "modalities": "{a: [[0, 4]], v: [[4, 6]]}"}
    for name, where in (("single", {}), ("chain", {"names": "", **chain})):
        kept = arguments(output=name, **where, **{"save-features": f"{name}.pt"})
        assert main([*kept, "--labels", "1"]) == 0
        again = arguments(output=f"{name}2", data="", **where, features=f"{name}.pt")
        assert main(again) == 0
        one, two = read(project, name), read(project, f"{name}2")
        del one["environment"], two["environment"]
        assert one == two
    assert main(arguments(head="encode", data="", features="single.pt", splits="4,2")) == 3
    import their_code

    torch.manual_seed(9)
    torch.save(their_code.model().state_dict(), "other.pth")
    other = arguments(checkpoint="other.pth", data="", features="single.pt")
    assert main(other) == 3
    assert main([*arguments(data="", features="single.pt"), "--training-branch"]) == 3


def test_a_directory_of_epochs_shows_the_trend(project):
    import their_code

    (project / "epochs").mkdir()
    for epoch in (10, 9, 2):
        torch.manual_seed(epoch)
        state = their_code.model().state_dict()
        torch.save(state, project / "epochs" / f"epoch_{epoch}.pth")
    assert main(arguments(checkpoint="epochs")) == 0
    report = read(project)
    names = [point["checkpoint"] for point in report["trend"]]
    assert names == ["epoch_2.pth", "epoch_9.pth", "epoch_10.pth"]
    assert report["trend"][-1]["influence"]["audio"] == report["influence"]["audio"]["mean"]
    assert report["checkpoint"]["path"].endswith("epoch_10.pth")
    assert main(arguments(checkpoint="epochs/epoch_2.pth", output="two")) == 0
    alone = read(project, "two")["influence"]["audio"]["mean"]
    assert report["trend"][0]["influence"]["audio"] == alone
    whole = torch.load("epochs/epoch_2.pth", weights_only=True)
    head_only = {k: v for k, v in whole.items() if k.startswith("classifier")}
    torch.save(head_only, "epochs/epoch_11.pth")
    assert main(arguments(checkpoint="epochs", seed="3")) == 0
    report = read(project)
    assert report["trend"][-1]["missing"] == 2
    assert main(arguments(checkpoint="epochs/epoch_11.pth", output="two", seed="3")) == 0
    assert read(project, "two")["influence"] == report["influence"]
    (project / "epochs" / "epoch_12.pth").write_bytes(b"broken")
    assert main(arguments(checkpoint="epochs")) == 3
    report = read(project)
    assert report["partial"] is True
    assert len(report["trend"]) == 4
    assert main(arguments(checkpoint="epochs", features="single.pt", data="")) == 2
    (project / "nothing").mkdir()
    assert main(arguments(checkpoint="nothing")) == 3


def test_safetensors(project):
    safetensors = pytest.importorskip("safetensors.torch", reason="an optional extra")
    weights = torch.load("best.pth", weights_only=True)["state_dict"]
    safetensors.save_file(weights, "best.safetensors")
    assert main(arguments(checkpoint="best.safetensors", output="other")) == 0
    assert main(arguments()) == 0
    assert read(project, "other")["influence"] == read(project)["influence"]


def test_autocast_is_used_when_asked_for(project):
    assert main([*arguments(), "--amp"]) == 0
    half = read(project)
    assert main(arguments()) == 0
    full = read(project)
    assert half["influence"] != full["influence"]
    mean = full["influence"]["audio"]["mean"]
    assert half["influence"]["audio"]["mean"] == pytest.approx(mean, rel=0.1)


@pytest.mark.slow
def test_under_torchrun_the_values_are_those_of_one_process(python, project):
    options = arguments(data="their_code:shuffled", limit="18")
    assert main([*options, "--save-features", "f.pt"]) == 0
    one = read(project)
    words = [ROOT / "tools" / "diagnose.py", *options[1:], "--output", "two"]
    done = torchrun(python, *words, path=project)
    assert done.returncode == 0, done.stderr
    two = read(project, "two")
    assert one["n_samples"] == two["n_samples"] == 20
    assert two.pop("environment")["processes"] == 2
    del one["environment"]
    assert one == two
    assert done.stdout.count("Audit of ") == 1
    again = arguments(data="", features="f.pt", output="three")
    words = [ROOT / "tools" / "diagnose.py", *again[1:], "--fail-share", "0.01"]
    ranks = python.run_ranks(words, env={"PYTHONPATH": f"{ROOT}:{project}"})
    assert [done.returncode for done in ranks] == [1, 1]
    assert ["dominates" in done.stderr for done in ranks] == [True, False]
    three = read(project, "three")
    del three["environment"]
    assert one == three


def test_discover_prints_a_line_that_attaches(project, capsys):
    options = ["diagnose", "--discover", "--model", "their_code:parted", "--data"]
    assert main([*options, "their_code:parted_loader"]) == 0
    line = 'cmiei_hooks.attach(model, head="classifier", splits=[4, 3], names=["a", "v"])'
    assert line in capsys.readouterr().out.splitlines()
    assert main([*options, "their_code:loader"]) == 3
    assert main([*options, "their_code:no_loader"]) == 3
    assert main(options[:-1]) == 2
    assert "missing --data" in capsys.readouterr().err
    known = [*options, "their_code:parted_loader"]
    assert main([*known, "--checkpoint", "worst.pth"]) == 3


def test_discover_runs_what_forward_calls(project, capsys):
    """``TwoInputs`` calls its fusion in training only, and needs its labels there."""
    options = ["diagnose", "--discover", "--model", "their_code:two_inputs"]
    options += ["--data", "their_code:records", "--forward", "their_code:forward"]
    for more in ([], ["--training-branch"]):
        assert main([*options, *more]) == 0
        printed = capsys.readouterr().out.splitlines()
        line = next(line for line in printed if line.startswith("# cmiei diagnose "))
        assert "--head fusion,out --modalities" in line
        assert "--measure bernoulli --training-branch" in line
    # The options that it prints are those that an audit needs.
    words = shlex.split(line.removeprefix("# cmiei diagnose "))
    torch.save(__import__("their_code").two_inputs().state_dict(), "two.pth")
    audit = [*options[:1], *options[2:], "--checkpoint", "two.pth", *words, "--output", "two"]
    assert main(audit) == 0
    assert read(project, "two")["n_samples"] == 10


def test_discover_runs_forward_in_the_branch_that_is_named(project, capsys):
    options = ["diagnose", "--discover", "--model", "their_code:two_inputs"]
    options += ["--data", "their_code:records", "--forward", "their_code:in_training_only"]
    assert main([*options, "--training-branch"]) == 0
    assert main(options) == 3
    assert "does not call the model" in capsys.readouterr().err


@pytest.mark.negative_control
def test_a_forward_that_calls_a_part_of_the_model_is_refused(project, capsys, golden):
    options = ["diagnose", "--discover", "--model", "their_code:parted", "--data"]
    options += ["their_code:parted_loader", "--forward", "their_code:parts"]
    assert main(options) == 3
    golden(capsys.readouterr().err)


def test_discover_groups_and_ignores_inputs(project, capsys):
    options = ["diagnose", "--discover", "--model", "their_code:parted", "--data"]
    options += ["their_code:parted_loader"]
    assert main([*options, "--together", "sound=a", "--ignore", "2"]) == 3
    assert "the model gets no input 2" in capsys.readouterr().err
    assert main([*options, "--together", "sound=a", "--together", "vision=1"]) == 0
    assert "--splits sound=4,vision=3" in capsys.readouterr().out
    assert main([*options, "--ignore", "v"]) == 3
    assert main(arguments(ignore="v")) == 2
    assert main(arguments(together="sound=a")) == 2


def test_drop_is_handed_on(project):
    for drop in ("zero", "mean"):
        assert main(arguments(drop=drop, output=drop)) == 0
    zero, mean = (json.loads(Path(d, "report.json").read_text()) for d in ("zero", "mean"))
    assert (zero["drop"], mean["drop"]) == ("zero", "mean")
    assert zero["influence"] != mean["influence"]


def test_names_are_not_taken_for_markup(project, capsys):
    assert main(arguments(names="[red]a,[/b]")) == 0
    assert "[red]a" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"data": ""}, 2),
        ({"modalities": "{a: 0, v: 1}"}, 2),
        ({"splits": "", "modalities": "{a: 0}"}, 3),
        ({"forward": "their_code:backward"}, 3),
        ({"logits": "2.5"}, 3),
        ({"model": "", "head": ""}, 2),
        ({"splits": ""}, 2),
        ({"fail-above": "vidoe=1"}, 2),
        ({"model-args": "depth=3"}, 3),
        ({"labels": "3"}, 3),
        ({"config": "none.yml"}, 2),
        ({"features": "none.pt"}, 3),
        ({"data": "their_code:raising"}, 3),
        ({"data": "their_code:empty"}, 3),
        ({"data": "their_code:exiting"}, 3),
        ({"save-features": "best.pth/f.pt"}, 3),
        ({"head": "clasifier"}, 3),
        ({"splits": "5,4"}, 3),
        ({"names": "a"}, 2),
        ({"checkpoint": "worst.pth"}, 3),
        ({"model": "their_code:mdoel"}, 3),
        ({"model": "their_code:no_model"}, 3),
        ({"data": "their_code:no_loader"}, 3),
        ({"data": "their_code:other_batches"}, 3),
        ({"model": "their_code:needs_arguments"}, 3),
        ({"model": ".their_code:model"}, 2),
        ({"output": "best.pth"}, 3),
        ({"data": "their_code:interrupted"}, 130),
        ({"device": "cuda:99"}, 3),
        ({"device": "gpu"}, 3),
        ({"weights": "ema"}, 3),
        ({"inputs": "4"}, 3),
    ],
)
def test_errors_have_a_message_and_an_exit_code(project, capsys, golden, changes, code):
    assert main(arguments(**changes)) == code
    error = capsys.readouterr().err
    if "Traceback" in error:  # of the user's code
        golden(error.splitlines()[-1])
    else:
        golden(error.splitlines()[0])  # the rest may be what torch says
    assert ("Traceback" in error) == ("their_code:raising" in changes.values())
    assert not (project / "out" / "report.json").exists()


def test_code_that_ends_the_process_is_told_in_four_parts(project, capsys):
    assert main(arguments(data="their_code:exiting")) == 3
    error = capsys.readouterr().err
    assert all(f"\n  {part}: " in error for part in ("got", "expected", "remedy"))


@pytest.mark.parametrize(
    "argv",
    [[], ["nonsense"], arguments(splits="5,x"), arguments(modalities="{a: ["), ["demo", "--no"]],
)
def test_a_wrong_command_line_exits_with_2(project, argv, capsys):
    assert main(argv) == 2
    assert capsys.readouterr().err.startswith("cmiei")


@pytest.mark.slow
@pytest.mark.parametrize("tool", ["diagnose", "demo", "validate"])
def test_the_tools_run_from_anywhere_without_installation(tmp_path, tool):
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / f"{tool}.py"), "--help"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"cmiei {tool}" in done.stdout
