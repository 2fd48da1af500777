"""A self-contained HTML report: text, pictures, tables, no other file, no network."""

import base64
import dataclasses
import html
import math
import os
import re
import struct
from collections.abc import Sequence
from typing import Any

from train.errors import BadInput
from train.runtime.files import write_bytes


@dataclasses.dataclass(frozen=True)
class Picture:
    """A PNG with its caption.

    width: in CSS pixels. None: a plot is as wide as it needs, and an array of pixels is
    enlarged by a whole factor, so that its pixels stay square and sharp.
    plot: drawn by `line_plot` or `bar_plot`, on a clear background; a
    dark page turns its ink light.
    """

    png: bytes
    caption: str = ""
    width: int | None = None
    plot: bool = False


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows under a header. Numbers are aligned; None is an empty place, a dash.

    emphasis: indices of the rows to stand out.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[Any]]
    caption: str = ""
    emphasis: Sequence[int] = ()


@dataclasses.dataclass(frozen=True)
class Figure:
    """A headline number: what it is, its value, and the bar or the unit beside it.

    passed: True or False colours it by the bar; None leaves it neutral.
    """

    name: str
    value: Any
    note: str = ""
    passed: bool | None = None


@dataclasses.dataclass(frozen=True)
class Section:
    """Paragraphs, parted by empty lines, `code` in backticks; pictures; tables."""

    title: str
    text: str = ""
    pictures: Sequence[Picture] = ()
    tables: Sequence[Table] = ()


def render(
    title: str,
    lead: str,
    sections: Sequence[Section],
    figures: Sequence[Figure] = (),
) -> str:
    """The whole page. All text is escaped; only backticks mean something."""
    names = [f"s{i}" for i in range(len(sections))]
    links = "".join(
        f'<a href="#{name}">{_text(section.title)}</a>'
        for name, section in zip(names, sections, strict=True)
    )
    tiles = "".join(map(_figure, figures))
    body = [
        f"<header><h1>{_text(title)}</h1>{_paragraphs(lead)}</header>",
        f"<nav>{links}</nav>" if len(sections) > 2 else "",
        f'<div class="figures">{tiles}</div>' if tiles else "",
        *(_section(n, s) for n, s in zip(names, sections, strict=True)),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head>\n"
        f"<body><main>\n{chr(10).join(filter(None, body))}\n</main></body></html>\n"
    )


def write(path: str | os.PathLike, *args, **kwargs) -> None:
    """Writes `render(...)`, whole or not at all; makes the folder."""
    write_bytes(path, render(*args, **kwargs).encode())


