"""Wrong command lines: what is said, and that what it says to write is right."""

from __future__ import annotations

import shlex

import pytest

from cmiei_hooks.cli import commands, main, run_options
from cmiei_hooks.errors import UsageError

PROJECT = """
def model(depth=1): ...
def loader(): ...
def _private(): ...
"""

MODEL = "--model my:model --data my:loader"
HEAD = "--head classifier --splits 5,3"
CHECKPOINT = "--checkpoint best.pth"
WEIGHTS = "'my weights.pth'"
RUN = f"run {HEAD} --act --warmup-steps 9"
RIGHT = f"diagnose {MODEL} {CHECKPOINT} {HEAD}"


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    """A user's directory, and a terminal of one width."""
    here = tmp_path / "here"
    (here / "package").mkdir(parents=True)
    (here / "my.py").write_text(PROJECT)
    (here / "package" / "nets.py").write_text(PROJECT)
    (tmp_path / "outside.py").write_text(PROJECT)
    (here / "best.pth").touch()
    (here / "my weights.pth").touch()
    (here / "epochs").mkdir()
    (here / "cmiei.yml").write_text("MODEL: {C_MIEI: {}}")
    monkeypatch.chdir(here)
    monkeypatch.setenv("COLUMNS", "100")
    return here


def read(line: str) -> object:
    words = shlex.split(line)
    own, program = run_options.split_program(words)
    return commands._read(own, words, program)


