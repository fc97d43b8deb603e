"""The configuration: read strictly, every problem reported at once, nothing ever overwritten."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from gatewayd.config import checks, credentials, on_site, secrets
from gatewayd.config.decode import Problem, Report, decode
from gatewayd.config.model import Config
from gatewayd.config.secrets import Secrets
from gatewayd.device_keys import OpenKey, no_device
from gatewayd.keyfiles import KeyFileError, read_file

__all__ = [
    "Config",
    "ConfigError",
    "Problem",
    "Report",
    "Secrets",
    "check",
    "credentials",
    "load",
    "load_all",
    "on_site",
]

_T = TypeVar("_T")

_NO_FILE = "sudo gatewayd setup enrol writes it; one elsewhere is named with -c FILE"

Also = Callable[[Config, Report], None]
"""Adds to the report what only this machine can know."""


class ConfigError(Exception):
    """The configuration cannot be used. `problems` is everything there is to mend."""

    def __init__(self, path: Path, problems: list[Problem]) -> None:
        super().__init__(f"{path}: {len(problems)} problem(s)")
        self.path = path
        self.problems = problems


def load(path: Path, *, unbound: bool = False) -> Config:
    """The configuration in `path` with what was bound on site, without the keys. ConfigError.

    `unbound`: doors need nothing yet that moves them.
    """
    config, report = _decode(path, unbound=unbound)
    return _unless_problems(path, config, report)


def load_all(
    path: Path,
    handed_over: Path | None = None,
    also: Also | None = None,
    *,
    as_installed: bool = False,
    open_key: OpenKey = no_device,
) -> tuple[Config, Secrets]:
    """The configuration and all keys that it names. ConfigError with every problem of both.

    A private key in `handed_over` (see `credentials.directory`) is taken
    instead of the file of the same name. `as_installed`: without what was bound on site; what
    moves a door may then come later, on site or from the operator. `open_key`: for keys that are
    in a secure element.
    """
    config, report = _decode(path, handed_over, unbound=as_installed, placed=not as_installed)
    found = None if config is None else secrets.read(config, report, open_key)
    if config is not None and also is not None:
        also(config, report)
    return _unless_problems(path, config, report), _unless_problems(path, found, report)


def check(path: Path, also: Also | None = None, open_key: OpenKey = no_device) -> list[Problem]:
    """Every problem of the configuration and of the keys that it names, by line."""
    try:
        load_all(path, also=also, open_key=open_key)
    except ConfigError as error:
        return error.problems
    return []


def _decode(
    path: Path, handed_over: Path | None = None, *, unbound: bool = False, placed: bool = True
) -> tuple[Config | None, Report]:
    try:
        text = read_file(path, "configuration", _NO_FILE).decode("utf-8")
    except KeyFileError as error:
        raise ConfigError(path, [Problem(1, error.message, error.hint)]) from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigError(path, [Problem(line, "not UTF-8", "save it as UTF-8")]) from None
    config, report = decode(text, Config, path.parent)
    if config is not None:
        config = credentials.place(config, handed_over)
        if placed:
            setup, problems = on_site.load(config.gateway.state)
            on_site.report_problems(config.gateway.state, problems, report)
            config = on_site.place(config, setup)
        checks.check(config, report, unbound=unbound)
    return config, report


def _unless_problems(path: Path, value: _T | None, report: Report) -> _T:
    if value is None or report.problems:
        raise ConfigError(path, sorted(report.problems))
    return value
