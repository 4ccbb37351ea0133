"""Takes the specifications apart: their tables of fields, codes and limits, and the tags of their requirements."""

from __future__ import annotations

import json
import re
from typing import NamedTuple

import msgspec
from msgspec import inspect as kinds

from restante.wire import limits
from tests.protocol.vectors import SCHEMAS

_POWERS = {2**53 - 1: "2^53−1", 2**53: "2^53", 2**62: "2^62"}


class Row(NamedTuple):
    """A field, as a table shows it."""

    name: str
    type: str
    default: str


def text_of(name: str) -> str:
    """A document of schemas/."""
    return (SCHEMAS / name).read_text("utf-8")


def section(text: str, title: str) -> str:
    """What stands under a heading of any level, up to the next heading of the same or a higher level."""
    start = re.search(rf"^(#+) {re.escape(title)}.*$", text, re.MULTILINE)
    assert start is not None, f"no heading {title!r}"
    end = re.search(rf"^#{{1,{len(start[1])}}} ", text[start.end() :], re.MULTILINE)
    return text[start.end() :][: end.start() if end else None]


def rows(text: str) -> list[list[str]]:
    """The cells of all table rows in a text, headings and rules left out."""
    lines = [line.strip() for line in text.splitlines() if line.strip().startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [
        row for at, row in enumerate(cells) if not _rule(row) and not (at + 1 < len(cells) and _rule(cells[at + 1]))
    ]


def _rule(row: list[str]) -> bool:
    return all(re.fullmatch(r":?-+:?", cell) for cell in row)


def plain(cell: str) -> str:
    """A cell without its backticks."""
    return cell.replace("`", "")


def field_rows(text: str) -> list[Row]:
    """The fields that a table lists."""
    return [Row(*(plain(cell) for cell in row[:3])) for row in rows(text)]


def tables(text: str) -> dict[str, list[Row]]:
    """Every table of fields, by the name in its heading: `#### `name` …`."""
    found = {}
    for heading in re.finditer(r"^#### `(\w+)`", text, re.MULTILINE):
        end = re.search(r"^#+ ", text[heading.end() :], re.MULTILINE)
        under = text[heading.end() :][: end.start() if end else None]
        found[heading[1]] = field_rows(re.split(r"\n(?=[^|\n])", under.partition("\n| ")[2])[0])
    return found


def requirements(text: str) -> list[str]:
    """The tags of a document, in order: **[S3]**."""
    return re.findall(r"^\*\*\[([A-Z]+\d+)\]\*\*", text, re.MULTILINE)


# --- the types, in the words of the tables ---------------------------------------------------------------------


def wire_fields(kind: type[msgspec.Struct]) -> list[Row]:
    """A type's fields as a table has to show them, but for `type`."""
    info = kinds.type_info(kind)
    assert isinstance(info, kinds.StructType)
    return [Row(field.encode_name, spell(field.type), _default(field)) for field in info.fields]


def _default(field: kinds.Field) -> str:
    if field.required:
        return "required"
    if field.default is not msgspec.NODEFAULT:
        return json.dumps(field.default).replace("null", "nil")
    made = field.default_factory()
    return "see below" if isinstance(made, msgspec.Struct) else json.dumps(made)


def spell(kind: kinds.Type) -> str:
    """A field's type in words: `int 1…2^53−1`, `bin 16`, `list of str ≤ 32, 1…1000`."""
    if isinstance(kind, kinds.Metadata):
        return spell(kind.type)
    if isinstance(kind, kinds.IntType):
        return _int(kind.ge, kind.le)
    if isinstance(kind, kinds.StrType):
        return "str" + _lengths(kind.min_length, kind.max_length, " ", " ≤ ")
    if isinstance(kind, kinds.BytesType):
        assert kind.min_length == kind.max_length
        return f"bin {kind.min_length}"
    if isinstance(kind, kinds.ListType):
        item = spell(kind.item_type)
        item = f"({item})" if isinstance(kind.item_type, kinds.UnionType) and " or " in item else item
        return f"list of {item}" + _lengths(kind.min_length, kind.max_length, ", ", ", ≤ ")
    if isinstance(kind, kinds.UnionType):
        return _union(kind)
    if isinstance(kind, kinds.LiteralType):
        return " / ".join(sorted(map(str, kind.values)))
    if isinstance(kind, kinds.DictType):
        return f"map of {spell(kind.key_type)} to {spell(kind.value_type)}"
    if isinstance(kind, kinds.StructType):
        return str(kind.tag) if kind.tag is not None else kind.cls.__name__
    if isinstance(kind, kinds.NoneType):
        return "nil"
    assert isinstance(kind, kinds.BoolType), kind
    return "bool"


def _union(kind: kinds.UnionType) -> str:
    structs = [part for part in kind.types if isinstance(part, kinds.StructType)]
    if len(structs) > 2:
        return f"one of {len(structs)} headers"
    return " or ".join(spell(part) for part in kind.types)


def _int(least: float | None, most: float | None) -> str:
    if least is None or most is None:
        return "int" if least is None else f"int ≥ {least}"
    return f"int {least}…" + _POWERS.get(int(most), str(int(most)))


def _lengths(least: int | None, most: int | None, between: str, up_to: str) -> str:
    if least:
        return f"{between}{least}…" + ("" if most is None else str(most))
    return "" if most is None else f"{up_to}{most}"


def limit_values() -> dict[str, str]:
    """Every limit as the tables write it."""
    values = {name: value for name, value in vars(limits).items() if name.isupper()}
    return {name: show_limit(value) for name, value in values.items()}


def show_limit(value: float | str) -> str:
    """4,096 · 8 MiB is written 8,388,608 · 0.6 · a pattern as it is."""
    if isinstance(value, str):
        return value
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"
