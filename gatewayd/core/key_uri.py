"""Where a private key lies in a secure element: a PKCS#11 URI (RFC 7512), read strictly.

A key file may hold one line of this instead of a key. A PIN never stands in it:
`pin-source` names the file that has it.
"""

from __future__ import annotations

import re
from collections.abc import Container
from dataclasses import dataclass, fields
from typing import Final

SCHEME: Final = "pkcs11:"
MAX_CHARACTERS: Final = 1024

_UNRESERVED: Final = r"A-Za-z0-9._~:\[\]@!$'()*+,=\-"  # RFC 7512 §2.3
_PATH: Final = re.compile(rf"(?:[{_UNRESERVED}&]|%[0-9A-Fa-f]{{2}})*")
_QUERY: Final = re.compile(rf"(?:[{_UNRESERVED}/?|]|%[0-9A-Fa-f]{{2}})*")
_ESCAPED: Final = re.compile(rb"%(..)")
_PLAIN: Final = re.compile(r"[A-Za-z0-9._~-]")  # RFC 3986 §2.3
_PATH_NAMES: Final = ("token", "manufacturer", "model", "serial", "object", "type")
_QUERY_NAMES: Final = {"module-path": "module_path", "pin-source": "pin_source"}
_FILE: Final = "file:"


class NotAKeyUriError(ValueError):
    """The text names no key in a secure element; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyUri:
    """What a URI says; None for what it leaves open."""

    module_path: str
    """The library that talks to the element."""
    token: str | None = None
    manufacturer: str | None = None
    model: str | None = None
    serial: str | None = None
    object: str | None = None
    """The key's label."""
    pin_source: str | None = None
    """The file with the PIN; None: the element wants none."""

    @classmethod
    def parse(cls, text: str) -> KeyUri:
        """NotAKeyUriError for anything that we do not know in whole."""
        if len(text) > MAX_CHARACTERS:
            raise NotAKeyUriError("too long")
        if not text.startswith(SCHEME):
            raise NotAKeyUriError(f"it does not begin with {SCHEME}")
        path, _, query = text.removeprefix(SCHEME).partition("?")
        found = _attributes(path, ";", _PATH, _PATH_NAMES)
        asked = _attributes(query, "&", _QUERY, _QUERY_NAMES)
        if found.pop("type", "private") != "private":
            raise NotAKeyUriError("it names something else than a private key")
        if "module-path" not in asked:
            raise NotAKeyUriError("module-path is missing: the library that talks to the element")
        if "token" not in found and "serial" not in found:
            raise NotAKeyUriError("it names no token, neither by token nor by serial")
        uri = cls(**found, **{_QUERY_NAMES[name]: value for name, value in asked.items()})
        return uri._with_files()

    def _with_files(self) -> KeyUri:
        pin = self.pin_source
        if pin is not None:
            pin = pin.removeprefix(_FILE).removeprefix("//")
        for name, path in (("module-path", self.module_path), ("pin-source", pin)):
            if path is not None and not path.startswith("/"):
                raise NotAKeyUriError(f"{name} is not the absolute path of a file")
        return self.changed(pin_source=pin)

    def changed(self, **changes: str | None) -> KeyUri:
        """With other values for some of it."""
        return KeyUri(**{each.name: getattr(self, each.name) for each in fields(self)} | changes)

    def text(self) -> str:
        """The URI; `parse` gives the same again."""
        path = [
            f"{name}={_encoded(value)}"
            for name in _PATH_NAMES[:-1]
            if (value := getattr(self, name)) is not None
        ]
        query = [
            f"{name}={_encoded(value, keep='/')}"
            for name, field in _QUERY_NAMES.items()
            if (value := getattr(self, field)) is not None
        ]
        return f"{SCHEME}{';'.join(path)}?{'&'.join(query)}"


def _attributes(
    text: str, separator: str, allowed: re.Pattern[str], known: Container[str]
) -> dict[str, str]:
    found: dict[str, str] = {}
    for each in text.split(separator) if text else ():
        name, equals, value = each.partition("=")
        if not name or not equals or not value:
            raise NotAKeyUriError("a name without a value")
        if name == "pin-value":
            raise NotAKeyUriError("a PIN does not stand in a URI: name its file with pin-source")
        if name not in known:
            raise NotAKeyUriError(f"{name} is nothing that is known here")
        if name in found:
            raise NotAKeyUriError(f"{name} twice")
        if not allowed.fullmatch(value):
            raise NotAKeyUriError(f"{name} has a character that must be percent-encoded")
        found[name] = _decoded(name, value)
    return found


def _encoded(text: str, keep: str = "") -> str:
    return "".join(
        each
        if each in keep or _PLAIN.fullmatch(each)
        else "".join(f"%{code:02X}" for code in each.encode())
        for each in text
    )


def _decoded(name: str, value: str) -> str:
    try:
        found = _ESCAPED.sub(lambda code: bytes.fromhex(code[1].decode()), value.encode())
        text = found.decode("utf-8")
    except UnicodeDecodeError:
        raise NotAKeyUriError(f"{name} is not UTF-8") from None
    if not text.isprintable():
        raise NotAKeyUriError(f"{name} has a character that nobody can see")
    return text
