"""Bars as SVG. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape

#: (what a bar is called, how long it is)
Bar = tuple[str, float]
#: (what the bars have in common, the bars)
Group = tuple[str, Sequence[Bar]]

ROW, GAP, LABELS, LENGTH, VALUES = 16, 26, 170, 260, 60
PANEL = LABELS + LENGTH + VALUES
COLOURS = ("#2563eb", "#64748b", "#d97706", "#059669", "#7c3aed", "#cbd5e1", "#94a3b8")


def bars(panels: Mapping[str, Sequence[Group]]) -> str:
    """A column for each panel, with its groups below each other; a name has one colour in all of them."""
    names = list(dict.fromkeys(name for groups in panels.values() for _, group in groups for name, _ in group))
    colours = {name: COLOURS[n % len(COLOURS)] for n, name in enumerate(names)}
    drawn = [_panel(n * PANEL, title, groups, colours) for n, (title, groups) in enumerate(panels.items())]
    height = (
        max((sum(GAP + ROW * len(group) for _, group in groups) for groups in panels.values()), default=0) + 2 * GAP
    )
    size = f'width="{PANEL * len(panels)}" height="{height}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="11">'
    return "\n".join([head, '<rect width="100%" height="100%" fill="white"/>', *drawn, "</svg>", ""])


def _panel(left: int, title: str, groups: Sequence[Group], colours: Mapping[str, str]) -> str:
    longest = max((value for _, group in groups for _, value in group), default=1.0)
    lines = [_text(left + 8, 18, title, "font-weight='bold' font-size='13'")]
    top = GAP
    for heading, group in groups:
        lines.append(_text(left + 8, top + 18, heading, "font-style='italic'"))
        top += GAP
        lines += _group(left, top, group, colours, longest)
        top += ROW * len(group)
    return "\n".join(lines)


def _group(left: int, top: int, group: Sequence[Bar], colours: Mapping[str, str], longest: float) -> Iterator[str]:
    for n, (name, value) in enumerate(group):
        y, length = top + n * ROW, LENGTH * value / longest
        yield _text(left + LABELS - 6, y + 12, name, "text-anchor='end'")
        yield f'<rect x="{left + LABELS}" y="{y + 2}" width="{length:.1f}" height="{ROW - 4}" fill="{colours[name]}"/>'
        yield _text(left + LABELS + length + 4, y + 12, f"{value:.3g}", "")


def _text(x: float, y: float, text: str, style: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(text)}</text>'
