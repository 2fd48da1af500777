"""A self-contained HTML page, written in a subset of Markdown.

Blocks are parted by empty lines: `# title`, `## section`, rows of a table between `|`,
pictures and sounds as `![caption](name)`, a line each, and paragraphs, in which `code`
and **bold** mean something. All else is text.
"""

import base64
import html
import math
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from train.errors import BadInput
from train.modalities.shown import picture_sides

WIDTH = 680  # CSS pixels of the text


def render(text: str, pictures: Mapping[str, bytes]) -> str:
    """The page; pictures: the PNGs, GIFs and WAVs that the text names."""
    blocks = [block.strip() for block in re.split(r"\n\s*\n", text)]
    title = next((b[2:] for b in blocks if b.startswith("# ")), "")
    body = "\n".join(_block(block, pictures) for block in blocks if block)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head>\n"
        f"<body>\n{body}\n</body></html>\n"
    )


def table(
    header: Sequence[str], rows: Sequence[Sequence[Any]], bold: Collection[int] = ()
) -> str:
    """Rows of `number`, a column's points in line. bold: indices of rows."""
    if bad := [row for row in rows if len(row) != len(header)]:
        raise BadInput(f"a table of {len(header)} columns and a row of {len(bad[0])}")
    places = [_decimals(column) for column in zip(*rows, strict=True)]
    lines = [header]
    for i, row in enumerate(rows):
        mark = "**" if i in bold else ""
        lines.append(
            [f"{mark}{number(*x)}{mark}" for x in zip(row, places, strict=True)]
        )
    # A | of the text itself would part cells.
    lines = [[cell.replace("|", "¦") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def markdown(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of texts, for a file that other programs read."""
    head, *lines = (f"| {' | '.join(row)} |\n" for row in (titles, *rows))
    return "".join([head, "|", "---|" * len(titles), "\n", *lines])


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


def _block(block: str, pictures: Mapping[str, bytes]) -> str:
    lines = block.split("\n")
    if found := re.fullmatch(r"(##?) (.*)", block):
        tag = f"h{len(found[1])}"
        return f"<{tag}>{_text(found[2])}</{tag}>"
    if all(re.fullmatch(r"\|.*\|", line) for line in lines):
        head, *rows = [line.strip("|").split("|") for line in lines]
        written = [_row("th", head), *(_row("td", row) for row in rows)]
        return f"<table>{''.join(written)}</table>"
    named = [re.fullmatch(r"!\[(.*)\]\((.*)\)", line) for line in lines]
    if all(named):
        shown = "".join(_picture(x[1], pictures[x[2]]) for x in named if x)
        return f'<div class="pictures">{shown}</div>'
    return f"<p>{_text(block)}</p>"


def _row(tag: str, cells: Sequence[str]) -> str:
    cells = "".join(f"<{tag}>{_text(cell.strip())}</{tag}>" for cell in cells)
    return f"<tr>{cells}</tr>"


def _picture(caption: str, content: bytes) -> str:
    """Pixels enlarged by a whole factor, so that they stay square and sharp; a plot,
    drawn at twice a screen's resolution, at half its width. A clip moves, a sound can
    be played."""
    data = base64.b64encode(content).decode()
    said = f"<figcaption>{_text(caption)}</figcaption></figure>"
    if content[:4] == b"RIFF":
        source = f'src="data:audio/wav;base64,{data}"'
        return f'<figure class="sound"><audio controls {source}></audio>{said}'
    moves = content[:4] == b"GIF8"
    if content[:8] != b"\x89PNG\r\n\x1a\n" and not moves:
        raise BadInput(
            f"picture {caption!r} is no PNG, GIF or WAV; see train.modalities.shown.png"
        )
    width, height = picture_sides(content)
    most = WIDTH // 5 if moves else WIDTH  # several clips stand in a row
    shown = width // 2 if width > WIDTH else width * max(1, min(6, most // width))
    kind = "plot" if width > WIDTH else "pixels"
    return (
        f'<figure style="width:{shown}px"><img class="{kind}" width="{shown}" '
        f'height="{round(shown * height / width)}" alt="{html.escape(caption)}" '
        f'src="data:image/{"gif" if moves else "png"};base64,{data}">{said}'
    )


def _text(text: str) -> str:
    text = re.sub(r"`([^`\n]+)`", r"<code>\1</code>", html.escape(text))
    return re.sub(r"\*\*([^*\n]+)\*\*", r"<b>\1</b>", text)


STYLE = """
body { max-width: 980px; margin: 0 auto; padding: 56px 24px 96px; color: #22262c;
  background: #fbfbfa; font: 16px/1.6 system-ui, "Segoe UI", Arial, sans-serif; }
h1 { font-size: 32px; line-height: 1.2; margin: 0 0 12px; }
h2 { font-size: 20px; margin: 48px 0 8px; padding-top: 28px;
  border-top: 1px solid #e3e5e9; }
p { max-width: 70ch; margin: 0 0 12px; }
code { font-size: .88em; background: #f0f1f3; padding: .12em .38em;
  border-radius: 4px; overflow-wrap: anywhere; }
.pictures { display: flex; flex-wrap: wrap; gap: 24px 28px; align-items: flex-start; }
figure { margin: 18px 0 0; max-width: 100%; }
figcaption { font-size: 13.5px; color: #666d78; }
img { display: block; max-width: 100%; height: auto; }
.sound { width: 200px; }
audio { width: 100%; height: 32px; }
.pixels { image-rendering: pixelated; }
table { display: block; overflow-x: auto; border-collapse: collapse; margin: 20px 0;
  font-size: 14.5px; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: 7px 16px 7px 0;
  border-bottom: 1px solid #e3e5e9; }
th:first-child, td:first-child { text-align: left; }
th { font-weight: 560; color: #666d78; }
"""
