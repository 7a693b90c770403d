"""The Markdown that this package writes, as HTML: paragraphs, tables, `code` and **bold**; nothing else."""

from __future__ import annotations

import re

from markupsafe import Markup, escape

WIDE = 8  # a table of more columns, and fewer rows, is laid on its side
CODE = re.compile(r"`([^`]+)`")
BOLD = re.compile(r"\*\*([^*]+)\*\*")


def inline(text: str) -> Markup:
    """A line of text: all signs escaped, then `code` and **bold**."""
    return Markup(BOLD.sub(r"<strong>\1</strong>", CODE.sub(r"<code>\1</code>", str(escape(text)))))


def as_html(markdown: str, title: str) -> Markup:
    """The whole of a table's Markdown file: its heading becomes the caption of its tables, its notes paragraphs.

    title: of the region that scrolls where the table is too wide, for those who hear the page.
    """
    caption, parts, tables = title, [], 0
    for block in re.split(r"\n{2,}", markdown.strip()):
        if block.startswith("|"):
            tables += 1
            region = title if tables == 1 else f"{title}, {tables}"
            parts.append(_table([_cells(line) for line in block.splitlines()], caption, region))
        elif BOLD.fullmatch(block):
            caption = block.strip("*")
        else:
            parts.append(Markup("<p>{}</p>").format(Markup("<br>").join(map(inline, block.splitlines()))))
    return Markup("\n").join(parts)


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def _table(lines: list[list[str]], caption: str, title: str) -> Markup:
    rows = [lines[0], *lines[2:]]  # the second line is a rule
    if len(rows[0]) > max(WIDE, len(rows)):
        rows = [list(column) for column in zip(*rows, strict=True)]
    head = Markup().join(Markup('<th scope="col">{}</th>').format(inline(cell)) for cell in rows[0])
    body = Markup("\n").join(map(_row, rows[1:]))
    return Markup(
        '<div class="wide" role="region" tabindex="0" aria-label="{}"><table><caption>{}</caption>'
        "<thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>"
    ).format(title, inline(caption), head, body)


def _row(cells: list[str]) -> Markup:
    first, *rest = map(inline, cells)
    return Markup('<tr><th scope="row">{}</th>{}</tr>').format(
        first, Markup().join(Markup("<td>{}</td>").format(cell) for cell in rest)
    )
