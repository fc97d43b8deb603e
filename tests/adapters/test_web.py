"""The installer's page against whoever is on his network: raw HTTP, as no browser would send it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.adapters.web import gate, server, wire
from gatewayd.adapters.web.listening import ListeningError, _address_of, _interface_with, bound
from gatewayd.adapters.web.wire import Peer

CODE = "K7QX-2M0P"
DOOR = {"door": "street", "lock": "", "moved_by": "", "until": None, "trials": [], "walk": None,
        "missing": ["bound to nothing"]}  # fmt: skip
STATUS = wire.Status(configured=True, gateway="stairwell-7", group="v", doors=(DOOR,))


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: str


@dataclass
class Site:
    """The page, and its other process played by the test over the same socket."""

    port: int
    steps: Peer[wire.Asked]
    task: asyncio.Task[None]
    heard: list[wire.Asked] = field(default_factory=list)
    cookie: str = ""

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def raw(self, data: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            with contextlib.suppress(ConnectionError):
                writer.write(data)
                await writer.drain()
            async with asyncio.timeout(10):
                try:
                    return await reader.read()
                except ConnectionError:
                    return b""
        finally:
            writer.close()

    async def ask(self, method: str, path: str, body: str = "", **headers: str | None) -> Answer:
        sent = {"host": self.host, "content-length": str(len(body))}
        if method == "POST":
            sent |= {"origin": f"http://{self.host}"}
            sent |= {"content-type": "application/x-www-form-urlencoded"}
        if self.cookie:
            sent["cookie"] = self.cookie
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        lines = [f"{n}: {v}" for n, v in {**sent, **given}.items() if v is not None]
        head = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{line}\r\n" for line in lines)
        return parsed(await self.raw(f"{head}\r\n{body}".encode()))

    async def sign_in(self) -> None:
        answer = await self.ask("POST", "/", f"code={CODE}")
        assert answer.status == 303, answer
        self.cookie = answer.headers["set-cookie"].partition(";")[0]

    async def until(self, path: str, wanted: Callable[[Answer], bool]) -> Answer:
        async with asyncio.timeout(5):
            while not wanted(answer := await self.ask("GET", path)):  # noqa: ASYNC110 - a browser
                await asyncio.sleep(0.01)
        return answer

    async def word(self, kind: type) -> wire.Asked:
        async with asyncio.timeout(5):
            while True:
                for each in self.heard:
                    if isinstance(each, kind):
                        return each
                await asyncio.sleep(0.01)


def parsed(data: bytes) -> Answer:
    head, _, body = data.partition(b"\r\n\r\n")
    first, *rest = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in rest)}
    return Answer(int(first.split()[1]), headers, body.decode())


@contextlib.asynccontextmanager
async def page(idle_s: float = 60.0) -> AsyncIterator[Site]:
    listening = bound("127.0.0.1", 0)
    port = listening.getsockname()[1]
    ours, theirs = socket.socketpair()
    task = asyncio.create_task(server.serve(listening, theirs), name="page")
    reader, writer = await asyncio.open_connection(sock=ours)
    site = Site(port, Peer(reader, writer, wire.asking()), task)
    site.steps.say(wire.Begin(CODE, (f"127.0.0.1:{port}", f"localhost:{port}"), idle_s))
    site.steps.say(wire.State(STATUS))

    async def listen() -> None:
        async for word in site.steps.hear():
            site.heard.append(word)

    listener = asyncio.create_task(listen())
    try:
        yield site
    finally:
        await site.steps.close()
        async with asyncio.timeout(10):
            await task
        await listener
        listening.close()


# --- the code ---------------------------------------------------------------------------------
async def test_the_code_is_given_once_and_makes_one_session() -> None:
    async with page() as site:
        assert "Code from the terminal" in (await site.ask("GET", "/")).body
        for path in ("/machine", "/lock/street", "/handover.json", "/nothing"):
            assert (await site.ask("GET", path)).headers["location"] == "/"
        first = await site.ask("POST", "/", "code=k7qx%202mop")  # small, and an O for the 0
        assert first.status == 303
        kept = first.headers["set-cookie"].lower()
        assert "httponly" in kept
        assert "samesite=strict" in kept
        again = await site.ask("POST", "/", f"code={CODE}")
        assert (again.status, "set-cookie" in again.headers) == (409, False)
        assert "another device has this page" in again.body
        site.cookie = "gatewayd-setup=" + "0" * 64
        assert "another device" in (await site.ask("GET", "/")).body
        assert (await site.ask("POST", "/machine", "do=doctor")).status == 403
        site.cookie = first.headers["set-cookie"].partition(";")[0]
        shown = await site.ask("GET", "/")
        assert "stairwell-7" in shown.body
        noticed = await site.word(wire.Noticed)
        assert noticed == wire.Noticed("127.0.0.1 gave the code and has the page")


async def test_wrong_codes_are_counted_and_end_with_the_right_one_refused() -> None:
    async with page() as site:
        for number in range(gate.TRIES_OF_ONE):
            answer = await site.ask("POST", "/", f"code=AAAA-AAA{number}")
            assert (answer.status, "this is not the code" in answer.body) == (403, True)
        answer = await site.ask("POST", "/", f"code={CODE}")
        assert (answer.status, "set-cookie" in answer.headers) == (429, False)
        for body in ("", "code=", "code=&code=" + CODE, "x" * 200, "code=%00%ff"):
            assert (await site.ask("POST", "/", body)).status == 429


async def test_many_wrong_codes_from_many_addresses_switch_it_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gate, "TRIES", 3)
    async with page() as site:
        for _ in range(3):
            await site.ask("POST", "/", "code=no")
        assert await site.word(wire.End) == wire.End("guessed")
        async with asyncio.timeout(10):
            await site.task
        with pytest.raises(OSError):  # noqa: PT011 - nobody listens any more
            await site.ask("GET", "/")


# --- led here by somebody else -----------------------------------------------------------------
async def test_another_name_for_this_address_is_not_this_page() -> None:
    async with page() as site:
        await site.sign_in()
        port = site.port
        for host in (
            "evil.example", f"evil.example:{port}", "127.0.0.1", "127.0.0.1:80",
            f"127.0.0.1.:{port}", f"{site.host}@evil", "", f"[::1]:{port}",
        ):  # fmt: skip
            assert (await site.ask("GET", "/", host=host)).status in {400, 421}, host
        assert (await site.ask("GET", "/", host=None)).status == 400
        twice = f"GET / HTTP/1.1\r\nHost: {site.host}\r\nHost: {site.host}\r\n\r\n"
        assert parsed(await site.raw(twice.encode())).status in {400, 421}
        old = parsed(await site.raw(b"GET / HTTP/1.0\r\n\r\n"))
        assert old.status == 421
        assert (await site.ask("GET", "/", host=f"localhost:{site.port}")).status == 200


async def test_a_form_of_another_page_asks_for_nothing() -> None:
    async with page() as site:
        await site.sign_in()
        for origin in ("http://evil.example", "null", None, f"https://{site.host}",
                       f"http://localhost:{site.port}", f"http://{site.host}/"):  # fmt: skip
            answer = await site.ask("POST", "/machine", "do=doctor", origin=origin)
            assert answer.status == 403, origin
        for fetched in ("cross-site", "same-site", "none"):
            answer = await site.ask("POST", "/end", sec_fetch_site=fetched)
            assert answer.status == 403
        assert (await site.ask("GET", "/end")).status == 404
        assert [each for each in site.heard if not isinstance(each, wire.Noticed)] == []


async def test_every_answer_is_closed_to_other_pages_and_kept_by_nobody() -> None:
    async with page() as site:
        seen = [await site.ask("GET", "/"), await site.ask("GET", "/style.css")]
        await site.sign_in()
        seen += [await site.ask("GET", path) for path in ("/", "/machine", "/nothing", "/walk")]
        seen.append(await site.ask("GET", "/", host="evil.example"))
        for each in seen:
            policy = each.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert "frame-ancestors 'none'" in policy
            assert each.headers["cache-control"] == "no-store"
            assert each.headers["x-content-type-options"] == "nosniff"
            assert "server" not in each.headers
            for inline in ("<style", " style=", "onclick", "<script>"):
                assert inline not in each.body


# --- too much, too slow, too many ----------------------------------------------------------------
async def test_too_much_is_not_read() -> None:
    async with page() as site:
        much = "code=" + "A" * gate.MAX_CODE_BYTES
        assert (await site.ask("POST", "/", much)).status == 413
        await site.sign_in()
        assert (await site.ask("POST", "/enrol", "x" * (gate.MAX_BODY_BYTES + 1))).status == 413
        long = f"GET / HTTP/1.1\r\nHost: {site.host}\r\nCookie: {'x' * 400_000}\r\n\r\n"
        assert b" 200 " not in await site.raw(long.encode())
        many = "&".join(f"f{number}=1" for number in range(2000))
        assert (await site.ask("POST", "/enrol", many)).status == 400
        assert (await site.ask("GET", "/machine")).status == 200


async def test_who_is_slow_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "CONNECTION_S", 0.3)
    monkeypatch.setattr(gate, "BODY_S", 0.1)
    async with page() as site:
        head = f"POST / HTTP/1.1\r\nHost: {site.host}\r\nOrigin: http://{site.host}\r\n"
        slow = await site.raw(f"{head}Content-Length: 20\r\n\r\ncode=".encode())
        assert parsed(slow).status == 408
        assert await site.raw(b"GET / HTTP/1.1\r\nHost") == b""
        assert await site.raw(b"") == b""
        assert (await site.ask("GET", "/")).status == 200


async def test_one_address_holds_a_few_connections_only() -> None:
    async with page() as site, contextlib.AsyncExitStack() as stack:
        assert (await site.ask("GET", "/")).status == 200
        open_ones = []
        for _ in range(server.MOST_OF_ONE):
            pair = await asyncio.open_connection("127.0.0.1", site.port)
            stack.callback(pair[1].close)
            open_ones.append(pair)
        await asyncio.sleep(0.1)
        assert await site.raw(b"GET / HTTP/1.1\r\n\r\n") == b""  # one too many
        for _, writer in open_ones:
            writer.close()
        await asyncio.sleep(0.1)
        assert (await site.ask("GET", "/")).status == 200


async def test_paths_are_names_and_lead_nowhere_else() -> None:
    async with page() as site:
        await site.sign_in()
        for path in (
            "/../../etc/passwd", "/..%2f..%2fetc/passwd", "/%2e%2e/style.css", "//style.css",
            "/style.css/", "/templates/base.html", "/lock/attic", "/lock/..", "/lock/",
            "/base.html", "/absent", "/handover.html", "/enrolment.request",
            "/open/street%00", "http://evil.example/machine/x", "/lock/street/x",
        ):  # fmt: skip
            answer = await site.ask("GET", path)
            assert answer.status in {404, 307}, (path, answer)
            assert "root:" not in answer.body
        for method in ("PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT"):
            assert (await site.ask(method, "/machine")).status in {400, 405}


# --- what may be asked for -----------------------------------------------------------------------
async def test_a_page_asks_for_its_own_steps_and_one_at_a_time() -> None:
    async with page() as site:
        await site.sign_in()
        for path, body in (
            ("/machine", "do=report"),
            ("/machine", "do=end&why=finished"),
            ("/machine", ""),
            ("/machine", "do=doctor&more=1"),
            ("/lock/street", "do=claim-lock&door=attic&label=" + "x" * 201),
            ("/lock/street", "do=claim-lock&label=a%00b"),
            ("/lock/street", "do=release-lock"),
            ("/lock/street", "do=release-lock&label=+"),
            ("/bind/street", "do=bind-door&relay=--lock"),
            ("/bind/street", "do=bind-door&relay=a%3A1&pulse_ms=9"),
            ("/open/street", "do=test-open&leaf=ajar"),
            ("/enrol", "do=enrol&claim=GD1%26x"),
            ("/enrol", "do=answer"),
        ):
            answer = await site.ask("POST", path, body)
            assert (answer.status, "error:" in answer.body) == (400, True), (path, body)
        assert not [each for each in site.heard if not isinstance(each, wire.Noticed)]
        answer = await site.ask("POST", "/open/street", "do=test-open&leaf=open&door=attic")
        assert answer.headers["location"] == "/open/street"
        assert await site.word(wire.TestOpen) == wire.TestOpen("street", "open")
        answer = await site.ask("POST", "/machine", "do=doctor")
        assert (answer.status, "another step is under way" in answer.body) == (409, True)
        shown = await site.ask("GET", "/open/street")
        assert "http-equiv" in shown.body  # for who has no JavaScript
        assert "Stop" in shown.body
        await site.ask("POST", "/end")  # not while a step runs
        await site.ask("POST", "/stop")
        await site.word(wire.Stop)
        site.steps.say(wire.Line("<script>alert(1)</script>"))
        site.steps.say(wire.Ended(3, "<b>radio</b>", "hint"))
        shown = await site.until("/open/street", lambda answer: "radio" in answer.body)
        assert "Unknown: it may have happened" in shown.body
        assert "&lt;b&gt;radio" in shown.body
        assert "<script>" not in shown.body
        assert not [each for each in site.heard if isinstance(each, wire.End)]


async def test_files_of_steps_are_for_the_session_only() -> None:
    async with page() as site:
        await site.sign_in()
        await site.ask("POST", "/report", "do=report")
        await site.word(wire.Report)
        made = b"<!doctype html><style>a{}</style>"
        files = {"handover.html": made, "handover.json": b"{}", "other": b"x"}
        site.steps.say(wire.Ended(0, files=files))
        shown = await site.until("/handover.html", lambda answer: answer.status == 200)
        assert shown.body.encode() == made
        policy = shown.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; style-src 'sha256-")
        saved = await site.ask("GET", "/handover.json")
        assert saved.headers["content-disposition"] == 'attachment; filename="handover.json"'
        assert (await site.ask("GET", "/other")).status == 404
        assert (await site.ask("GET", "/handover.json", cookie=None)).status == 303


# --- its end ----------------------------------------------------------------------------------
async def test_after_its_end_nobody_listens_and_the_cookie_is_worth_nothing() -> None:
    async with page() as site:
        await site.sign_in()
        answer = await site.ask("POST", "/end")
        assert "This page is off" in answer.body
        assert await site.word(wire.End) == wire.End("finished")
        async with asyncio.timeout(10):
            await site.task
        with pytest.raises(OSError):  # noqa: PT011 - nobody listens any more
            await site.ask("GET", "/")


async def test_it_ends_when_nobody_uses_it_but_not_during_a_step() -> None:
    async with page(idle_s=0.6) as site:
        await site.sign_in()
        await site.ask("POST", "/walk", "do=walk")  # there is no walk without a lock
        await site.ask("POST", "/machine", "do=doctor")
        await asyncio.sleep(1.0)
        assert not site.task.done()
        site.steps.say(wire.Ended(0, document={"findings": []}))
        assert await site.word(wire.End) == wire.End("idle")


async def test_it_ends_with_whoever_runs_its_steps() -> None:
    async with page() as site:
        assert (await site.ask("GET", "/")).status == 200
        await site.steps.close()
        async with asyncio.timeout(10):
            await site.task


async def test_whoever_begins_with_nonsense_gets_no_page() -> None:
    listening = bound("127.0.0.1", 0)
    ours, theirs = socket.socketpair()
    ours.sendall(b'{"told":"line","text":"x"}\nnonsense\n')
    async with asyncio.timeout(10):
        await server.serve(listening, theirs)
    ours.close()
    listening.close()


# --- where, and in which words -------------------------------------------------------------------
@pytest.mark.parametrize(
    ("on", "said"),
    [
        ("0.0.0.0", "not only the installer's side"),  # noqa: S104 - refused
        ("::", "not only the installer's side"),
        ("224.0.0.1", "not only the installer's side"),
        ("8.8.8.8", "not only the installer's side"),
        ("192.168.254.77", "cannot listen at"),
        ("no-such-thing", "is no interface"),
        ("", "is no interface"),
        ("x" * 300, "is no interface"),
    ],
)
def test_it_listens_on_the_installers_side_only(on: str, said: str) -> None:
    with pytest.raises(ListeningError, match=said):
        bound(on, 0)


def test_an_interface_is_named_and_its_address_taken() -> None:
    try:
        where = bound("lo", 0)
    except ListeningError:  # binding to a device is not everybody's
        pytest.skip("this user may not bind to an interface")
    with where:
        assert where.getsockname()[0] == "127.0.0.1"
        name = where.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16)
        assert name.rstrip(b"\x00") == b"lo"


def test_an_address_is_served_to_its_own_interface_only() -> None:
    """Who is on another network of the gateway's can send packets to any of its addresses."""
    assert _interface_with("127.0.0.1") == "lo"
    assert _interface_with("192.168.254.77") is None
    for _, name in socket.if_nameindex():
        with contextlib.suppress(ListeningError):  # without an address, of the internet, not ours
            where = bound(_address_of(name), 0)
            with where:
                held = where.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16)
                assert held.rstrip(b"\x00").decode() == ("" if name == "lo" else name)


