"""The style sheet of the HTML report: light and dark, narrow and wide, on paper."""

from __future__ import annotations

__all__ = ["STYLE"]

# The colours of the modalities differ in lightness too, for readers who do not see all hues.
STYLE = """
:root { color-scheme: light dark; --page: #fff; --ink: #1b1f24; --muted: #57606a; --rule: #d0d7de;
  --soft: #f4f6f8; --heat: 0, 114, 178; --loud: #fff1e0; --loud-edge: #b35900; --link: #0b5cad;
  --c0: #0072b2; --c1: #c65102; --c2: #00795c; --c3: #a13d7a; --c4: #7a5c00; --c5: #5a4fcf; }
@media (prefers-color-scheme: dark) { :root { --page: #14181d; --ink: #e8ebee; --muted: #a3adb8;
  --rule: #3a424b; --soft: #1e242b; --heat: 86, 180, 233; --loud: #3a2a12; --loud-edge: #e8a33d;
  --link: #79b8ff;
  --c0: #56b4e9; --c1: #f2955c; --c2: #3ecf9f; --c3: #eaa0cb; --c4: #e3c04b; --c5: #b3aaf7; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); overflow-wrap: anywhere;
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 1.5rem 1.25rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .25rem; }
h2 { font-size: 1.25rem; margin: 2.75rem 0 .4rem; padding-top: .8rem;
  border-top: 1px solid var(--rule); }
h3 { font-size: 1rem; margin: 1.75rem 0 .3rem; }
p { max-width: 44rem; margin: .5rem 0 .8rem; }
.muted, figcaption { color: var(--muted); }
a { color: var(--link); }
nav ul, .legend { display: flex; flex-wrap: wrap; gap: .15rem 1.1rem; padding: 0; margin: .8rem 0;
  list-style: none; }
.loud { border: 2px solid var(--loud-edge); border-left-width: .6rem; background: var(--loud);
  padding: .5rem 1rem; margin: 1rem 0; font-weight: 600; }
.lead { font-size: 1.1rem; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .75rem;
  margin: 1.25rem 0; }
.tiles > div { background: var(--soft); border: 1px solid var(--rule); border-radius: .4rem;
  padding: .6rem .9rem; min-width: 0; }
.tiles dt { color: var(--muted); font-size: .85rem; }
.tiles dd { margin: 0; font-size: 1.35rem; font-weight: 600; line-height: 1.3; }
.tiles dd small { display: block; font-size: .82rem; font-weight: 400; color: var(--muted); }
.scroll { overflow-x: auto; margin: 0 0 1.25rem; }
.caption { font-size: .92rem; margin: 1.1rem 0 .2rem; }
table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .65rem; text-align: right; border-bottom: 1px solid var(--rule);
  white-space: nowrap; }
th { font-weight: 600; }
thead th { vertical-align: bottom; border-bottom: 2px solid var(--rule); }
th:first-child { text-align: left; padding-left: 0; }
th, .words td { white-space: normal; overflow-wrap: break-word; }
tbody th { font-weight: 400; min-width: 5.5rem; }
.words th { text-align: left; }
.words td { text-align: left; max-width: 38rem; }
th.long, td.long { min-width: 12rem; max-width: 18rem; overflow-wrap: anywhere; }
td small { display: block; font-weight: 600; }
.heat { background: rgba(var(--heat), calc(.04 + .46 * var(--v))); }
.marked { outline: 2px solid var(--ink); outline-offset: -3px; }
figure { margin: 1rem 0; padding: 0 .5rem; }
figcaption { font-size: .9rem; margin-top: .3rem; }
.many { display: grid; grid-template-columns: repeat(auto-fit, minmax(15rem, 1fr)); gap: 1.5rem; }
.many figure { margin: 0; min-width: 0; }
svg { display: block; }
svg text { font-size: 13px; fill: var(--ink); stroke: var(--page); stroke-width: 4px;
  stroke-linejoin: round; paint-order: stroke; font-variant-numeric: tabular-nums; }
svg text.muted { font-size: 12px; fill: var(--muted); }
.grid { stroke: var(--rule); }
.band { fill: var(--muted); fill-opacity: .28; stroke: var(--muted); stroke-dasharray: 3 2; }
.whisker { stroke: var(--ink); stroke-width: 1.5; }
.plot { padding-left: 3.2rem; }
.legend svg { display: inline-block; vertical-align: middle; }
.cn { fill: var(--muted); stroke: var(--muted); }
.c0 { fill: var(--c0); stroke: var(--c0); } .c1 { fill: var(--c1); stroke: var(--c1); }
.c2 { fill: var(--c2); stroke: var(--c2); } .c3 { fill: var(--c3); stroke: var(--c3); }
.c4 { fill: var(--c4); stroke: var(--c4); } .c5 { fill: var(--c5); stroke: var(--c5); }
.mark { stroke: var(--page); }
.bar { stroke: none; opacity: .45; } .line { stroke-width: 2; }
pre { background: var(--soft); border: 1px solid var(--rule); border-radius: .4rem;
  white-space: pre-wrap; padding: .8rem 1rem; user-select: all; font-size: .88rem; }
:focus-visible { outline: 2px solid var(--link); }
@media print { nav { display: none; } main { max-width: none; padding: 0; }
  figure, tr, .tiles, pre { break-inside: avoid; } h2, h3, .caption { break-after: avoid; }
  .scroll { overflow: visible; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; } }
"""
