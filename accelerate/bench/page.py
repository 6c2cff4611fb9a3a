"""The report as one page that needs nothing but itself: no script, no font, no other file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from ..errors import OptionError
from . import charts
from . import report_text as say
from .gallery import STYLE, gallery
from .report_inputs import DIFFERING, DIFFERS, remarks, tables

__all__ = ["make_page", "write_page"]

# nothing is fetched, whatever a model's file puts into its names
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"

_STYLE = """
:root { color-scheme: light dark; --page: #f6f7f9; --card: #fff; --text: #1a1f29; --soft: #5b6575; --rule: #e3e7ed;
  --bad: #b3261e; --badback: #fdecea;
  --c0: #2563c9; --c1: #d9622b; --c2: #14866d; --c3: #a23fa8; --c4: #8a6d00; --c5: #c2315b; }
@media (prefers-color-scheme: dark) { :root { --page: #12151b; --card: #1b2029; --text: #e8ebf0; --soft: #9aa5b5;
  --rule: #2c3440; --bad: #ff9d94; --badback: #3a2022;
  --c0: #6ea3f7; --c1: #f39a63; --c2: #4cc3a5; --c3: #d48bda; --c4: #d3b24a; --c5: #f07a9c; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--text); font: 15px/1.5 system-ui, sans-serif;
  overflow-wrap: anywhere; }
main { max-width: 1120px; margin: 0 auto; padding: 20px 16px 40px; }
h1 { font-size: 22px; line-height: 1.25; margin: 4px 0; }
h2 { font-size: 16px; margin: 0 0 2px; }
p { margin: 0 0 8px; } .soft { color: var(--soft); }
section { background: var(--card); border: 1px solid var(--rule); border-radius: 10px; padding: 14px 16px;
  margin-top: 14px; min-width: 0; }
.charts { display: grid; grid-template-columns: 1fr 1fr; gap: 14px; margin-top: 14px; }
.charts section { margin: 0; }
svg { display: block; width: 100%; height: auto; font-size: 12px; fill: var(--text); }
.grid { stroke: var(--rule); } .axis { stroke: var(--soft); stroke-width: .7; } .tick, .note { fill: var(--soft); }
svg text { paint-order: stroke; stroke: var(--card); stroke-width: 3px; }
.name { font-weight: 600; } .area { fill-opacity: .45; stroke-width: 1.5; }
.curve { fill: none; stroke-width: 2; stroke-linejoin: round; } .mark { stroke-width: 2.5; }
.heat { fill: none; stroke: var(--soft); stroke-dasharray: 4 3; }
.key { display: inline-flex; flex-wrap: wrap; gap: 2px 16px; margin-top: 6px; font-size: 13px; }
.key i { display: inline-block; width: 11px; height: 11px; border-radius: 3px; margin-right: 6px;
  background: var(--c); }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; margin-top: 6px; }
th, td { text-align: right; padding: 6px 8px; border-bottom: 1px solid var(--rule); vertical-align: top; }
th { color: var(--soft); font-weight: 500; font-size: 13px; overflow-wrap: normal; }
td:first-child, th:first-child { text-align: left; }
tbody tr:last-child td { border-bottom: 0; } td:not(:first-child):not(:last-child) { white-space: nowrap; }
table + p, dl + p { margin-top: 8px; }
dl { display: grid; grid-template-columns: fit-content(38%) 1fr; gap: 4px 16px; margin: 6px 0 0; }
dt { color: var(--soft); } dd { margin: 0; }
.bad { background: var(--badback); border-color: var(--bad); } .bad h2, .flag { color: var(--bad); }
.flag { font-size: 12px; font-weight: 700; }
@media (max-width: 760px) {
  .charts { grid-template-columns: 1fr; }
  thead { display: none; } table, tbody, tr, td { display: block; }
  tr { padding: 8px 0; border-bottom: 1px solid var(--rule); } tbody tr:last-child { border-bottom: 0; }
  td, td:first-child { display: flex; justify-content: space-between; gap: 16px; text-align: right; border: 0;
    padding: 2px 0; }
  td::before { content: attr(data-label); color: var(--soft); text-align: left; }
  td:first-child { font-weight: 600; text-align: left; } td:first-child::before { content: none; }
  dl { grid-template-columns: 1fr; } dd { margin-bottom: 6px; }
}
"""
_COLOURS = "".join(
    f".s{n} {{ stroke: var(--c{n}); }} .area.s{n} {{ fill: var(--c{n}); }}\n" for n in range(charts.COLOURS)
)


def write_page(path: Path, report: Mapping[str, Any]) -> None:
    """Write the page."""
    try:
        # a file's name need not be text
        path.write_text(make_page(report), encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise OptionError(f"the report {path} cannot be written: {error.strerror}", "give another --html") from error


def make_page(report: Mapping[str, Any]) -> str:
    """Return the page as HTML."""
    rows = report["results"]
    measured = [row for row in rows if "latency_us" in row]
    title = escape(", ".join(dict.fromkeys(row["model"] for row in rows)) or "no model")
    said = {heading: _remark(heading, fields, last) for heading, fields, last in remarks(report)}
    body = [
        f'<p class="soft">edge-accelerate bench, {escape(report["machine"]["time"])}</p><h1>{title}</h1>',
        said.pop(DIFFERING, ""),
        said.pop(say.DOUBTFUL, ""),
    ]
    for group in dict.fromkeys(row["group"] for row in measured):
        body += _group([row for row in measured if row["group"] == group], report["conditions"])
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        # without it a browser asks the server for one
        '<link rel="icon" href="data:,">\n'
        f"<title>{title}</title>\n<style>{_STYLE}{_COLOURS}{STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join((*body, *said.values()))
        + "\n</main>\n</body>\n</html>\n"
    )


def _group(rows: Sequence[say.Row], conditions: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    first, *others = map(_table, tables(rows, wide=True))
    yield first
    key = "".join(
        f'<span style="--c: var(--c{n % charts.COLOURS})"><i></i>{escape(say.name(row, rows))}</span>'
        for n, row in enumerate(rows)
    )
    yield '<div class="charts">'
    marks = "Steady state, on a logarithmic axis; the marks are p50 and p99."
    yield _chart("Distribution", marks, charts.distribution(rows))
    when = "Each round's median, as a share of the row's p50: a rise is throttling, or a neighbour at work."
    yield _chart("The run in time", when, f'{charts.timeline(rows, conditions)}<div class="key">{key}</div>')
    yield "</div>"
    yield from others
    yield gallery(rows)


def _table(table: say.Table) -> str:
    """Return a table with its heading. On a phone each row is a block, and each cell says its heading."""
    heads = ["device", *(escape(column.replace("\n", " ")) for column in table.columns)]
    head = "".join(f"<th>{one}</th>" for one in heads)
    body = "".join(f"<tr>{''.join(map(_cell, heads, row))}</tr>" for row in table.rows)
    notes = "".join(f'<p class="soft">{escape(note)}</p>' for note in table.notes)
    return (
        f"<section><h2>{table.title.capitalize()}</h2><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        f"{notes}</section>"
    )


def _cell(head: str, text: str) -> str:
    mark = next((mark for mark in (say.INVALID, DIFFERS) if text.endswith(mark)), "")
    plain = text.removesuffix(mark)
    flag = f'<span class="flag">{mark}</span>' if mark else ""
    return f'<td data-label="{head}"><span>{escape(plain)}{flag}</span></td>'


def _chart(title: str, note: str, content: str) -> str:
    return f'<section class="chart"><h2>{title}</h2><p class="soft">{escape(note)}</p>{content}</section>'


def _remark(heading: str, fields: Iterable[Sequence[str]], last: str) -> str:
    told = (f"<dt>{escape(key)}</dt><dd>{'<br>'.join(map(escape, lines))}</dd>" for key, *lines in fields)
    style = ' class="bad"' if heading in (say.DOUBTFUL, DIFFERING) else ""
    more = f"<p>{escape(last)}</p>" if last else ""
    return f"<section{style}><h2>{heading}</h2><dl>{''.join(told)}</dl>{more}</section>"
