"""The sentences say what the lines show, the consequences first."""

from __future__ import annotations

import pytest
from sample_comparison import line, sample, unknown

from cmiei_hooks.comparing import Comparison
from cmiei_hooks.comparing.conclusion import cards, conclusion, signed_points

DOMINANCE = (
    line("dominance", "r", 0.5, 0.4, 0.03, 0.01),
    line("dominance", "n", 0.5, 0.6, 0.03, 0.01),
)


def told(*lines):
    return conclusion(sample(comparisons=(Comparison("B", (*lines, *DOMINANCE)),)))


@pytest.mark.parametrize(
    "lines",
    [
        [line("accuracy", None, 0.9, 0.8, 0.02, 0.01)],
        [
            line("accuracy", None, 0.9, 0.93, 0.02, 0.2),
            line("accuracy_without", "r", 0.5, 0.7, 0.02, 0.01),
            line("accuracy_without", "n", 0.8, 0.75, 0.02, 0.01),
        ],
        [
            line("accuracy", None, 0.9, 0.9, 0.02, 0.9),
            line("accuracy_without", "r", 0.5, 0.501, 0.02, 0.9),
        ],
        [
            line("influence", "r", 0.19, 0.09, 0.02, 0.01),
            line("influence", "n", 0.1, 0.2, 0.02, 0.5),
        ],
        [line("influence", "r", 0.19, 0.19, 0.02, 1.0)],
        [line("accuracy_without", name, 0.5, 0.6, 0.01, 0.01) for name in "abcdef"],
    ],
    ids=["complete", "both ways", "nothing", "influence", "no influence", "many"],
)
def test_sentences(lines, golden):
    golden("\n".join(told(*lines)))


UNKNOWN = {
    "all": [
        line("accuracy", None, 0.0, 1.0, 0.1, 0.5),
        line("accuracy_without", "r", 0.0, 0.0, 0.1, 0.5),
    ],
    "influence": [line("influence", "r", 0.1, 0.2, 0.1, 0.5)],
}


@pytest.mark.parametrize("kind", UNKNOWN)
def test_of_what_has_no_interval_nothing_is_said_to_be_seen(kind, golden):
    found = tuple(map(unknown, (*UNKNOWN[kind], *DOMINANCE)))
    said = "\n".join(conclusion(sample(comparisons=(Comparison("B", found),))))
    assert "no difference is seen" not in said.lower()
    golden(said)


def test_what_is_certain_is_named_before_what_is_larger():
    said = told(
        line("accuracy_without", "r", 0.5, 0.9, 0.1, 0.2),
        line("accuracy_without", "n", 0.5, 0.55, 0.01, 0.01),
    )[0]
    assert said.index("without n") < said.index("without r")


def test_several_comparisons_get_a_sentence_each():
    (one,) = sample().comparisons
    both = sample(comparisons=(one, Comparison("other", one.lines)))
    first, second = conclusion(both)
    assert "accuracy of equalised" in first
    assert "accuracy of other" in second


def test_of_several_the_complete_accuracy_is_told_where_it_changes():
    worse = (
        line("accuracy", None, 0.32, 0.207, 0.05, 0.01),
        line("accuracy_without", "r", 0.3, 0.3, 0.05, 0.9),
    )
    (one,) = sample().comparisons
    first, second = conclusion(sample(comparisons=(one, Comparison("other", (*worse, *DOMINANCE)))))
    assert "With all modalities" not in first
    assert "With all modalities accuracy is lower (20.7% instead of 32.0%" in second


def test_the_cards_are_of_the_worst_case():
    shown = cards(sample())
    assert [card.name for card in shown] == ["Accuracy", "Accuracy without r", "r dominates"]
    assert [card.value for card in shown] == ["-0.3 points", "+2.5 points", "40.0%"]
    assert shown[0].note.endswith("no difference seen")


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.0926, "+9.3"), (-0.0926, "-9.3"), (0.0, "0.0"), (-1e-9, "0.0"), (1e-9, "0.0")],
)
def test_points_have_a_sign_but_for_zero(value, shown):
    assert signed_points(value) == shown
    assert signed_points(float("nan")) == "–"  # noqa: RUF001  # the dash of unknown values
