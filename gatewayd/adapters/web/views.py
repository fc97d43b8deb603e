"""The pages themselves: what is shown at each address, and what its forms may ask for."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from gatewayd.adapters.web import pages, path, wire
from gatewayd.adapters.web.gate import HEADERS
from gatewayd.adapters.web.session import Session
from gatewayd.adapters.web.wire import Status, Step

MAY: Final[Mapping[str, frozenset[str]]] = {
    "machine": frozenset({"doctor"}),
    "enrol": frozenset({"enrol", "request", "answer"}),
    "lock": frozenset({"scan", "claim-lock", "release-lock", "forget-lock"}),
    "bind": frozenset({"bind-door", "unbind-door"}),
    "open": frozenset({"test-open"}),
    "walk": frozenset({"walk"}),
    "report": frozenset({"report"}),
}
"""What the forms of a page ask for."""
_DOWNLOADS: Final = {
    "handover.html": "text/html",
    "handover.json": "application/json",
    "enrolment.request": "application/octet-stream",
}
_TYPED: Final = "what was typed does not fit"
_AGAIN: Final = "look at it again: it is too long, or has a character that does not belong there"


def application(session: Session) -> Starlette:
    """The application behind the gate."""
    view = _Views(session)
    both = ["GET", "POST"]
    return Starlette(
        routes=[
            Route("/", view.overview),
            Route("/stop", view.stop, methods=["POST"]),
            Route("/end", view.end, methods=["POST"]),
            *(Route(f"/{name}", view.download) for name in _DOWNLOADS),
            Route("/{kind}", view.page, methods=both),
            Route("/{kind}/{door}", view.page, methods=both),
        ],
        exception_handlers={HTTPException: _absent},
    )


class _Views:
    def __init__(self, session: Session) -> None:
        self._session = session

    async def overview(self, request: Request) -> Response:
        """All steps, and which is next."""
        return self._shown("overview.html", request)

    async def page(self, request: Request) -> Response:
        """One step."""
        kind, door = request.path_params["kind"], request.path_params.get("door", "")
        if request.url.path not in {each.path for each in self._stages()} or kind not in MAY:
            raise HTTPException(404)
        if request.method != "POST":
            return self._shown(f"{kind}.html", request)
        try:
            step = await _asked(request, kind, door)
        except ValueError:  # msgspec's, too
            return self._shown(f"{kind}.html", request, 400, error=_TYPED, hint=_AGAIN)
        if not self._session.begin(step, request.url.path):
            return self._shown(
                f"{kind}.html", request, 409, error="another step is under way",
                hint="wait for it, or stop it",
            )  # fmt: skip
        return RedirectResponse(request.url.path, status_code=303)

    async def stop(self, _request: Request) -> Response:
        """End the step that runs."""
        running = self._session.running
        self._session.stop()
        return RedirectResponse(running.path if running else "/", status_code=303)

    async def end(self, request: Request) -> Response:
        """The last page."""
        if self._session.running is not None:
            return RedirectResponse("/", status_code=303)
        answer = self._shown("end.html", request)
        self._session.end("finished")
        return answer

    async def download(self, request: Request) -> Response:
        """What a step has written."""
        name = request.url.path[1:]
        data = self._session.files.get(name)
        if data is None:
            raise HTTPException(404)
        policy = HEADERS["content-security-policy"]
        headers = {"content-security-policy": policy}
        if name == "handover.html":  # one page with its style inside
            headers = {"content-security-policy": f"default-src 'none'; style-src {_style(data)}"}
        else:
            headers["content-disposition"] = f'attachment; filename="{name}"'
        return Response(data, media_type=_DOWNLOADS[name], headers=headers)

    def _stages(self) -> list[path.Stage]:
        return path.stages(self._session.status, self._session.results)

    def _shown(
        self, name: str, request: Request, status: int = 200, *, error: str = "", hint: str = ""
    ) -> Response:
        session, stages, here = self._session, self._stages(), request.url.path
        running = session.running
        return pages.response(
            name,
            status,
            stages=stages,
            stage=next((each for each in stages if each.path == here), None),
            following=path.following(stages),
            status=session.status,
            door=_named(session.status, request.path_params.get("door", "")),
            lock=session.status.locks.get(request.path_params.get("door", "")),
            running=running if running and running.path == here else None,
            elsewhere=running if running and running.path != here else None,
            result=session.results.get(here),
            files=session.files.keys(),
            error=error,
            hint=hint,
        )


def _named(status: Status, name: str) -> Mapping[str, Any]:
    return next((each for each in status.doors if each["door"] == name), {})


async def _asked(request: Request, kind: str, door: str) -> Step:
    """What a form asks for. ValueError for anything that none of ours can send."""
    fields: dict[str, object] = {}
    async with request.form(max_files=1, max_fields=10, max_part_size=4096) as form:
        for name, value in form.multi_items():
            data = await value.read() if isinstance(value, UploadFile) else value.strip()
            if data:
                fields[name] = data
    if fields.get("do") not in MAY[kind]:
        raise ValueError("this page has no such step")
    if door and fields["do"] != "scan":
        fields["door"] = door
    found: Step = msgspec.convert(fields, wire.Step, strict=False)
    return found


def _style(page: bytes) -> str:
    """The one inline style of a report, as a policy names it."""
    text = page.partition(b"<style>")[2].partition(b"</style>")[0]
    return f"'sha256-{base64.b64encode(hashlib.sha256(text).digest()).decode()}'"


async def _absent(_request: Request, error: Exception) -> Response:
    code = error.status_code if isinstance(error, HTTPException) else 500
    return pages.response("absent.html", code)
