"""Plots as SVG, written by hand: bars for questions with one answer, lines for those with an axis.

Bars are as long as what they say; lines are drawn to logarithmic scales, since their points differ by powers of ten.
Restante has the accent; peers that sync before their OK are dark, the others light, the limits (no product at all)
hatched.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from typing import Final

from benchmarks.figures import Figure
from benchmarks.goals import LIMITS
from benchmarks.questions.question import Column, Question, Unit
from benchmarks.results import Results, points
from benchmarks.tables import NAMES, point_name, written

WIDTH: Final = 820
LABELS: Final = 250
"""Left of bars, for names."""
VALUES: Final = 110
"""Right of the longest bar, for its figure."""
BAR: Final = 22
STEP: Final = 30
TOP: Final = 64
FOOT: Final = 46

TICKS_MAX: Final = 9

ACCENT: Final = "#c2410c"
DURABLE: Final = "#475569"
NOT_DURABLE: Final = "#a8b3c2"
HATCHED: Final = LIMITS | {"imports"}
LINES: Final = ("#0369a1", "#15803d", "#7e22ce", "#b45309", "#0f766e", "#be185d", "#4d7c0f", "#4338ca", "#57534e")

STYLE: Final = (
    "text{font:13px system-ui,sans-serif;fill:#1e293b}.t{font-size:16px;font-weight:600}"
    ".s{font-size:11.5px;fill:#64748b}.g{stroke:#e2e8f0}.w{stroke:#fff;stroke-width:3.6}"
    ".e{stroke:#0f172a;stroke-width:1.4}"
)


def of(results: Results, question: Question) -> dict[str, str]:
    """The plots of a question, by file name."""
    found = {}
    for column in question.columns:
        figures = results.figures(question.key, column.key)
        if not column.plotted or not any(figure.median > 0 for figure in figures.values()):
            continue
        name = f"{question.key.replace('_', '-')}{'' if column is question.columns[0] else '-' + column.key}.svg"
        found[name] = (lines if question.axis else bars)(results, question, column, figures)
    return found


def bars(results: Results, question: Question, column: Column, figures: dict[tuple[str, str], Figure]) -> str:
    """A bar a peer, in the order of the peers, with the range of its rounds."""
    keys = [key for key in _order(results, figures) if figures[key, ""].median > 0]
    high = max(figures[key, ""].greatest for key in keys)
    height = TOP + STEP * len(keys) + FOOT
    room = WIDTH - LABELS - VALUES

    def x(value: float) -> float:
        return LABELS + room * value / high

    parts = [*_frame(results, question, column, height)]
    for tick in _even_ticks(high):
        parts += [
            _line(x(tick), TOP - 6, x(tick), height - FOOT, 'class="g"'),
            _text(x(tick), height - FOOT + 16, written(tick, column.unit, 2), "s", "middle"),
        ]
    for place, key in enumerate(keys):
        figure, y = figures[key, ""], TOP + STEP * place
        middle = y + BAR / 2
        parts += [
            _text(LABELS - 10, middle + 4.5, _name(results, key), "", "end"),
            _bar(y, x(figure.median) - LABELS, _fill(results, key)),
        ]
        if figure.rounds > 1:
            parts += [
                _line(x(figure.least), middle, x(figure.greatest), middle, f'class="{kind}"') for kind in ("w", "e")
            ]
        end = max(x(figure.median), x(figure.greatest))
        parts.append(_text(end + 8, middle + 4.5, written(figure.median, column.unit)))
    return _svg(height, parts)


def lines(results: Results, question: Question, column: Column, figures: dict[tuple[str, str], Figure]) -> str:
    """A line a peer over the points of the axis; names at their ends, moved apart."""
    axis = points(results.samples, question.key)
    keys = [key for key in _order(results, figures) if any((key, point) in figures for point in axis)]
    ticks = _ticks([figure.median for figure in figures.values() if figure.median > 0], column.unit)
    low, high = ticks[0], ticks[-1]
    height, left, right = 430, 86, WIDTH - 220
    bottom = height - FOOT - 14

    def x(point: str) -> float:
        first, last = float(axis[0]), float(axis[-1])
        part = math.log(float(point) / first) / math.log(last / first) if last > first else 0.5
        return left + (right - left) * part

    def y(value: float) -> float:
        return bottom - (bottom - TOP) * math.log10(max(value, low) / low) / math.log10(high / low)

    parts = [*_frame(results, question, column, height)]
    for tick in ticks:
        parts += [
            _line(left, y(tick), right, y(tick), 'class="g"'),
            _text(left - 8, y(tick) + 4, written(tick, column.unit, 1), "s", "end"),
        ]
    parts += [_text(x(point), bottom + 18, point_name(question, point), "s", "middle") for point in axis]
    parts.append(_text((left + right) / 2, bottom + 36, question.axis, "s", "middle"))
    ends = []
    for place, key in enumerate(keys):
        colour = ACCENT if _is_ours(key) else LINES[place % len(LINES)]
        at = [(x(point), y(figures[key, point].median)) for point in axis if (key, point) in figures]
        dash = "" if _durable(results, key) else ' stroke-dasharray="5 4"'
        path = " ".join(f"{px:.1f},{py:.1f}" for px, py in at)
        width = 3 if _is_ours(key) else 1.6
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}"{dash}/>')
        parts += [f'<circle cx="{px:.1f}" cy="{py:.1f}" r="{width + 0.6}" fill="{colour}"/>' for px, py in at]
        ends.append((at[-1][1], at[-1], colour, _name(results, key)))
    ends.sort()
    for label_y, (_, (px, py), colour, name) in zip(apart([end[0] for end in ends], 16), ends, strict=True):
        parts.append(_line(px + 5, py, right + 12, label_y, f'stroke="{colour}" opacity=".35"'))
        parts.append(f'<text x="{right + 16}" y="{label_y + 4:.1f}" style="fill:{colour}">{escape(name)}</text>')
    return _svg(height, parts)


def apart(places: Sequence[float], least: float) -> list[float]:
    """Ascending places moved so that no two are nearer than `least`, and each stays near where it was."""
    found: list[float] = []
    for place in places:
        found.append(max(place, found[-1] + least) if found else place)
    over = max(0.0, found[-1] - max(places)) / 2 if found else 0.0
    return [place - over for place in found]


# --- pieces -------------------------------------------------------------------------------------------------


def _frame(results: Results, question: Question, column: Column, height: int) -> Iterable[str]:
    yield '<rect width="100%" height="100%" fill="#fff"/>'
    yield _text(16, 26, question.title, "t")
    yield _text(
        16, 45, f"{column.header} · accent: Restante, dark or solid: synced before OK, light or dashed: not", "s"
    )
    versions = f"{results.date} · {results.machine.text}"
    yield _text(16, height - 10, versions, "s")


def _svg(height: int, parts: Iterable[str]) -> str:
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}">\n'
        f"<style>{STYLE}</style>\n{_HATCH}\n{body}\n</svg>\n"
    )


_HATCH: Final = (
    '<defs><pattern id="h" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
    '<rect width="6" height="6" fill="#e7ebf0"/><rect width="2" height="6" fill="#a8b3c2"/></pattern></defs>'
)


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "") -> str:
    classes = f' class="{kind}"' if kind else ""
    anchored = f' text-anchor="{anchor}"' if anchor else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{classes}{anchored}>{escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, style: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" {style}/>'


def _bar(y: float, width: float, fill: str) -> str:
    return f'<rect x="{LABELS}" y="{y}" width="{width:.1f}" height="{BAR}" rx="2" fill="{fill}"/>'


def _order(results: Results, figures: dict[tuple[str, str], Figure]) -> list[str]:
    answered = dict.fromkeys(key for key, _ in figures)
    known = [peer.key for peer in results.peers if peer.key in answered]
    return known + [key for key in answered if key not in known]


def _fill(results: Results, key: str) -> str:
    if _is_ours(key):
        return ACCENT
    if key in HATCHED:
        return "url(#h)"
    return DURABLE if _durable(results, key) else NOT_DURABLE


def _is_ours(key: str) -> bool:
    return key.partition("-")[0] == "restante"


def _durable(results: Results, key: str) -> bool:
    return any(peer.key == key and peer.durable for peer in results.peers)


def _name(results: Results, key: str) -> str:
    return NAMES.get(key, results.name_of(key)).replace("`", "")


def _even_ticks(high: float) -> list[float]:
    """Round numbers from 0 to `high`, four to eight of them."""
    step = next(one for one in _steps((1, 2, 5), 10.0) if high / one < 8)
    return [step * number for number in range(math.floor(high / step) + 1)]


def _ticks(values: Sequence[float], unit: Unit) -> list[float]:
    """A logarithmic scale's marks, from below the least value to above the greatest; bytes by powers of two."""
    fine, coarse = (((1,), 2.0), ((1,), 4.0)) if unit == "bytes" else (((1, 2, 5), 10.0), ((1,), 10.0))
    found = _around(values, *fine)
    return found if len(found) <= TICKS_MAX else _around(values, *coarse)


def _around(values: Sequence[float], steps: Sequence[int], base: float) -> list[float]:
    marks = list(_steps(steps, base))
    first = max(place for place, mark in enumerate(marks) if mark <= min(values))
    last = min(place for place, mark in enumerate(marks) if mark >= max(values))
    return marks[first : max(last, first + 1) + 1]


def _steps(steps: Sequence[int], base: float) -> Iterator[float]:
    """Round numbers, ascending, from far below what anybody measures to far above."""
    power = math.floor(math.log(1e-9, base))
    while base**power < 1e15:
        yield from (step * base**power for step in steps)
        power += 1
