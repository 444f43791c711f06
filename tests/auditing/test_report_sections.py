"""What the report of an audit shows: every value, where it belongs, the same in every medium."""

from __future__ import annotations

import math
import re
from dataclasses import fields, replace

import pytest
from media import Page, Rows, in_terminal, rendered, terminal_tables, text_of
from sample_audit import sample

from cmiei_hooks.auditing.bootstrap import Interval
from cmiei_hooks.auditing.report_sections import in_sections
from cmiei_hooks.reporting import DASH, Cell, Section, Table, to_html, to_markdown

WIDE = 2000


def page_of(report) -> Page:
    return Page(to_html(in_sections(report)))


def rows_of(page: Page, *head: str) -> dict[str, list[str]]:
    """The rows of the one table whose header begins so."""
    (found,) = [table for table in page.tables if table[0][: len(head)] == list(head)]
    return {row[0]: row[1:] for row in found[1:]}


def exactly(value: Interval, form: str) -> str:
    return f"{value.mean:{form}} [{value.low:{form}}, {value.high:{form}}]"


def in_points(value: Interval) -> str:
    return exactly(Interval(100 * value.mean, 100 * value.low, 100 * value.high), ".1f")


def test_the_text_in_the_terminal(golden):
    printed = in_terminal(in_sections(sample()))
    assert max(map(len, printed.splitlines())) <= 80
    golden(printed)


def test_the_text_in_markdown(golden):
    golden(to_markdown(in_sections(sample())))


def test_the_text_in_html(golden):
    golden(text_of(to_html(in_sections(sample()))))


def made_tables(sections) -> list[Table]:
    found = []
    for section in sections:
        for part in section.parts:
            found += made_tables([part]) if isinstance(part, Section) else []
            found += [part] if isinstance(part, Table) else []
    return found


@pytest.mark.parametrize("names", [("r", "n", "t"), ("a|b [x](y)", "acc [red]", "<b>&")])
def test_the_media_show_the_same_values(names):
    report = in_sections(sample(names))
    markdown = rendered(to_markdown(report))
    printed = in_terminal(report, width=WIDE)
    shown: dict[str, list[Rows]] = {
        "terminal": terminal_tables(printed),
        "markdown": Page(markdown).tables,
        "html": Page(to_html(report)).tables,
    }
    for medium, tables in shown.items():
        made = [table for table in made_tables(report.sections) if medium in table.media]
        assert len(made) == len(tables)
        for table, cells in zip(made, tables, strict=True):
            expected = [list(table.head), *([text(cell) for cell in row] for row in table.rows)]
            got = [[cell.replace("(", "").replace(")", "") for cell in row] for row in cells]
            plain = [[cell.replace("(", "").replace(")", "") for cell in row] for row in expected]
            assert got == plain[: len(got)]
            assert table.long or len(got) == len(plain)


def text(cell: str | Cell) -> str:
    if isinstance(cell, str):
        return cell
    return f"{cell.text} {cell.note}".strip()