ASKED = msgspec.json.encode(wire.ClaimLock("street", "GWL1-AAAA", 3))


def test_a_word_is_read_whole_or_not_at_all() -> None:
    decoder = wire.asking()
    assert decoder.decode(ASKED) == wire.ClaimLock("street", "GWL1-AAAA", 3)
    for end in range(len(ASKED)):
        with pytest.raises(msgspec.MsgspecError):
            decoder.decode(ASKED[:end])
    for more in (b"x", b"{}", b",", ASKED):
        with pytest.raises(msgspec.MsgspecError):
            decoder.decode(ASKED + more)
    for odd in (
        b'{"do":"run"}', b'{"do":"scan","x":1}', b"[]", b"null",
        b'{"do":"unbind-door","door":"-c"}',
        b'{"do":"claim-lock","door":"a","serial":-1}', b'{"do":"claim-lock","door":"a\\n"}',
        b'{"do":"bind-door","door":"a","relay":"-x"}', b'{"do":"answer","data":"*"}',
        b'{"do":"end","why":"tired"}',
    ):  # fmt: skip
        with pytest.raises(msgspec.MsgspecError):
            decoder.decode(odd)


@given(st.binary(max_size=200))
def test_whatever_the_page_says_is_a_word_or_an_error(data: bytes) -> None:
    with contextlib.suppress(msgspec.MsgspecError):
        wire.asking().decode(data)