def number(value: Any, decimals: int | None = None) -> str:
    """A value as text: floats to `decimals` places, by default to four digits.

    Thousands are parted, True and False are yes and no, None is a dash, text is itself.
    """
    if value is None:
        return "–"
    value = _plain(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        text = f"{value:,}"
    elif isinstance(value, float):
        if decimals is None:
            decimals = _decimals([value])
        small = value and abs(value) < 1e-3
        text = f"{value:.2e}" if small else f"{value:,.{decimals}f}"
    else:
        return str(value)
    return text.replace("-", "−")


def _plain(value: Any) -> Any:
    """A NumPy or JAX scalar as Python's."""
    return value.item() if getattr(value, "shape", None) == () else value


def _decimals(values: Sequence[Any]) -> int:
    """Places after the point that give the largest of the floats four digits.

    One number of places for a whole column, so that its points stand in line; fewer
    where every value ends in zeros.
    """
    values = [v for v in map(_plain, values) if isinstance(v, float)]
    values = [abs(v) for v in values if math.isfinite(v)]
    largest = max(values, default=0.0)
    places = 4 if largest < 1 else max(0, 3 - math.floor(math.log10(largest)))
    while places > 1 and all(f"{v:.{places}f}".endswith("0") for v in values):
        places -= 1
    return places


def _section(name: str, section: Section) -> str:
    pictures = "".join(map(_picture, section.pictures))
    return (
        f'<section id="{name}"><h2>{_text(section.title)}</h2>'
        + _paragraphs(section.text)
        + (f'<div class="pictures">{pictures}</div>' if pictures else "")
        + "".join(map(_table, section.tables))
        + "</section>"
    )


def _figure(figure: Figure) -> str:
    kind = {True: " passed", False: " missed", None: ""}[figure.passed]
    said = {True: "✓ ", False: "✗ ", None: ""}[figure.passed]
    return (
        f'<div class="figure{kind}"><div class="name">{_text(figure.name)}</div>'
        f'<div class="value">{_text(number(figure.value))}</div>'
        f'<div class="note">{said}{_text(figure.note)}</div></div>'
    )


def _picture(picture: Picture) -> str:
    if picture.png[:8] != b"\x89PNG\r\n\x1a\n":
        raise BadInput(
            f"picture {picture.caption!r} is no PNG; see train.report.pictures.png"
        )
    width, height = struct.unpack(">II", picture.png[16:24])
    if picture.plot:
        shown = picture.width or 440
    else:
        shown = picture.width or width * max(1, min(6, 680 // width))
    data = base64.b64encode(picture.png).decode()
    caption = f"<figcaption>{_text(picture.caption)}</figcaption>"
    return (
        f'<figure style="width:{shown}px"><img class="{_kind(picture)}" '
        f'width="{shown}" height="{round(shown * height / width)}" '
        f'alt="{html.escape(picture.caption)}" src="data:image/png;base64,{data}">'
        f"{caption if picture.caption else ''}</figure>"
    )


def _kind(picture: Picture) -> str:
    return "plot" if picture.plot else "pixels"


def _table(table: Table) -> str:
    columns = len(table.header)
    for row in table.rows:
        if len(row) != columns:
            raise BadInput(
                f"table {table.caption!r} has {columns} columns and a row of {len(row)}"
            )
    content = [[row[i] for row in table.rows] for i in range(columns)]
    kinds = [' class="number"' if all(map(_is_number, c)) else "" for c in content]
    places = [_decimals(c) for c in content]

    def cells(tag, values):
        return "".join(
            f"<{tag}{kind}>{_text(number(value, decimals))}</{tag}>"
            for kind, value, decimals in zip(kinds, values, places, strict=True)
        )

    rows = "".join(
        f"<tr{' class=emphasis' if i in table.emphasis else ''}>{cells('td', row)}</tr>"
        for i, row in enumerate(table.rows)
    )
    caption = f"<caption>{_text(table.caption)}</caption>" if table.caption else ""
    return (
        f'<div class="scroll"><table>{caption}<thead><tr>{cells("th", table.header)}'
        f"</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _is_number(value: Any) -> bool:
    """Also text such as "26.3 dB" or "0.97 ± 0.01", which reads best aligned right."""
    return value is None or not isinstance(value, str) or value[:1].isdigit()


def _paragraphs(text: str) -> str:
    parts = (part.strip() for part in re.split(r"\n\s*\n", text))
    return "".join(f"<p>{_text(part)}</p>" for part in parts if part)


def _text(text: str) -> str:
    return re.sub(r"`([^`\n]+)`", r"<code>\1</code>", html.escape(text))


STYLE = """
:root { --page: #fbfbfa; --card: #fff; --ink: #22262c; --soft: #666d78; --line: #e3e5e9;
  --code: #f0f1f3; --good: #1f7a52; --bad: #b3412e; --mark: #f3f6fa; }
@media (prefers-color-scheme: dark) {
  :root { --page: #15171a; --card: #1c1f23; --ink: #e3e5e8; --soft: #98a0ab;
    --line: #30343a; --code: #272b30; --good: #6cc79b; --bad: #e98b79;
    --mark: #232930; }
  img.plot { filter: invert(1) hue-rotate(180deg); }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.6 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial,
  sans-serif; -webkit-text-size-adjust: 100%; }
main { max-width: 980px; margin: 0 auto; padding: 56px 24px 96px; }
h1 { font-size: 32px; line-height: 1.2; font-weight: 650; letter-spacing: -.015em;
  margin: 0 0 12px; }
h2 { font-size: 20px; line-height: 1.3; font-weight: 620; letter-spacing: -.005em;
  margin: 0 0 8px; }
p { max-width: 70ch; margin: 0 0 12px; }
header p { color: var(--soft); font-size: 17px; }
nav { display: flex; flex-wrap: wrap; gap: 4px 18px; margin: 20px 0 0;
  font-size: 14px; }
nav a { color: var(--soft); text-decoration: none;
  border-bottom: 1px solid var(--line); }
nav a:hover { color: var(--ink); border-color: var(--ink); }
section { margin-top: 48px; padding-top: 28px; border-top: 1px solid var(--line); }
code { font: .88em/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace;
  background: var(--code); padding: .12em .38em; border-radius: 4px;
  overflow-wrap: anywhere; }
.figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(210px, 1fr));
  gap: 12px; margin-top: 28px; }
.figure { background: var(--card); border: 1px solid var(--line); border-radius: 8px;
  padding: 14px 16px 12px; }
.figure .name { font-size: 13px; line-height: 1.35; color: var(--soft); }
.figure .value { font-size: 26px; line-height: 1.35; font-weight: 620;
  font-variant-numeric: tabular-nums; letter-spacing: -.01em; }
.figure .note { font-size: 13px; line-height: 1.35; color: var(--soft); }
.passed .note { color: var(--good); }
.missed .note { color: var(--bad); }
.pictures { display: flex; flex-wrap: wrap; gap: 24px 28px; margin-top: 18px;
  align-items: flex-start; }
figure { margin: 0; max-width: 100%; }
img { display: block; max-width: 100%; height: auto; }
img.pixels { image-rendering: pixelated; border-radius: 3px; }
figcaption { margin-top: 8px; font-size: 13.5px; line-height: 1.45;
  color: var(--soft); }
.scroll { overflow-x: auto; margin-top: 20px; }
table { border-collapse: collapse; font-size: 14.5px; line-height: 1.4;
  font-variant-numeric: tabular-nums; }
caption { text-align: left; font-size: 13.5px; color: var(--soft);
  padding-bottom: 8px; }
th, td { text-align: left; padding: 7px 24px 7px 0; vertical-align: baseline; }
th:first-child, td:first-child { padding-left: 8px; }
th { font-weight: 560; color: var(--soft); border-bottom: 1px solid var(--line); }
td { border-bottom: 1px solid var(--line); }
.number { text-align: right; }
td.number { white-space: nowrap; }
tr.emphasis td { background: var(--mark); font-weight: 600; }
@media print { section { break-inside: avoid; } nav { display: none; } }
"""
