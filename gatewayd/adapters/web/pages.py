"""The templates and the two files of the page, read once, before its process becomes nobody."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Final

import jinja2
from starlette.responses import HTMLResponse, Response

_WHERE: Final = Path(__file__).with_name("templates")
STATIC: Final = {
    "/style.css": "text/css",
    "/page.js": "text/javascript",
    "/icon.svg": "image/svg+xml",
}


@cache
def load() -> tuple[dict[str, jinja2.Template], dict[str, bytes]]:
    """All of them."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_WHERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        auto_reload=False,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    names = [path.name for path in _WHERE.glob("*.html")]
    templates = {name: environment.get_template(name) for name in names}
    return templates, {path: (_WHERE / path[1:]).read_bytes() for path in STATIC}


def response(name: str, status_code: int = 200, **values: object) -> Response:
    """A page."""
    return HTMLResponse(load()[0][name].render(**values), status_code=status_code)


def static(path: str) -> Response:
    """One of the files; KeyError for any other name."""
    return Response(load()[1][path], media_type=STATIC[path])