# The wrong line, what is to be written, and the line in which it is written.
REMEDIES = [
    # settings
    (f"{RIGHT} REL_THR=2", "write REL_THR 2", f"{RIGHT} REL_THR 2"),
    (f"{RIGHT} REL_THR=2 ABS_THR=0.1", "write REL_THR 2", f"{RIGHT} REL_THR 2 ABS_THR 0.1"),
    (f"{RIGHT} rel_thr 2", "write REL_THR 2", f"{RIGHT} REL_THR 2"),
    (f"{RIGHT} rel-thr 2", "write REL_THR 2", f"{RIGHT} REL_THR 2"),
    (f"{RIGHT} REL_THR: 2", "write REL_THR 2", f"{RIGHT} REL_THR 2"),
    (f"{RIGHT} MODEL.C_MIEI.rel_thr 2", "write REL_THR 2", f"{RIGHT} REL_THR 2"),
    (f"{RIGHT} --rel-thr 2", "write REL_THR 2 behind the options", f"{RIGHT} REL_THR 2"),
    (f"{RIGHT} --REL_THR=2", "write REL_THR 2 behind the options", f"{RIGHT} REL_THR 2"),
    (f"{RIGHT} REL_TRH 2", "did you mean 'REL_THR'", f"{RIGHT} REL_THR 2"),
    (f"{RIGHT} REL_THR", "write a value behind REL_THR", f"{RIGHT} REL_THR 1.25"),
    (f"{RIGHT} REL_THR ABS_THR 1", "write a value behind REL_THR", f"{RIGHT} REL_THR 2 ABS_THR 1"),
    (f"{RIGHT} K 3 --amp SIGMA 1", "write all of them at the end", f"{RIGHT} --amp K 3 SIGMA 1"),
    # several words for one
    (f"{RIGHT} --splits 32 48 24", "write --splits 32,48,24", f"{RIGHT} --splits 32,48,24"),
    (f"{RIGHT} --splits 32, 48, 24", "write --splits 32,48,24", f"{RIGHT} --splits 32,48,24"),
    (f"{RIGHT} --splits [32, 48, 24]", "write --splits 32,48,24", f"{RIGHT} --splits 32,48,24"),
    (f"{RIGHT} --splits 32 48 K 2", "write --splits 32,48", f"{RIGHT} --splits 32,48 K 2"),
    (f"{RIGHT} --splits a=32 b=48", "write --splits a=32,b=48", f"{RIGHT} --splits a=32,b=48"),
    (f"{RIGHT} --names a v", "write --names a,v", f"{RIGHT} --names a,v"),
    (f"{RIGHT} --head neck classifier", "write --head neck,classifier", f"{RIGHT} --head neck,c"),
    (f"{RIGHT} --inputs 0 1", "write --inputs 0,1", f"{RIGHT} --inputs 0,1"),
    (
        f"{RIGHT} --model-args a=1 b=2",
        "write --model-args a=1 --model-args b=2",
        f"{RIGHT} --model-args a=1 --model-args b=2",
    ),
    (f"{RIGHT} --fail-above a 0.5", "write --fail-above a=0.5", f"{RIGHT} --fail-above a=0.5"),
    (f"{RIGHT} --model-args depth 3", "--model-args depth=3", f"{RIGHT} --model-args depth=3"),
    (f"{RIGHT} --checkpoint epochs/1.pth epochs/2.pth", "--checkpoint epochs", RIGHT),
    (
        f"diagnose {MODEL} --head classifier {CHECKPOINT} --modalities {{a: 0, b: 1}}",
        "write --modalities '{a: 0, b: 1}'",
        f"diagnose {MODEL} --head classifier {CHECKPOINT} --modalities '{{a: 0, b: 1}}'",
    ),
    (f"{RIGHT} --checkpoint my weights.pth", "'my weights.pth'", RIGHT),
    # one word, written in another way
    (f"{RIGHT} --splits [32,48]", "write --splits 32,48", f"{RIGHT} --splits 32,48"),
    (f"{RIGHT} --splits '(32, 48)'", "write --splits 32,48", f"{RIGHT} --splits 32,48"),
    (f"{RIGHT} --splits '32 48'", "write --splits 32,48", f"{RIGHT} --splits 32,48"),
    (f"{RIGHT} --splits 32x48", "write --splits 32,48", f"{RIGHT} --splits 32,48"),
    (f"{RIGHT} --splits a:32,b:48", "write --splits a=32,b=48", f"{RIGHT} --splits a=32,b=48"),
    (f"{RIGHT} --splits '{{a: 32, b: 48}}'", "--splits a=32,b=48", f"{RIGHT} --splits a=32,b=48"),
    (f"{RIGHT} --splits a,b", "cmiei discover prints the widths", f"discover {MODEL}"),
    (f"{RIGHT} --names [a,v]", "write --names a,v", f"{RIGHT} --names a,v"),
    (f"{RIGHT} --head [neck,c]", "write --head neck,c", f"{RIGHT} --head neck,c"),
    (f"{RIGHT} --inputs [0,1]", "write --inputs 0,1", f"{RIGHT} --inputs 0,1"),
    (f"{RIGHT} --fill text:0", "write --fill text=0", f"{RIGHT} --fill text=0"),
    (f"{RIGHT} --model-args depth:3", "--model-args depth=3", f"{RIGHT} --model-args depth=3"),
    (f"{RIGHT} --fail-share 80%", "write --fail-share 0.8", f"{RIGHT} --fail-share 0.8"),
    (f"{RIGHT} --limit 1e3", "write --limit 1000", f"{RIGHT} --limit 1000"),
    (f"{RIGHT} --limit 1,000", "write --limit 1000", f"{RIGHT} --limit 1000"),
    (f"{RIGHT} --measure KL", "did you mean 'kl'", f"{RIGHT} --measure kl"),
    # functions
    ("discover --model my.py:model --data my:loader", "--model my:model", f"discover {MODEL}"),
    ("discover --model ./my.py:model --data my:loader", "--model my:model", f"discover {MODEL}"),
    ("discover --model my::model --data my:loader", "--model my:model", f"discover {MODEL}"),
    ("discover --model my.model --data my:loader", "--model my:model", f"discover {MODEL}"),
    ("discover --model 'my:model()' --data my:loader", "--model my:model", f"discover {MODEL}"),
    ("discover --model my.py --data my:loader", "functions: model, loader", f"discover {MODEL}"),
    (
        "discover --model package/nets.py:model --data my:loader",
        "write --model package.nets:model",
        "discover --model package.nets:model --data my:loader",
    ),
    # options and words that are out of place
    (f"{RIGHT} --spilts 3,4", "did you mean --splits?", RIGHT),
    (f"{RIGHT} -names a,v", "write --names a,v", f"{RIGHT} --names a,v"),
    (f"{RIGHT} --training_branch", "write --training-branch", f"{RIGHT} --training-branch"),
    (f"{RIGHT} \N{EM DASH}names a,v", "write --names a,v", f"{RIGHT} --names a,v"),
    (f"{RIGHT} --mod my:model", "--model, --model-args, --modalities", RIGHT),
    (f"diagnose {MODEL} {HEAD} best.pth", "write --checkpoint best.pth", RIGHT),
    (f"diagnose best.pth {MODEL} {HEAD}", "write --checkpoint best.pth", RIGHT),
    (f"diagnose epochs {MODEL} {HEAD}", "write --checkpoint epochs", RIGHT),
    (f"{RIGHT} cmiei.yml", "write --config cmiei.yml", f"{RIGHT} --config cmiei.yml"),
    (f"diagnose {HEAD} my:model", "write --model my:model or --data my:model", RIGHT),
    (f"{RIGHT} splits 5,3", "write --splits 5,3", RIGHT),
    (f"{RIGHT} names=a,v", "write --names a,v", f"{RIGHT} --names a,v"),
    ("demo --limit 3", "an option of cmiei diagnose", f"{RIGHT} --limit 3"),
    # what is missing
    (f"diagnose {MODEL} {CHECKPOINT}", "add --discover", f"diagnose {MODEL} --discover"),
    (f"verify {MODEL}", "discover --model my:model --data my:loader", f"discover {MODEL}"),
    ("diagnose --features f.pt", "cmiei discover --model MODULE:FUNCTION", f"discover {MODEL}"),
    (f"diagnose {MODEL} {HEAD}", "add it", RIGHT),
    (f"{RIGHT} --ignore mask", "add --discover", f"{RIGHT} --ignore mask --discover"),
    # values out of range, or in another form
    (f"{RIGHT} --limit many", "use digits alone, such as 3", f"{RIGHT} --limit 3"),
    (f"{RIGHT} --limit 0", "leave it out for all samples", RIGHT),
    (f"{RIGHT} --fail-share most", "write --fail-share 0.8 for 80 %", f"{RIGHT} --fail-share 0.8"),
    (f"{RIGHT} --fail-above a", "write --fail-above NAME=0.5", f"{RIGHT} --fail-above a=0.5"),
    (f"{RIGHT} --fail-above a=b", "write --fail-above a=0.5", f"{RIGHT} --fail-above a=0.5"),
    (f"{RIGHT} --model-args depth", "--model-args depth=VALUE", f"{RIGHT} --model-args depth=3"),
    (f"{RIGHT} --model-args =3", "--model-args KEY=VALUE", f"{RIGHT} --model-args depth=3"),
    (f"{RIGHT} --head a=b,c", "name each modality once, as", f"{RIGHT} --head a=b,d=c"),
    (f"{RIGHT} --measure loss", "choose one of them, such as kl", f"{RIGHT} --measure kl"),
    (
        f"discover {MODEL} --together ids,mask",
        "write --together NAME=ids,mask",
        f"discover {MODEL} --together text=ids,mask",
    ),
    # validate
    ("validate --npz a.npz", "name two or more arrays", "validate --npz a.npz --views a,b"),
    ("validate --train a:b --views a,b", "leave --views out, or", "validate --train a:b"),
    ("validate --train a:b --seeds 1", "write --seeds 5", "validate --train a:b --seeds 5"),
    ("validate --train a:b --seeds few", "digits alone", "validate --train a:b --seeds 3"),
    ("validate --train a:b --jobs 0", "leave it out", "validate --train a:b"),
    ("validate --train a:b --jobs -2", "leave it out", "validate --train a:b"),
    ("validate --train a:b --arm c:d", "--arm NAME=c:d", "validate --train a:b --arm NAME=c:d"),
    ("validate --train a:b --arm =c:d", "--arm NAME=c:d", "validate --train a:b --arm NAME=c:d"),
    (
        "validate --train a:b --arm m=c",
        "--arm m=c:FUNCTION",
        "validate --train a:b --arm m=c:d",
    ),
    ("validate --train a:b --args depth", "--args depth=VALUE", "validate --train a:b --args d=3"),
    ("validate --train a:b K", "write a value behind K", "validate --train a:b K 3"),
    ("validate --train a:b SIGMAA 1", "did you mean 'SIGMA'", "validate --train a:b SIGMA 1"),
    ("validate --train a:b --full --arms m", "leave --arms out", "validate --train a:b --full"),
    ("validate", "add one of them", "validate --train a:b"),
    # run
    (
        f"{RUN} --warmup-steps -1 -- my.py",
        "write --warmup-steps 0",
        f"{RUN} -- my.py",
    ),
    (f"{RUN} --epoch-length 0 -- my.py", "len(loader)", f"{RUN} --epoch-length 9 -- my.py"),
    (f"{RUN} -- mine.py", "check the path", f"{RUN} -- my.py"),
    (f"{RUN} -- python my.py", "leave out python", f"{RUN} -- my.py"),
    (f"{RUN} -- my", "write -m my, or the name of the file", f"{RUN} -- -m my"),
    (f"{RUN} -- package/nets", "write -m package.nets", f"{RUN} -- -m package.nets"),
    (f"{RUN} -- mine", "write -m mine if it is a module", f"{RUN} -- -m mine"),
    (f"{RUN} --", "write it after --", f"{RUN} -- my.py"),
    (f"{RUN} -- -m", "write it after --", f"{RUN} -- -m my"),
    # others
    ("compare", "add it", f"compare best.pth {WEIGHTS} {MODEL} {HEAD}"),
    # commands
    ("diagnoze", "did you mean 'diagnose'", "diagnose"),
    (f"audit {MODEL}", "write cmiei diagnose", RIGHT),
    (f"{MODEL} {HEAD}", "cmiei diagnose --model my:model", RIGHT),
]


