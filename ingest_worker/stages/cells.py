"""The cells that crossing lines make: just those of pdfplumber's ``intersections_to_cells``, found in a fraction of the
time. That one looks at every crossing of the page for each, and compares edges anew for every pair. Pure.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from pdfplumber.utils.geometry import obj_to_bbox

#: Left and top, in points, y downwards.
Point = tuple[float, float]

#: Left, top, right, bottom in points, y downwards.
Box = tuple[float, float, float, float]


def cells(crossings: dict[Point, dict[str, list[dict[str, Any]]]]) -> list[Box]:
    """The smallest cell that each crossing is the top left corner of, if any, from left to right and from the top down.

    ``crossings`` are those of pdfplumber's ``edges_to_intersections``: the edges "v" and "h" that meet in each.
    """
    points = sorted(crossings)
    below = _followers(points, lambda point: point[0])
    right = _followers(points, lambda point: point[1])
    upright, level = ({point: set(map(obj_to_bbox, met[way])) for point, met in crossings.items()} for way in "vh")

    def cell(corner: Point) -> Box | None:
        for lower in below(corner):
            if upright[corner].isdisjoint(upright[lower]):
                continue
            for further in right(corner):
                if level[corner].isdisjoint(level[further]):
                    continue
                opposite = further[0], lower[1]
                if opposite not in crossings or upright[opposite].isdisjoint(upright[further]):
                    continue
                if not level[opposite].isdisjoint(level[lower]):
                    return *corner, *opposite
        return None

    return [found for found in map(cell, points) if found]


def _followers(points: Iterable[Point], line: Callable[[Point], float]) -> Callable[[Point], Iterator[Point]]:
    """What gives the points after one on the same line."""
    lines: defaultdict[float, list[Point]] = defaultdict(list)
    places: dict[Point, int] = {}
    for point in points:
        on_line = lines[line(point)]
        places[point] = len(on_line)
        on_line.append(point)

    def after(point: Point) -> Iterator[Point]:
        on_line = lines[line(point)]
        return map(on_line.__getitem__, range(places[point] + 1, len(on_line)))

    return after
