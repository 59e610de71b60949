"""Bars as SVG. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape

#: (what a bar is called, how long it is)
Bar = tuple[str, float]
#: (what the bars have in common, the bars)
Group = tuple[str, Sequence[Bar]]

COLUMNS = 2
ROW, GAP, LABELS, LENGTH, VALUES = 16, 26, 170, 250, 70
PANEL = LABELS + LENGTH + VALUES
COLOURS = ("#2563eb", "#64748b", "#d97706", "#059669", "#7c3aed", "#cbd5e1", "#94a3b8")


def bars(panels: Mapping[str, Sequence[Group]]) -> str:
    """A panel for each figure, two beside each other, its groups below each other; a name has one colour in all."""
    names = list(dict.fromkeys(name for groups in panels.values() for _, group in groups for name, _ in group))
    colours = {name: COLOURS[n % len(COLOURS)] for n, name in enumerate(names)}
    drawn, top, titled = [], 0, list(panels.items())
    for first in range(0, len(titled), COLUMNS):
        row = titled[first : first + COLUMNS]
        drawn += [_panel(n * PANEL, top, title, groups, colours) for n, (title, groups) in enumerate(row)]
        top += max(_height(groups) for _, groups in row)
    size = f'width="{PANEL * COLUMNS}" height="{top}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="11">'
    return "\n".join([head, '<rect width="100%" height="100%" fill="white"/>', *drawn, "</svg>", ""])


def _height(groups: Sequence[Group]) -> int:
    return sum(GAP + ROW * len(group) for _, group in groups) + 2 * GAP


def _panel(left: int, top: int, title: str, groups: Sequence[Group], colours: Mapping[str, str]) -> str:
    longest = max([1e-9, *(value for _, group in groups for _, value in group)])
    lines = [_text(left + 8, top + 18, title, "font-weight='bold' font-size='13'")]
    top += GAP
    for heading, group in groups:
        lines.append(_text(left + 8, top + 18, heading, "font-style='italic'"))
        top += GAP
        lines += _bars(left, top, group, colours, longest)
        top += ROW * len(group)
    return "\n".join(lines)


def _bars(left: int, top: int, group: Sequence[Bar], colours: Mapping[str, str], longest: float) -> Iterator[str]:
    for n, (name, value) in enumerate(group):
        y, length = top + n * ROW, LENGTH * max(0.0, value) / longest
        yield _text(left + LABELS - 6, y + 12, name, "text-anchor='end'")
        yield f'<rect x="{left + LABELS}" y="{y + 2}" width="{length:.1f}" height="{ROW - 4}" fill="{colours[name]}"/>'
        yield _text(left + LABELS + length + 4, y + 12, f"{value:,.0f}" if value >= 100 else f"{value:.1f}", "")


def _text(x: float, y: float, text: str, style: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(text)}</text>'
