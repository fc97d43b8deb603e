"""Structs to TOML: what `decode` reads again."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
from msgspec import Struct


def table(value: Struct, base: Path, prefix: str = "") -> str:
    """A struct as dotted keys; what has its default is left out. Paths count from `base`."""
    text = ""
    for field in msgspec.structs.fields(type(value)):
        item = getattr(value, field.name)
        if not field.required and item == field.default:
            continue
        if isinstance(item, Struct):
            text += table(item, base, f"{prefix}{field.name}.")
        else:
            text += f"{prefix}{field.name} = {_scalar(item, base)}\n"
    return text


def _scalar(item: object, base: Path) -> str:
    if isinstance(item, Path):
        item = str(item.relative_to(base) if item.is_relative_to(base) else item)
    # JSON's texts, numbers, booleans and lists are TOML's, too
    return json.dumps(item, ensure_ascii=False)
