"""TOML to frozen structs, strictly, reporting every problem and not just the first."""

from __future__ import annotations

import re
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import msgspec

from gatewayd.config import lines

_Struct = TypeVar("_Struct", bound=msgspec.Struct)

_TOML_PLACE: Final = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)$")
_UNSEEN: Final = re.compile(r"[\x00-\x1f\x7f]")
_WORDS: Final = {
    "`object`": "a table",
    "`array`": "a list",
    "`str`": "text",
    "`int`": "a whole number",
    "`bool`": "true or false",
}


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing to mend, and how. `line` counts from 1."""

    line: int
    message: str
    hint: str

    def placed(self, path: Path) -> str:
        """With file and line; a message about the file as a whole names it itself."""
        return (
            self.message if f" {path} " in self.message else f"{path}:{self.line}: {self.message}"
        )


@dataclass(slots=True)
class Report:
    """Problems found so far in one text, placed by path."""

    places: lines.Lines
    problems: list[Problem]

    def add(self, path: lines.Path, message: str, hint: str) -> None:
        """Note one more."""
        self.problems.append(Problem(self.places.of(path), message, hint))


def decode(text: str, cls: type[_Struct], directory: Path) -> tuple[_Struct | None, Report]:
    """Decode `text`; relative paths in it count from `directory`.

    The struct is None exactly when the report names problems.
    """
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # a number without end, brackets without end
        return None, Report(lines.Lines({}), [_syntax(text, str(error))])
    report = Report(lines.locate(text), [])
    values = _Walker(report, directory).struct(cls, document, ())
    if report.problems:
        return None, report
    return cls(**values), report


def _syntax(text: str, message: str) -> Problem:
    place = _TOML_PLACE.search(message)
    line = int(place[1]) if place and place[1] else max(len(text.splitlines()), 1)
    said = _TOML_PLACE.sub("", message)
    return Problem(line, f"not TOML: {said[:1].lower()}{said[1:]}", "see https://toml.io/en/v1.0.0")


class _Walker:
    """Descends struct and document side by side."""

    def __init__(self, report: Report, directory: Path) -> None:
        self._report = report
        self._directory = directory

    def struct(
        self, cls: type[msgspec.Struct], table: Mapping[str, Any], path: lines.Path
    ) -> dict[str, Any]:
        fields = {each.encode_name: each for each in msgspec.structs.fields(cls)}
        for name in table.keys() - fields.keys():
            self._report.add((*path, name), *_unknown(name, path, fields))
        values: dict[str, Any] = {}
        for name, field in fields.items():
            place = (*path, name)
            if name in table:
                values[field.name] = self.value(field.type, table[name], place)
            elif field.required:
                self._report.add(path, f"{_dotted(place)} is missing", _describe(field.type))
            elif isinstance(field.default, Path):
                values[field.name] = self._directory / field.default
            elif isinstance(field.default, msgspec.Struct):
                values[field.name] = self._build(type(field.default), {}, place)
        return values

    def value(self, kind: Any, value: Any, path: lines.Path) -> Any:  # noqa: ANN401 - any TOML
        inner = _struct_of(kind)
        if inner is not None and isinstance(value, dict):
            return self._build(inner, value, path)
        repeated = _repeated_struct_of(kind)
        if repeated is not None and isinstance(value, list) and value:
            return tuple(
                self.value(repeated, each, (*path, index)) for index, each in enumerate(value)
            )
        if isinstance(value, str) and _UNSEEN.search(value):
            message = f"{_dotted(path)}: has characters that nobody can see"
            self._report.add(path, message, "type it again")
            return None
        try:
            return msgspec.convert(value, kind, dec_hook=self._path)
        except msgspec.ValidationError as error:
            self._report.add(path, f"{_dotted(path)}: {_plain(str(error))}", _describe(kind))
            return None

    def _build(
        self, cls: type[msgspec.Struct], table: Mapping[str, Any], path: lines.Path
    ) -> msgspec.Struct | None:
        before = len(self._report.problems)
        values = self.struct(cls, table, path)
        return cls(**values) if len(self._report.problems) == before else None

    def _path(self, kind: type, value: object) -> Path:
        if kind is Path and isinstance(value, str) and value:
            return self._directory / value
        raise msgspec.ValidationError("Expected the name of a file")


def _struct_of(kind: Any) -> type[msgspec.Struct] | None:  # noqa: ANN401 - a type form
    """The struct in `S`, `S | None`, or None."""
    options = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    for option in options:
        if isinstance(option, type) and issubclass(option, msgspec.Struct):
            return option
    return None


def _repeated_struct_of(kind: Any) -> type[msgspec.Struct] | None:  # noqa: ANN401 - a type form
    """The struct in `tuple[S, ...]`, or None."""
    plain = typing.get_args(kind)[0] if typing.get_origin(kind) is Annotated else kind
    if typing.get_origin(plain) is not tuple:
        return None
    return _struct_of(typing.get_args(plain)[0])


def _unknown(name: str, path: lines.Path, known: Iterable[str]) -> tuple[str, str]:
    message = f"{_dotted((*path, name))} is not a setting"
    import difflib  # noqa: PLC0415 - for whoever mistypes; a daemon that runs needs none

    near = difflib.get_close_matches(name, known, n=1)
    return message, f"did you mean '{near[0]}'?" if near else f"one of: {', '.join(known)}"


def _describe(kind: Any) -> str:  # noqa: ANN401 - a type form
    """The description that the field's type carries, as the hint."""
    options = typing.get_args(kind) if typing.get_origin(kind) is typing.Union else ()
    metadata = getattr(options[0] if options else kind, "__metadata__", ())
    return str(metadata[0].description) if metadata else "see docs/configuration.md"


def _dotted(path: lines.Path) -> str:
    """`door[1].lock.address`, counting doors from 1 as people do."""
    text = ""
    for each in path:
        text += f"[{each + 1}]" if isinstance(each, int) else f".{each}" if text else each
    return text


def _plain(said: str) -> str:
    """The words of msgspec in those of a person who writes TOML."""
    for technical, plain in _WORDS.items():
        said = said.replace(technical, plain)
    said = re.sub("text matching regex .*", "another form", said)
    said = re.sub(r"Invalid enum value ('.*?')( - at .*)?$", r"\1 is none of them", said)
    said = re.sub(r" - at `[^`]*`$", "", said)
    return said[:1].lower() + said[1:]
