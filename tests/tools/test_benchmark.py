"""What the benchmark times is what it says; how long it takes is not tested."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET

import pytest
import torch

from cmiei_hooks.counterfactual import influence_of_linear
from cmiei_hooks.training import Published
from tools.benchmark.__main__ import main
from tools.benchmark.head import (
    Shape,
    between_estimates,
    captured_head,
    steps,
    training,
    with_differences,
)
from tools.benchmark.parts import parts
from tools.benchmark.plot import plot
from tools.benchmark.timing import Timing, in_turns

CPU = torch.device("cpu")
LINEAR, MLP = Shape(4, 3, 7), Shape(4, 3, 7, modalities=2, hidden=5)


@pytest.mark.parametrize("shape", [LINEAR, MLP], ids=str)
def test_everything_that_is_timed_runs(shape):
    functions = steps(shape, CPU)
    assert list(functions)[:2] == ["one head forward", f"{1 + shape.modalities} forwards"]
    assert list(functions)[-2:] == ["observing", "acting"]
    timed = {**functions, **training(shape, CPU), **parts(shape, CPU)}
    for timing in in_turns(timed, 2, CPU).values():
        low, median, high = timing.quartiles
        assert 0 < low <= median <= high


def test_the_attached_steps_are_shown_as_what_they_add():
    plain, observing, acting = Timing((2.0, 2.0)), Timing((3.0, 5.0)), Timing((5.0, 9.0))
    timed = {"a training step of the head": plain, "observing": observing, "acting": acting}
    assert with_differences(timed) == {
        "a training step of the head": plain,
        "observing adds": Timing((1.0, 3.0)),
        "acting adds": Timing((3.0, 7.0)),
    }


def test_the_step_that_acts_substitutes_and_the_one_that_observes_does_not(monkeypatch):
    done = []
    replace = Published.replace
    monkeypatch.setattr(Published, "replace", lambda *args: done.append(args[2]) or replace(*args))
    functions = steps(LINEAR, CPU)
    functions["observing"]()
    assert not done
    functions["acting"]()
    assert len(done) == 1


def test_the_estimate_that_is_timed_is_not_the_general_one():
    for shape in (LINEAR, MLP):
        assert influence_of_linear(*captured_head(shape, CPU)) is not None


def test_captum_is_left_out_where_it_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    assert not any("Captum" in name for name in steps(LINEAR, CPU))


def test_between_estimates_the_hook_counts_and_does_not_measure():
    functions = between_estimates(5)
    assert list(functions) == ["empty pre-hook", "attached"]
    for function in functions.values():
        function()


def test_functions_take_turns():
    calls = []
    in_turns({name: lambda name=name: calls.append(name) for name in "ab"}, 3, CPU)
    assert calls == ["a", "b"] * 4  # the first round is not counted


def test_a_ratio_is_of_medians():
    assert Timing((1.0, 3.0, 5.0)).times(Timing((1.0, 2.0, 9.0))) == 1.5


def test_the_plot_shows_every_way_at_every_head():
    way = {"median_s": 2.0, "quartiles_s": [1.0, 3.0], "ratio": 2.0}
    forward = {**way, "ratio": 1.0}
    timed = {"one head forward": forward, "4 forwards": way, "a training step of the head": way}
    picture = ET.fromstring(plot({"(1, 2)": timed, "(3, 4)": timed}))
    said = "|".join(picture.itertext())
    assert said.count("4 forwards") == 4  # the name and the tooltip of each
    assert "(1, 2): 2.00" in said
    assert "(3, 4): 2.00" in said
    assert "training step" not in said


def test_one_round_is_refused(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["benchmark", "--rounds", "1"])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    assert "--rounds" in capsys.readouterr().err
