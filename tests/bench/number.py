"""One measured number: its bar, whether it holds, how it was measured; and how people read it."""

from __future__ import annotations

import math
import operator
import statistics
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

DIGITS: Final = 3
_WIDTH: Final = 96
_SENSES: Final[dict[str, Callable[[float, float], bool]]] = {
    "<=": operator.le,
    "==": operator.eq,
    ">=": operator.ge,
}


@dataclass(frozen=True, slots=True)
class Bar:
    """What the number has to be. `sense` is one of <=, == and >=."""

    sense: str
    limit: float

    def holds(self, value: float) -> bool:
        return _SENSES[self.sense](value, self.limit)


@dataclass(frozen=True, slots=True)
class Number:
    """`unit` is empty for ratios and counts. `how` names method, sample size and conditions."""

    name: str
    value: float
    unit: str
    how: str
    bar: Bar | None = None

    @property
    def holds(self) -> bool | None:
        """None where there is no bar. The bar is compared with what is printed."""
        return None if self.bar is None else self.bar.holds(self.rounded)

    @property
    def rounded(self) -> float:
        """What document and table show: whole numbers as they are."""
        return self.value if isinstance(self.value, int) else round(self.value, DIGITS)

    def document(self) -> dict[str, Any]:
        """For programs. ValueError for what JSON cannot hold."""
        if not math.isfinite(self.value):
            raise ValueError(f"{self.name}: {self.value} is not a measured number")
        return {
            "name": self.name,
            "value": self.rounded,
            "unit": self.unit,
            "bar": None if self.bar is None else self.bar.limit,
            "holds": self.holds,
            "how": self.how,
        }


def table(numbers: Sequence[Number]) -> Iterable[str]:
    """For people: one line per number, how it was measured below it."""
    width = max((len(number.name) for number in numbers), default=0)
    for number in numbers:
        bar = "" if number.bar is None else f"{number.bar.sense} {number.bar.limit:g}"
        mark = {None: "", True: "holds", False: "MISSED"}[number.holds]
        value = f"{number.rounded:g} {number.unit}"
        yield f"{number.name:<{width}}  {value:>12}  {bar:<7} {mark}".rstrip()
        yield from textwrap.wrap(
            number.how, _WIDTH, initial_indent="      ", subsequent_indent="      "
        )


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that `share` of all values do not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def medians(of: dict[str, list[float]]) -> dict[str, float]:
    """By name."""
    return {name: statistics.median(values) for name, values in of.items()}
