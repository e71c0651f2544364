"""How the page looks: one style for light, dark and print, from a phone's width to a wide screen.

Colours are those of Okabe and Ito (2008), darker ones where they stand on white, and cividis (Nuñez, Anderton and
Renslow, PLoS ONE 2018) for weights, as in the terminal.
"""

from __future__ import annotations

from metanas.ui.paper import CIVIDIS

HUES = ("#56b4e9", "#e69f00", "#009e73", "#cc79a7", "#f0e442", "#0072b2", "#d55e00", "#999999")  # of Okabe and Ito

LIGHT = """
--paper: #fff; --ink: #1b1f24; --quiet: #5a626c; --line: #d9dde2; --soft: #f4f6f8; --strip: #0072b218;
--first: #0072b2; --second: #d55e00; --third: #007a59; --fourth: #a8527f;
--good: #00704f; --warn: #8a5a00; --bad: #b34700;
"""
DARK = """
--paper: #14171a; --ink: #e6e9ec; --quiet: #9aa4ae; --line: #333a41; --soft: #1d2226; --strip: #56b4e922;
--first: #56b4e9; --second: #e69f00; --third: #2bbf95; --fourth: #dd9cbf;
--good: #35c79d; --warn: #f0b840; --bad: #ff8a4c;
"""