def values(node, path=()):
    """Every number of report.json with the way to it."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from values(value, (*path, key))
    elif isinstance(node, list):
        for i, value in enumerate(node):
            yield from values(value, (*path, i))
    elif isinstance(node, (int, float)) and not isinstance(node, bool):
        yield path, node


def left_out_on_purpose(path, content) -> bool:
    if path[0] == "what_if":
        return content["what_if"][path[1]]["P_MAX"] != 0.5
    if path[0] == "strata":
        return path[2] >= 10 or "interval" in path
    return path[0] in ("histograms", "schema_version") or path[-1] in ("missing", "mismatched")


def test_every_value_of_report_json_is_in_the_html():
    content = sample().to_dict()
    content["null"] = {
        n: {k: v for k, v in f.items() if k != "n"} for n, f in content["null"].items()
    }
    page = page_of(sample()).text
    for path, value in values(content):
        forms = {f"{value:.4f}", f"{value:.1%}", f"{value:.2%}", f"{value:g}", f"{value:,}"}
        forms |= {f"{value:.3f}", f"{value:.0%}", f"{100 * value:.1f}"}
        shown = any(form in page for form in forms)
        assert shown or left_out_on_purpose(path, content), (path, value)


def test_the_values_stand_where_they_belong():
    report = sample()
    page = page_of(report)
    null = {
        n: exactly(Interval(v["mean"], v["low"], v["high"]), ".4f") for n, v in report.null.items()
    }
    influence = rows_of(page, "modality", "influence (nats)")
    same = {name: f"{v['influence']:.4f}" for name, v in report.null.items()}
    for name, p in (("r", "\u2264 0.050"), ("t", "0.850")):
        whole = exactly(report.influence[name], ".4f")
        assert influence[name] == [whole, same[name], null[name], p]
    assert rows_of(page, "modality", "dominant for") == {
        n: [exactly(f, ".1%")] for n, f in report.dominance.items()
    }
    assert f"{exactly(report.triggered, '.1%')} of the samples are triggered" in page.text
    shapley = rows_of(page, "modality", "of the prediction (nats)")
    assert shapley["n"] == [
        exactly(report.shapley["n"], ".4f"),
        in_points(report.shapley_accuracy["n"]),
    ]
    assert shapley["all together"] == [
        exactly(report.shapley_total, ".4f"),
        in_points(report.shapley_accuracy_total),
    ]
    assert rows_of(page, "pair")["n + t"] == [
        exactly(report.interactions[2].interval, ".4f"),
        in_points(report.interactions_accuracy[2].interval),
    ]
    accuracy = rows_of(page, "modality", "without it", "lost (points)")
    assert accuracy["none dropped"] == [exactly(report.accuracy, ".1%"), "", "", ""]
    assert accuracy["n"] == [
        exactly(report.accuracy_without["n"], ".1%"),
        in_points(report.accuracy_loss["n"]),
        exactly(report.accuracy_alone["n"], ".1%"),
        exactly(report.changed_predictions["n"], ".1%"),
    ]
    assert rows_of(page, "modality", "zero", "mean", "permuted")["n"] == [
        exactly(f["n"], ".4f") for f in report.baselines.values()
    ]
    agreed = exactly(report.agreement[0].interval, ".1%")
    assert rows_of(page, "baselines")["zero and mean"] == [agreed, "0.9317"]
    trend = rows_of(page, "checkpoint", "accuracy", "without r", "without n", "without t")
    assert trend["epoch_10.pth"] == ["81.0%", "7.1", "5.1", "3.1"]
    assert trend["epoch_30.pth"] == [DASH, "9.1", "7.1", "5.1"]
    first = report.strata["class"][0]
    assert rows_of(page, "class", "samples", "inequality")["0"] == [
        "12",
        "0.4700",
        *(f"{v:.4f}" for v in first["influence"].values()),
    ]
    assert rows_of(page, "class", "r")["0"] == [f"{v:.1%}" for v in first["dominance"].values()]


def test_the_heat_map_is_that_of_the_configured_cap_and_marks_both_cells():
    html = to_html(in_sections(sample()))
    page = Page(html)
    heat = rows_of(page, "ABS_THR", "REL_THR 1")
    assert list(heat) == ["0", "0.01", "0.02", "0.03", "0.05", "0.1", "0.2"]
    assert heat["0.1"] == ["21.0%", "22.0%", "23.5%", "26.0%", "31.0%"]
    assert heat["0.03"][2] == "16.5% configured"
    assert heat["0.05"][3] == "21.0% suggested"
    assert html.count('"heat marked"') == 2
    cap = rows_of(page, "P_MAX", "triggered", "substituted")
    assert list(cap) == ["0.1", "0.25", "0.5", "1"]
    assert cap["0.1"][:2] == ["15.7%", "10.0%"]


def test_an_infinite_threshold_is_shown():
    tried = sample().what_if
    never = (replace(c, abs_thr=math.inf, triggered=0.0) for c in tried if c.abs_thr == 0.2)
    thresholds = {"ABS_THR": math.inf, "REL_THR": 1.25, "P_MAX": 0.5}
    page = page_of(sample(thresholds=thresholds, what_if=(*tried, *never)))
    assert rows_of(page, "ABS_THR")["inf"][2] == "0.0% configured"


def test_warnings_come_before_everything_else(golden):
    report = in_sections(sample(partial=True))
    golden("\n".join(report.warnings))
    assert not in_sections(sample(non_finite=0)).warnings
    html, markdown, printed = to_html(report), to_markdown(report), in_terminal(report, WIDE)
    for line in report.warnings:
        assert html.index(line) < html.index(report.conclusion)
        assert markdown.index(line) < markdown.index(report.conclusion)
        assert printed.index(line) < printed.index(report.conclusion)


OPTIONAL = {
    "shapley": ["Shapley values"],
    "trend": ["Over the checkpoints"],
    "checkpoint": ["Checkpoint"],
    "strata": ["Groups of samples"],
}


@pytest.mark.parametrize("key", OPTIONAL)
def test_what_was_not_measured_is_left_out(key):
    default = next(f.default for f in fields(type(sample())) if f.name == key)
    empty = {} if key == "strata" else default
    before = [section.title for section in in_sections(sample()).sections]
    after = [section.title for section in in_sections(sample(**{key: empty})).sections]
    assert [title for title in before if title not in after] == OPTIONAL[key]


WITH_LABELS = (
    "accuracy",
    "accuracy_without",
    "accuracy_loss",
    "accuracy_alone",
    "accuracy_none",
    "shapley_accuracy",
    "shapley_accuracy_total",
)
TREND = sample().trend


def test_without_labels_nothing_is_said_of_accuracy():
    changes = {**dict.fromkeys(WITH_LABELS), "interactions_accuracy": (), "strata": {}}
    changes["trend"] = tuple(step | {"accuracy_loss": None, "accuracy": None} for step in TREND)
    report = sample(**changes)
    assert "ccuracy" not in to_html(in_sections(report))
    assert "ccuracy" not in in_terminal(in_sections(report))
    assert "alone" not in rows_of(page_of(sample(accuracy_alone=None)), "modality", "without it")


def test_what_only_training_obeys_is_not_shown():
    """The settings of an audit that cannot change its values."""
    shown = to_html(in_sections(sample())) + to_markdown(in_sections(sample()))
    assert "ABS_THR" in shown
    assert "ENABLED" not in shown
    assert "END_EPOCH" not in shown


def test_the_checkpoints_of_a_directory_come_first():
    assert in_sections(sample()).sections[0].title == "Over the checkpoints"
    assert in_sections(sample(trend=())).sections[0].title == "Without each modality"


def test_the_title_has_the_checkpoint_and_the_day():
    assert in_sections(sample()).title == "Audit of best.pth, 3 February 2026"
    assert in_sections(sample(checkpoint=None)).title == "Audit of head classifier, 3 February 2026"
    assert in_sections(sample(environment={})).title == "Audit of best.pth"


def test_it_is_said_why_shares_do_not_add_up_to_the_accuracy():
    text = page_of(sample()).text
    assert "add up to 97.3 points, not to the accuracy of 98.5%: the head is right for 1.2%" in text
    assert "The losses add up to 14.5 points, not to the accuracy of 98.5%: where two" in text
    more = {n: Interval(0.4, 0.3, 0.5) for n in "rnt"}
    assert "counts twice" in page_of(sample(accuracy_loss=more)).text


@pytest.mark.negative_control
def test_nothing_is_said_where_they_do():
    third = sample().accuracy.mean / 3
    even = {n: Interval(third, third, third) for n in "rnt"}
    zero = Interval(0.0, 0.0, 0.0)
    text = page_of(sample(accuracy_loss=even, accuracy_none=zero)).text
    assert "add up to" not in text


def test_unknown_values_are_dashes():
    nothing = Interval(math.nan, math.nan, math.nan)
    unknown = dict.fromkeys("rnt", nothing)
    null = {
        n: dict.fromkeys(("influence", "mean", "low", "high", "p", "n"), math.nan) for n in "rnt"
    }
    report = sample(influence=unknown, dominance=unknown, null=null, n_samples=0)
    page = page_of(report)
    assert rows_of(page, "modality", "influence (nats)")["r"] == [DASH, DASH, DASH]
    assert rows_of(page, "modality", "dominant for")["n"] == [DASH]
    shown = page.text + in_terminal(in_sections(report)) + to_markdown(in_sections(report))
    assert not re.search(r"\bnan\b", shown)
    assert len(page.tables) == len(page_of(sample()).tables)


def test_a_long_list_of_groups_is_cut_and_says_so():
    page = page_of(sample())
    assert len(rows_of(page, "class", "samples")) == 10
    assert "161 more in report.json." in page.text
    assert len(rows_of(page, "camera", "samples")) == 4
    assert "166 more in report.json." in in_terminal(in_sections(sample()))
