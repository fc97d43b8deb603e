"""What ended tasks that ran together, when nothing but the outside did."""

from __future__ import annotations

from typing import TypeVar

_Expected = TypeVar("_Expected", bound=Exception)


def only(error: Exception, *kinds: type[_Expected]) -> _Expected | None:
    """The error, or the first of its group, where all are of these kinds; None for any other."""
    if not isinstance(error, ExceptionGroup):
        return error if isinstance(error, kinds) else None
    found = [only(each, *kinds) for each in error.exceptions]
    return None if None in found else found[0]