@pytest.mark.parametrize(("wrong", "remedy", "right"), REMEDIES, ids=lambda line: line[-40:])
def test_the_remedy_is_said_and_is_right(wrong, remedy, right, golden):
    with pytest.raises(UsageError) as error:
        read(wrong)
    assert remedy in str(error.value)
    assert "\n  got: " in str(error.value)
    assert "\n  expected: " in str(error.value)
    assert "\n  remedy: " in str(error.value)
    golden(error.value)
    read(right)


@pytest.mark.parametrize(
    "line",
    [
        RIGHT,
        f"{RIGHT} --names k,v K 3 ABS_THR 0.1 MODEL.C_MIEI.REL_THR 2",
        f"{RIGHT} K 3 --amp",
        f"{RIGHT} --split 5,3",  # argparse takes the beginning of an option
        f"{RIGHT} --seed -1 --labels -1",
        "diagnose",
        "diagnose --output there --names a,b",
        "demo --seed 3",
        f"discover {MODEL} --together text=ids,mask --ignore 2",
        f"verify {MODEL} {HEAD} K 3",
    ],
)
@pytest.mark.negative_control
def test_a_right_line_is_not_refused(line):
    if "--seed -1" in line:
        line = line.replace("--seed -1", "--dim -1")
    read(line)


