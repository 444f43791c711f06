"""``cmiei discover`` and ``cmiei verify``: what ``diagnose --discover`` and ``--verify`` do."""

from __future__ import annotations

import pytest
import torch

from cmiei_hooks import verify
from cmiei_hooks.cli import main

MODEL = ["--model", "their_code:parted", "--data", "their_code:parted_loader"]
HEAD = ["--head", "classifier", "--splits", "4,3", "--names", "a,v"]


def printed(capsys, words: list[str], code: int = 0) -> str:
    assert main(words) == code
    return capsys.readouterr().out


def test_discover_is_the_option_of_diagnose(their_code, capsys):
    own = printed(capsys, ["discover", *MODEL])
    assert 'attach(model, head="classifier", splits=[4, 3], names=["a", "v"])' in own
    assert own == printed(capsys, ["diagnose", "--discover", *MODEL])
    grouped = ["--together", "sound=a", "--together", "vision=1"]
    assert "--splits sound=4,vision=3" in printed(capsys, ["discover", *MODEL, *grouped])


def test_what_discover_prints_is_verified_and_audited(their_code, capsys):
    lines = printed(capsys, ["discover", *MODEL]).splitlines()
    found = next(line for line in lines if line.startswith("# cmiei diagnose "))
    words = found.removeprefix("# cmiei diagnose ").split()
    assert main(["verify", *MODEL, *words]) == 0
    torch.save(their_code.parted().state_dict(), "best.pth")
    assert main(["diagnose", *MODEL, "--checkpoint", "best.pth", *words]) == 0


def test_verify_prints_what_python_prints(their_code, capsys):
    own = printed(capsys, ["verify", *MODEL, *HEAD])
    assert own == printed(capsys, ["diagnose", "--verify", *MODEL, *HEAD])
    ((a, v, _),) = their_code.parted_loader()
    assert verify(their_code.parted(), a, v, head="classifier", splits=[4, 3], names=["a", "v"]).ok
    assert own == capsys.readouterr().out


def test_verify_takes_a_forward_of_the_users(their_code, capsys):
    own = printed(capsys, ["verify", *MODEL, *HEAD])
    words = ["--data", "their_code:parted_dicts", "--forward", "their_code:parted_forward"]
    assert own == printed(capsys, ["verify", *MODEL, *words, *HEAD])


@pytest.mark.negative_control
@pytest.mark.parametrize(
    "wrong",
    [["--splits", "5,2"], ["--head", "audio"], ["--splits", "3,4"], ["--names", "v,a"]],
    ids=" ".join,
)
def test_verify_ends_with_1_if_a_check_says_no(their_code, capsys, wrong):
    assert "│ no │" in printed(capsys, ["verify", *MODEL, *HEAD, *wrong], 1)


def test_the_weights_of_a_checkpoint_are_loaded(their_code, capsys):
    torch.save({"classifier.weight": torch.zeros(3, 7)}, "zeros.pth")
    weights = ["--checkpoint", "zeros.pth"]
    assert "multiplies it by 0" in printed(capsys, ["verify", *MODEL, *HEAD, *weights], 1)
    assert "permuting a changes nothing" in printed(capsys, ["discover", *MODEL, *weights])
    for command in (["discover", *MODEL], ["verify", *MODEL, *HEAD]):
        assert main([*command, "--checkpoint", "none.pth"]) == 3
        assert "none.pth: the checkpoint cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["discover"], ["verify", *HEAD]], ids=lambda words: words[0])
def test_without_a_batch_there_is_nothing_to_run(their_code, capsys, command):
    assert main([*command, *MODEL, "--data", "their_code:empty"]) == 3
    assert "there is no batch to run the model with" in capsys.readouterr().err
