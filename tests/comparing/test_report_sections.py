"""What the report of a comparison shows, the same in every medium."""

from __future__ import annotations

import pytest
from media import Page, in_terminal, rendered, terminal_tables, text_of
from sample_comparison import sample, unknown, unlabelled

from cmiei_hooks.comparing import Comparison
from cmiei_hooks.comparing.report_sections import in_sections
from cmiei_hooks.reporting import Cell, Grid, MarkPlot, Section, Table, to_html, to_markdown


def several():
    first = sample().comparisons[0]
    return sample(
        comparisons=(first, Comparison("new/a_long_name", first.lines)),
        runs={"plain": ["a"], "equalised": ["b"], "new/a_long_name": ["c"]},
        notes=(),
        left_out=0,
    )


def of_runs():
    (one,) = sample().comparisons
    found = tuple(map(unknown, one.lines[:1])) + one.lines[1:]
    runs = {"plain": ["0.pth", "1.pth"], "equalised": ["2.pth", "3.pth"]}
    return sample(comparisons=(Comparison("equalised", found),), over="runs", runs=runs, notes=())


REPORTS = {
    "all": sample,
    "several": several,
    "of runs": of_runs,
    "without labels": lambda: sample(comparisons=(unlabelled(sample().comparisons[0]),)),
    "of identities": lambda: sample(over="identities", n_samples=5000),
}


@pytest.mark.parametrize("kind", REPORTS)
def test_the_text_in_the_terminal(kind, golden):
    printed = in_terminal(in_sections(REPORTS[kind]()))
    assert max(map(len, printed.splitlines())) <= 80
    golden(printed)


def test_the_text_in_markdown(golden):
    golden(to_markdown(in_sections(sample())))


@pytest.mark.parametrize("kind", ["all", "several"])
def test_the_text_in_html(kind, golden):
    golden(text_of(to_html(in_sections(REPORTS[kind]()))))


def tables_of(sections) -> list[Table]:
    found = []
    for section in sections:
        for part in section.parts:
            found += tables_of([part]) if isinstance(part, Section) else []
            found += [part] if isinstance(part, Table) else []
    return found


def text(cell: str | Cell) -> str:
    words = cell if isinstance(cell, str) else f"{cell.text} {cell.note}".strip()
    return words.replace("(", "").replace(")", "")


@pytest.mark.parametrize("names", [("r", "n", "t"), ("a|b [x](y)", "acc [red]", "<b>&")])
def test_the_media_show_the_same_values(names):
    report = in_sections(sample(names))
    shown = {
        "terminal": terminal_tables(in_terminal(report, width=2000)),
        "markdown": Page(rendered(to_markdown(report))).tables,
        "html": Page(to_html(report)).tables,
    }
    for medium, tables in shown.items():
        made = [table for table in tables_of(report.sections) if medium in table.media]
        for table, cells in zip(made, tables, strict=True):
            rows = [list(table.head), *table.rows]
            assert [list(map(text, row)) for row in cells] == [list(map(text, r)) for r in rows]


def test_every_line_has_its_values_interval_and_verdict():
    report = sample()
    rows = [row for table in tables_of(in_sections(report).sections)[:-1] for row in table.rows]
    lines = report.comparisons[0].lines
    assert len(rows) == len(lines)
    found = {row[0]: row for row in rows[:7]}
    _, before, after, difference, said = found["without r"]
    assert (before, after, difference) == ("94.3%", "96.8%", "+2.5 [+1.4, +3.8]")
    assert (text(said), said.tone) == ("better", "good")
    assert text(found["without n"][-1]) == "better perhaps by chance"
    assert text(found["all modalities"][-1]) == "no difference seen"
    assert (text(found["r alone"][-1]), found["r alone"][-1].tone) == (
        "no difference seen",
        "",
    )


def test_all_runs_are_marked_on_one_axis():
    (glance, *_) = in_sections(several()).sections
    (grid,) = glance.parts
    assert isinstance(grid, Grid)
    (plot,) = grid.plots
    assert isinstance(plot, MarkPlot)
    assert list(grid.legend) == ["plain", "equalised", "new/a_long_name"]
    assert plot.rows["without r"] == [0.943, 0.968, 0.968]


def test_nothing_says_that_the_samples_are_the_same_where_a_warning_says_that_nobody_knows():
    unchecked = "It could not be checked that a and b are of the same samples in the same order."
    report = in_sections(sample(notes=(unchecked,)))
    assert report.warnings == (unchecked,)
    assert "same samples" not in report.note
