"""Settings: one frozen struct a process, filled from the command line, the environment, a file and its
defaults.

For each field the first that speaks wins:

    --field VALUE  >  CHAT_<PROG>_<FIELD>  >  [prog] in the TOML file of --config  >  the field's default

Defaults, types, bounds and help texts stand in the struct itself::

    class Settings(msgspec.Struct, frozen=True):
        listen: Annotated[str, msgspec.Meta(description="where clients connect")] = "tcp://127.0.0.1:5571"
        workers_max: Annotated[int, msgspec.Meta(ge=1, le=64, description="log-ins at a time")] = 2

A field of type list or tuple is written with commas. A wrong value ends the process with exit code 2 and a
sentence that names the field, where its value came from, and what would be right.
"""

from __future__ import annotations

import argparse
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_origin

import msgspec

S = TypeVar("S", bound=msgspec.Struct)

#: The exit code of a service that can't start as it is configured (sysexits.h, EX_CONFIG): to start it again changes
#: nothing. A wrong command line is 2, as argparse has it.
CANT_START = 78


def load(cls: type[S], prog: str, argv: Sequence[str], env: Mapping[str, str]) -> S:
    """Return the settings of ``prog`` as a ``cls``.

    ``argv`` is without the program's name. Raises SystemExit: 2 after an explanation on stderr, 0 after
    ``--help``.
    """
    fields = msgspec.structs.fields(cls)
    parser = _parser(fields, prog)
    given = vars(parser.parse_args(argv))
    try:
        table = _file(given.pop("config") or env.get(_variable(prog, "config")), prog, {f.name for f in fields})
        return _make(cls, {f.name: _value(f, prog, given, env, table) for f in fields})
    except _Wrong as wrong:
        parser.error(str(wrong))


class _Wrong(Exception):
    """A value that can't be used; the text is for the user."""


_UNSET = msgspec.UNSET


def _parser(fields: Sequence[msgspec.structs.FieldInfo], prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=prog, allow_abbrev=False)
    parser.add_argument("--config", metavar="FILE", help=f"TOML file; its table [{prog}] holds settings")
    for field in fields:
        flag = "--" + field.name.replace("_", "-")
        options: dict[str, Any] = {"metavar": "VALUE"}
        if _plain(field.type) is bool:
            options = {"action": argparse.BooleanOptionalAction}
        parser.add_argument(flag, dest=field.name, default=_UNSET, help=_help(field, prog), **options)
    return parser


def _help(field: msgspec.structs.FieldInfo, prog: str) -> str:
    texts = [m.description for m in _metadata(field.type) if isinstance(m, msgspec.Meta) and m.description]
    default = "required" if field.required else f"default {_default(field)!r}"
    return f"{' '.join(texts)} [{default}; {_variable(prog, field.name)}]".strip().replace("%", "%%")


def _default(field: msgspec.structs.FieldInfo) -> object:
    if field.default is not msgspec.NODEFAULT:
        return field.default
    return field.default_factory() if callable(field.default_factory) else None


def _metadata(kind: Any) -> Sequence[Any]:
    return kind.__metadata__ if get_origin(kind) is Annotated else ()


def _plain(kind: Any) -> Any:
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind


def _variable(prog: str, name: str) -> str:
    return f"CHAT_{prog}_{name}".upper().replace("-", "_").replace(".", "_")


def _file(path: str | None, prog: str, known: set[str]) -> Mapping[str, Any]:
    if path is None:
        return {}
    try:
        table = tomllib.loads(Path(path).read_text(encoding="utf-8")).get(prog, {})
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise _Wrong(f"--config {path}: can't be read: {error}") from error
    unknown = sorted(set(table) - known) if isinstance(table, dict) else [prog]
    if unknown:
        raise _Wrong(f"{path}: [{prog}] has no setting {unknown[0]!r}. It has: {', '.join(sorted(known))}.")
    return dict(table)


def _value(
    field: msgspec.structs.FieldInfo,
    prog: str,
    given: Mapping[str, Any],
    env: Mapping[str, str],
    table: Mapping[str, Any],
) -> Any:
    """Return the field's value, converted and checked, from the first place that has one."""
    flag, variable = "--" + field.name.replace("_", "-"), _variable(prog, field.name)
    if given[field.name] is not _UNSET:
        return _convert(field, given[field.name], flag)
    if variable in env:
        return _convert(field, env[variable], variable)
    if field.name in table:
        return _convert(field, table[field.name], f"{field.name} in [{prog}]")
    if field.required:
        raise _Wrong(f"{field.name} is needed: give {flag} or {variable}.")
    return _default(field)


def _convert(field: msgspec.structs.FieldInfo, value: Any, source: str) -> Any:
    if isinstance(value, str) and get_origin(_plain(field.type)) in (list, tuple, set, frozenset):
        value = [part.strip() for part in value.split(",") if part.strip()]
    try:
        return msgspec.convert(value, field.type, strict=False, dec_hook=_hook)
    except msgspec.ValidationError as error:
        raise _Wrong(f"{source}: {value!r} can't be used: {error}.") from error


def _make(cls: type[S], values: Mapping[str, Any]) -> S:
    try:
        return cls(**values)
    except ValueError as error:  # from __post_init__: what holds between fields
        raise _Wrong(str(error)) from error


def _hook(kind: type, value: Any) -> Any:
    if issubclass(kind, Path) and isinstance(value, str):
        return kind(value)
    raise NotImplementedError(f"settings can't hold a {kind.__name__}")


def fail(prog: str, error: Exception) -> int:
    """Print why ``prog`` can't start, for ``sys.exit(fail(…))`` on a SetupError; return ``CANT_START``."""
    sys.stderr.write(f"{prog}: {error}\n")
    return CANT_START
