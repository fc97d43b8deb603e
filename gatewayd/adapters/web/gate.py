"""Who may speak to the page, before anything of it runs: an ASGI application around the other.

A browser that somebody else has led here (another name for this address, a
form on another site) is turned away by Host and Origin; who has not given the
code sees where to type it. The first to give it has the page until it ends.
"""

from __future__ import annotations

import asyncio
import hmac
import os
from collections import Counter
from typing import Final
from urllib.parse import parse_qs

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gatewayd.adapters.web import pages
from gatewayd.adapters.web.session import Session

COOKIE: Final = "gatewayd-setup"
TRIES_OF_ONE: Final = 10
TRIES: Final = 100
"""Of 2**40 codes; and nobody keeps the installer out from one address."""
MAX_CODE_BYTES: Final = 256
MAX_BODY_BYTES: Final = 64 * 1024
BODY_S: Final = 10.0
_ALIKE: Final = str.maketrans("OIL", "011")
HEADERS: Final = {
    "cache-control": "no-store",
    "connection": "close",
    "content-security-policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "geolocation=(), microphone=(), usb=()",
    "referrer-policy": "same-origin",  # by none at all a form would have no origin either
    "x-content-type-options": "nosniff",
}


class Gate:
    """Around the application: what passes has this page's name, and its session."""

    def __init__(self, inner: ASGIApp, session: Session, hosts: tuple[str, ...], code: str) -> None:
        self._inner = inner
        self._session = session
        self._hosts = hosts
        self._code = _plain(code)
        self._token = ""
        self._tries: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            return
        request = Request(scope, receive)

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                theirs = {name for name, _ in message["headers"]}
                message["headers"] += [
                    (name.encode(), value.encode())
                    for name, value in HEADERS.items()
                    if name.encode() not in theirs
                ]
            await send(message)

        answer = _misled(request, self._hosts)
        if answer is None and request.url.path in pages.STATIC:
            answer = pages.static(request.url.path)
        elif answer is None and self._session.ended:
            answer = _words(410, "this page is off")
        elif answer is None and self._signed_in(request):
            self._session.used()
            answer = await self._read(request, MAX_BODY_BYTES, scope, guarded)
            if answer is None:
                return
        elif answer is None:
            answer = await self._outside(request)
        await answer(scope, receive, guarded)

    async def _read(self, request: Request, most: int, scope: Scope, send: Send) -> Response | None:
        """The whole body, then the application; an answer when there is too much of it."""
        body = await _body(request, most)
        if isinstance(body, Response):
            return body
        whole: Message = {"type": "http.request", "body": body, "more_body": False}

        async def again() -> Message:
            return whole

        await self._inner(scope, again, send)
        return None

    # --- the code -------------------------------------------------------------------------------
    def _signed_in(self, request: Request) -> bool:
        shown = request.cookies.get(COOKIE, "")
        return bool(self._token) and hmac.compare_digest(shown.encode(), self._token.encode())

    async def _outside(self, request: Request) -> Response:
        path, method = request.url.path, request.method
        if method == "POST":
            if path != "/":
                return _words(403, "the code comes first")
            body = await _body(request, MAX_CODE_BYTES)
            return body if isinstance(body, Response) else self._try(request, body)
        if path != "/":
            return RedirectResponse("/", status_code=303)
        return self._ask()

    def _ask(self, status: int = 200, error: str = "", hint: str = "") -> Response:
        return pages.response("code.html", status, taken=bool(self._token), error=error, hint=hint)

    def _try(self, request: Request, body: bytes) -> Response:
        if self._token:
            return self._ask(409)
        peer = request.client.host if request.client else ""
        if self._tries[peer] >= TRIES_OF_ONE:
            return self._ask(
                429, "too many wrong codes came from this device",
                "start the page again in the terminal: it will have another code",
            )  # fmt: skip
        given = parse_qs(body.decode("latin-1"), max_num_fields=4).get("code", [""])[0]
        if not hmac.compare_digest(_plain(given).encode(), self._code.encode()):
            self._tries[peer] += 1
            self._session.notice(f"a wrong code came from {peer}")
            if self._tries.total() >= TRIES:
                self._session.end("guessed")
            return self._ask(
                403, "this is not the code", "the terminal shows it: eight letters and digits"
            )
        self._token = os.urandom(32).hex()
        self._session.used()
        self._session.notice(f"{peer} gave the code and has the page")
        answer = RedirectResponse("/", status_code=303)
        answer.set_cookie(COOKIE, self._token, httponly=True, samesite="strict")
        return answer


# --- what is turned away -------------------------------------------------------------------------
def _misled(request: Request, hosts: tuple[str, ...]) -> Response | None:
    """DNS that was turned around, forms of other sites, methods of other programs."""
    headers: Headers = request.headers
    named = headers.getlist("host")
    if len(named) != 1 or named[0] not in hosts:
        return _words(421, "this page has another address")
    if request.method not in {"GET", "HEAD", "POST"}:
        return _words(405, "only GET and POST")
    if request.method == "POST":
        fetched = headers.getlist("sec-fetch-site")
        if headers.getlist("origin") != [f"http://{named[0]}"] or fetched not in (
            [],
            ["same-origin"],
        ):
            return _words(403, "a form of another page")
    return None


async def _body(request: Request, most: int) -> bytes | Response:
    """All of it, if it comes soon and is not too much."""
    if request.method != "POST":
        return b""
    body = b""
    try:
        async with asyncio.timeout(BODY_S):
            async for part in request.stream():
                body += part
                if len(body) > most:
                    return _words(413, "too much at once")
    except TimeoutError:
        return _words(408, "too slow")
    except ClientDisconnect:
        return _words(400, "gone")
    return body


def _words(status: int, text: str) -> Response:
    return PlainTextResponse(f"{text}\n", status_code=status)


def _plain(code: str) -> str:
    """As it is compared: hyphens, blanks and small letters do not matter, nor O for 0."""
    letters = "".join(letter for letter in code.upper() if letter.isascii() and letter.isalnum())
    return letters.translate(_ALIKE)
