"""A report with every kind of part, all of whose texts can be hostile."""

from __future__ import annotations

from cmiei_hooks.reporting import (
    Card,
    Cell,
    Code,
    Dot,
    DotPlot,
    Grid,
    Histogram,
    LinePlot,
    Report,
    Section,
    Table,
)

ESCAPES = "\x1b[31mred \x00\x07\u202eturned\ud800 \ufeff\u2028"
HOSTILE = (
    '<script>alert("x")</script>',
    "\"' onload='alert(1)",
    "{{ 7 * 7 }}{% raw %}",
    "a|b `c` [d](http://e) @f & *g* 'h'\n# i",
    "[red]a[/red] [/b] [link=http://e]x[/link]",
    "x" * 500,
    "W\u00e4rme \u71b1 " + ESCAPES,
)


def report(word: str = "word") -> Report:
    table = Table(
        f"caption {word}",
        (f"head {word}", "value"),
        [
            (word, "1"),
            ("shaded", Cell("50%", word, shade=0.5)),
            ("good", Cell(word, tone="good")),
        ],
    )
    prose = Table("prose", ("what", "value"), [(word, word)], prose=True)
    long = Table("long", ("row", "value"), [(f"row {i}", str(i)) for i in range(20)], long=True)
    here = Table("only here", ("what", "value"), [(word, "1")], media=("html",))
    hidden = Table(f"values {word}", ("what", "value"), [(word, "1")], folded=True)
    dots = DotPlot(
        word, [Dot(word, word, 0.5, 0.25, 1.0, (0.1, 0.2), 0), Dot("b", word, None)], word
    )
    lines = {word: [0.5, None], "c": [0.1, 0.2]}
    grid = Grid(
        [
            LinePlot(word, [word, "b"], lines, word, share=True),
            Histogram(word, [0.1, 1.0], [1, 5, 2], 1, word),
        ]
    )
    return Report(
        f"title {word}",
        [
            Section(f"first {word}", [word, dots, grid, table], word),
            Section("outer", [Section(word, [prose, here, long])]),
            Section("plots", [dots, hidden]),
            Section("folded", [Code(word), prose], folded=True),
        ],
        subtitle=word,
        conclusion=word,
        caveats=[word],
        warnings=[word],
        cards=[Card(word, word, word)],
        note=word,
    )
