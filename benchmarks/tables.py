"""Results as Markdown: a table a question, and beside every figure whether its OK means *on disk*."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from benchmarks.figures import Figure, many, short, size
from benchmarks.questions.question import Column, Question, Unit
from benchmarks.results import Results, points

NAMES: Final = {"imports": "`import zmq, msgpack, msgspec, click`"}
"""Of what is measured beside peers."""


def written(value: float, unit: Unit, digits: int = 3) -> str:
    """A value as people read it."""
    match unit:
        case "/s":
            return short(value, digits)
        case "ms":
            return f"{short(value * 1_000, digits)} ms"
        case "bytes":
            return size(value)
        case "µs":
            return f"{short(value, digits)} µs"
        case "%":
            return f"{short(value, min(2, digits))} %"
        case "×":
            return f"{value:.2f}×"
    return short(value, digits)


def cell(figure: Figure | None, unit: Unit) -> str:
    """A figure in its place: the median, and how far rounds lie from it."""
    if figure is None:
        return "—"
    spread = f" ±{figure.spread * 100:.0f} %" if figure.rounds > 1 else ""
    return written(figure.median, unit) + spread


def table(header: Sequence[str], rows: Sequence[Sequence[str]], align: str = "---:") -> str:
    """A Markdown table; what stands right of the names is aligned as that says."""
    lines = ["| " + " | ".join(header) + " |", "|---|" + f"{align}|" * (len(header) - 1)]
    lines += ["| " + " | ".join(text.replace("|", "\\|") for text in row) + " |" for row in rows]
    return "\n".join(lines)


def report(results: Results, questions: Sequence[Question], plots: dict[str, list[str]], *more: str) -> str:
    """The whole page. `plots` are file names by question; `more` are sections that come before the questions'."""
    parts = [_head(results), _promises(results), *more]
    asked = {sample.question for sample in results.samples}
    parts += [_section(results, one, plots.get(one.key, [])) for one in questions if one.key in asked]
    if results.notes:
        parts.append(_notes(results))
    return "\n\n".join(parts) + "\n"


def _head(results: Results) -> str:
    kind = "A quick run: short, and of one round; trust no difference below a fifth. " if results.quick else ""
    spread = "" if results.rounds == 1 else " Medians; ± is how far the farthest round lies from it."
    return (
        f"# Results of {results.date}\n\n{kind}{results.machine.text}. Clients, servers and the measuring share the"
        f" machine. {results.rounds} round{'s' if results.rounds > 1 else ''}, {results.seconds / 60:.0f}"
        f" minutes in all.{spread} How each is measured stands in [the benchmarks' README](../README.md)."
    )


def _promises(results: Results) -> str:
    header = ["", "version", "synced before OK", "what an OK says about the disk"]
    rows = [[peer.name, peer.version, _disk(peer.durable), peer.promise] for peer in results.peers]
    return "## Who was measured\n\n" + table(header, rows, "---")


def _section(results: Results, question: Question, plots: list[str]) -> str:
    parts = [f"## {question.title}", question.method]
    if question.axis:
        parts += [_by_point(results, question, column) for column in question.columns]
    else:
        parts.append(_by_column(results, question))
    parts += [f"![{question.title}]({plot})" for plot in plots]
    return "\n\n".join(part for part in parts if part)


def _by_column(results: Results, question: Question) -> str:
    """A row a peer, a column a value; what has no column is listed in the last."""
    figures = {column.key: results.figures(question.key, column.key) for column in question.columns}
    others = _others(results, question)
    rows = []
    for key in _keys(results, question.key):
        row = [NAMES.get(key, results.name_of(key)), _durable(results, key)]
        row += [cell(figures[column.key].get((key, "")), column.unit) for column in question.columns]
        if others:
            unit = question.columns[0].unit
            found = {name: results.figures(question.key, name).get((key, "")) for name in others}
            row.append(", ".join(f"{name} {written(one.median, unit)}" for name, one in found.items() if one))
        rows.append(row)
    header = ["", "synced", *(column.header for column in question.columns), *(["by process"] if others else [])]
    return table(header, rows)


def _by_point(results: Results, question: Question, column: Column) -> str:
    """A row a peer, a column a point of the axis."""
    figures = results.figures(question.key, column.key)
    if not figures:
        return ""
    axis = points(results.samples, question.key)
    rows = [
        [
            results.name_of(key),
            _durable(results, key),
            *(cell(figures.get((key, point)), column.unit) for point in axis),
        ]
        for key in _keys(results, question.key)
        if any((key, point) in figures for point in axis)
    ]
    header = [f"{column.header}, by {question.axis}", "synced", *(point_name(question, point) for point in axis)]
    return table(header, rows)


def point_name(question: Question, point: str) -> str:
    """A point as it stands at an axis."""
    return size(int(point)) if question.axis == "bytes" else many(int(point))


def _others(results: Results, question: Question) -> list[str]:
    known = {column.key for column in question.columns}
    found: dict[str, None] = {}
    for sample in results.samples:
        if sample.question == question.key:
            found |= dict.fromkeys(name for name in sample.values if name not in known)
    return list(found)


def _keys(results: Results, question: str) -> list[str]:
    """Who answered it, in the order of the peers."""
    answered = dict.fromkeys(sample.peer for sample in results.samples if sample.question == question)
    order = [peer.key for peer in results.peers if peer.key in answered]
    return order + [key for key in answered if key not in order]


def _durable(results: Results, key: str) -> str:
    return next((_disk(peer.durable) for peer in results.peers if peer.key == key), "")


def _disk(durable: bool) -> str:
    return "yes" if durable else "no"


def _notes(results: Results) -> str:
    lines = []
    for note in results.notes:
        where = ", ".join(filter(None, (results.name_of(note.peer), note.question)))
        lines.append(f"- {where + ': ' if where else ''}{note.kind}: " + note.text.replace("\n", " "))
    return "## What is missing\n\n" + "\n".join(lines)