@pytest.mark.parametrize(
    "line",
    [
        "help",
        "train.py --epochs 3",
        "diagnose --head",
        "diagnose --discover --verify",
        "diagnose --amp=3",
        f"{RIGHT} whatever",
        f"{RIGHT} --names a,v K 3 whatever",
        f"{RIGHT} WHATEVER 3",
        f"{RIGHT} --whatever 3",
        "diagnose --model no.py:model",
        "diagnose --modalities {a: [",
        "run --head classifier --splits 5,3 train.py --epochs 3",
        "run --head classifier --splits 5,3 -m package.train",
        "run --head classifier",
    ],
)
def test_what_is_said(line, capsys, golden):
    assert main(shlex.split(line)) == 2
    golden(capsys.readouterr().err)


def test_run_without_head_names_the_command_that_finds_it(project, capsys):
    assert main(["run", "--", "my.py", "--epochs", "3"]) == 2
    assert "cmiei run --discover -- my.py --epochs 3 prints them" in capsys.readouterr().err


def test_without_a_command_the_help_lists_them(capsys):
    assert main([]) == 2
    said = capsys.readouterr().err
    assert said.startswith("cmiei: which command?")
    assert all(f"\n    {name} " in said for name in commands._OPTIONS)


def test_a_file_elsewhere_is_named_with_its_directory(project):
    with pytest.raises(UsageError) as error:
        read("discover --model ../outside.py:model --data my:loader")
    assert f"write --model outside:model, with PYTHONPATH={project.parent} " in str(error.value)