RULES = """
* { box-sizing: border-box; }
html { background: var(--paper); color: var(--ink); -webkit-text-size-adjust: 100%; }
body { margin: 0 auto; max-width: 1120px; padding: 2rem 1.25rem 3rem;
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  font-variant-numeric: tabular-nums; }
h1 { margin: 0; font-size: 1.75rem; line-height: 1.2; overflow-wrap: anywhere; }
h2 { margin: 0 0 .75rem; padding-bottom: .3rem; border-bottom: 1px solid var(--line); font-size: 1.15rem; }
h2::first-letter { text-transform: uppercase; }
h2 small { margin-left: .5rem; color: var(--quiet); font-size: .85rem; font-weight: 400; }
section { margin-top: 2.5rem; }
p { margin: .5rem 0; }
h1, h2 small, p, td, th, dd, code, b, span, figcaption, pre { unicode-bidi: isolate; }
h1, h2, p, dd, figcaption { overflow-wrap: anywhere; }
code, pre { font: .85em/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, "Liberation Mono", monospace; }
.status { margin-left: .4rem; font-size: .95rem; font-weight: 600; vertical-align: .2em; }
.what, .quiet, footer { color: var(--quiet); }
.what { margin-top: .25rem; }
.result b { margin-right: .25rem; font-size: 1.9rem; line-height: 1.2; }
.result span { margin-left: .75rem; color: var(--quiet); }
.notice { padding: .4rem .75rem; border-left: 4px solid; background: var(--soft); }
.good { color: var(--good); } .warn { color: var(--warn); } .bad { color: var(--bad); }
.key code { color: var(--first); font-weight: 600; }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(165px, 1fr)); gap: .6rem 1.25rem;
  margin: 1.25rem 0 0; }
dl div:last-child { grid-column: 1 / -1; }
dt { color: var(--quiet); font-size: .8rem; } dd { margin: 0; overflow-wrap: anywhere; }
footer { margin-top: 3rem; font-size: .85rem; }

.scrolls { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; }
th, td { padding: .25rem .75rem .25rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
th { color: var(--quiet); font-weight: 400; }
th:first-child, td:first-child { white-space: nowrap; }
th.number, td.number { text-align: right; white-space: nowrap; }
td code { display: block; min-width: 18rem; overflow-wrap: anywhere; }
.log td { border: 0; overflow-wrap: break-word; padding-top: .1rem; padding-bottom: .1rem; }
.heat { border-collapse: separate; border-spacing: 2px; }
.heat th, .heat td { border: 0; padding: .2rem .45rem; white-space: nowrap; }
.heat th { font-size: .8rem; }
.heat td[data-top] { min-width: 4em; text-align: right; }
.heat td:first-child { position: sticky; left: 0; background: var(--paper); }
.heat td.taken { outline: 2px solid var(--ink); outline-offset: -1px; font-weight: 700; }
.heat td.wnone { color: var(--quiet); }
.scale span { display: inline-block; width: 1.1rem; height: .7rem; }
p.legend { margin: .25rem 0 1rem; color: var(--quiet); font-size: .85rem; }
.huenone { fill: none; stroke: var(--line); }
.scrolls + .scrolls { margin-top: 1rem; }

.figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 420px), 1fr)); gap: 1.25rem 2rem; }
.figures + .scrolls { margin-top: 1.25rem; }
figure { margin: 0; min-width: 0; break-inside: avoid; }
figure.wide { margin-bottom: 1rem; } figure.wide svg { min-width: 640px; }
figcaption { display: flex; justify-content: space-between; gap: 1rem; min-height: 1.7rem; font-weight: 600; }
svg { display: block; width: 100%; height: auto; font-size: 12px; fill: var(--ink); }
.grid { stroke: var(--line); } .axis { stroke: var(--quiet); } .level { stroke: var(--quiet); stroke-dasharray: 2 3; }
.tick, .name { fill: var(--quiet); font-size: 11.5px; } .end { text-anchor: end; } .middle { text-anchor: middle; }
.curve { fill: none; stroke-width: 2; stroke-linejoin: round; }
.curve.first, .bar.first { stroke: var(--first); } .curve.first { stroke-dasharray: 6 2.5; }
.curve.second, .bar.second { stroke: var(--second); }
.curve.third, .bar.third { stroke: var(--third); } 
.curve.fourth, .bar.fourth { stroke: var(--fourth); } .curve.fourth { stroke-dasharray: 9 3 2 3; }
.bar { opacity: .45; }
.dot.first { fill: var(--first); } .dot.second { fill: var(--second); }
.dot.third { fill: var(--third); } .dot.fourth { fill: var(--fourth); }
.star { fill: var(--third); font-size: 17px; text-anchor: middle; }
.ring { fill: var(--paper); stroke: var(--first); stroke-width: 2; } .diamond { fill: var(--second); }
.strip { fill: transparent; } .strip:hover { fill: var(--strip); }
.by-log, .log .by-linear { display: none; } .log .by-log { display: inline; }

button { padding: .05rem .6rem; border: 1px solid var(--line); border-radius: 4px; background: var(--soft);
  color: inherit; font: inherit; font-size: .85rem; font-weight: 400; cursor: pointer; }
button[aria-pressed="true"] { border-color: var(--first); color: var(--first); }
#replay { display: flex; flex-wrap: wrap; align-items: center; gap: .75rem; }
#replay input { flex: 1 1 12rem; max-width: 30rem; accent-color: var(--first); }
[hidden], #replay[hidden] { display: none; }
:focus-visible { outline: 2px solid var(--first); outline-offset: 2px; }
summary { cursor: pointer; } pre { overflow-x: auto; padding: .75rem; background: var(--soft); overflow-wrap: normal; }

@media print {
  body { max-width: none; padding: 0; font-size: 10pt; }
  button, #replay, footer { display: none; }
  section { margin-top: 1.5rem; } h2 { break-after: avoid; } tr { break-inside: avoid; }
  .scrolls { overflow: visible; } .figures { grid-template-columns: 1fr 1fr; }
  .heat td, .scale span, rect { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""


def _shades() -> str:
    """Cells of a weight: cividis under white or black letters, in every light."""
    rules = []
    for place, colour in enumerate(CIVIDIS):
        letters = "#fff" if place < len(CIVIDIS) // 2 else "#000"
        rules.append(f".w{place} {{ background: {colour}; color: {letters}; }}")
    rules += [f".hue{place} {{ fill: {colour}; fill-opacity: .4; }}" for place, colour in enumerate(HUES)]
    return "\n".join(rules)


STYLE = f"""
:root {{ color-scheme: light dark; {LIGHT} }}
@media screen and (prefers-color-scheme: dark) {{ :root {{ {DARK} }} }}
{RULES}
{_shades()}
"""
