"""phone deliver and time, with a daemon, a cloud and a broker in processes of their own."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from firmware_proto.codes import Action, KeyClass
from gatewayd.adapters.virtual_radio import INSTANT, VirtualAir, serve_hci
from gatewayd.cli.command import ExitCode
from gatewayd.cloud.authority import new_key
from gatewayd.core.claims import Claims, StatusReference
from gatewayd.emulators.wallet import Wallet
from gatewayd.keyfiles import create_files, private_pem
from tests.cli.test_run_command import air, daemon, without_uplink
from tests.support.brokers import free_port, make_broker
from tests.support.commands import Ran, completed, run, running
from tests.support.site import NOW, YEAR, Site, make_site

URI = "https://housing.example/keys"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    made = make_site(tmp_path)
    made.replace("gatewayd.toml", without_uplink(f"unix:{tmp_path}/gateway.hci"))
    return made


def wallet(site: Site, name: str, index: int) -> Path:
    key = new_key()
    claims = Claims(
        issuer="",
        subject=name,
        audience=site.authority.group,
        cti=index.to_bytes(8, "big"),
        not_before=NOW,
        expires=NOW + YEAR,
        issued_at=NOW,
        key=key.public_key(),
        scope=(("street", Action.OPEN),),
        key_class=KeyClass.RESIDENT,
        status=StatusReference(index, URI),
    )
    token = site.authority.issuers[0].issue(claims)
    Wallet.create(site.directory / name, key, token, site.authority.gateways.public_key())
    return site.directory / name


def signed_list(site: Site, *revoked: int) -> Path:
    """By the issuer's own commands."""
    directory = site.directory
    kept, signer = directory / "kept", directory / "housing.pem"
    create_files({signer: private_pem(site.authority.issuers[0].key)})
    assert run("keys", "new-list", kept, "--issuer", "housing", "--uri", URI).code == 0
    text = kept.read_text()
    places = ",".join(
        f'{{"index": {index}, "holder": "h-{index}", "expires": {NOW + YEAR}}}' for index in (1, 2)
    )
    assert '"places": []' in text
    kept.write_text(text.replace('"places": []', f'"places": [{places}]'))
    for index in revoked:
        assert run("keys", "revoke", kept, "--index", str(index)).code == 0
    out = directory / "list.cwt"
    assert run("keys", "sign-list", kept, "--signer", signer, "--out", out).code == 0
    return out


async def phone(site: Site, word: str, *more: str | Path) -> Ran:
    return await completed("phone", word, "street", *more, "--hci", _hci(site))


def _hci(site: Site) -> str:
    return f"unix:{site.directory}/phone.hci"


async def test_a_list_is_carried_to_a_daemon_and_outlives_it(site: Site, tmp_path: Path) -> None:
    lost, good = wallet(site, "lost", 1), wallet(site, "good", 2)
    carried = signed_list(site, 1)
    async with air(tmp_path):
        async with daemon(site):
            first = await phone(site, "open", "--wallet", lost)
            assert "lock_unreachable" in first.out
            ran = await phone(site, "deliver", carried, "--wallet", good)
            assert (ran.code, ran.out) == (0, "stairwell-7: taken\n")
            again = await phone(site, "deliver", carried, "--wallet", lost, "--json")
            assert again.code == 0
            assert (again.json["outcome"], again.json["reason"]) == ("confirmed", "nothing_new")
            refused = await phone(site, "open", "--wallet", lost)
            assert (refused.code, "revoked" in refused.out) == (ExitCode.FAILED, True)
            nonsense = tmp_path / "nonsense"
            nonsense.write_bytes(b"\xd2nonsense")
            ran = await phone(site, "deliver", nonsense, "--wallet", good)
            assert (ran.code, ran.out) == (
                ExitCode.FAILED,
                "stairwell-7: not taken: not_believed\n",
            )
        async with daemon(site):
            refused = await phone(site, "open", "--wallet", lost)
            assert "revoked" in refused.out
            other = await phone(site, "open", "--wallet", good)
            assert "lock_unreachable" in other.out


async def test_the_time_is_carried_from_the_cloud_to_a_daemon(site: Site, tmp_path: Path) -> None:
    held = wallet(site, "good", 2)
    keys = {"command": site.authority.command, "seal": site.authority.seal}
    create_files(
        {
            tmp_path / f"{name}.pem": private_pem(key)
            for name, key in {**keys, "time": site.authority.time}.items()
        }
    )
    broker = make_broker(tmp_path)
    await broker.start()
    url = f"mqtt://127.0.0.1:{broker.address.port}"
    cloud = ("cloud", "time", tmp_path / "gateway.cwt", "--keys", tmp_path, "--broker", url)
    try:
        async with air(tmp_path), daemon(site), running(*cloud) as answering:
            assert answering.stdout is not None
            async with asyncio.timeout(30):
                while b"answering" not in await answering.stdout.readline():
                    assert not answering.stdout.at_eof()
            await asyncio.sleep(1)  # it says so before it has connected
            ran = await phone(site, "time", "--wallet", held, "--broker", url)
            assert (ran.code, ran.out) == (0, "stairwell-7: taken\n"), ran
            ran = await phone(site, "time", "--wallet", held, "--broker", url, "--json")
            assert (ran.code, ran.json["reason"]) == (0, "nothing_new")
    finally:
        await broker.stop()
    shown = await completed("log", "show", "-c", site.config, "--json")
    assert "trusted" in shown.out.lower()


async def test_nobody_is_there(site: Site, tmp_path: Path) -> None:
    held = wallet(site, "good", 2)
    some = tmp_path / "some"
    some.write_bytes(b"some")
    shared = VirtualAir(INSTANT)
    async with serve_hci(shared, tmp_path / "phone.hci", address="00:00:00:00:00:02"):
        ran = await phone(site, "deliver", some, "--wallet", held)
        assert (ran.code, ran.out) == (
            ExitCode.FAILED,
            "no gateway: not taken: no_gateway_in_reach\n",
        )


async def test_without_a_broker_there_is_no_time(site: Site, tmp_path: Path) -> None:
    held = wallet(site, "good", 2)
    async with air(tmp_path), daemon(site):
        url = f"mqtt://127.0.0.1:{free_port()}"
        ran = await phone(site, "time", "--wallet", held, "--broker", url)
        assert ran.code == ExitCode.FAILED
        assert "hint: is the broker running" in ran.err
        ran = await phone(site, "time", "--wallet", held, "--broker", "mqtt://example.org")
        assert ran.code == ExitCode.USAGE
        assert "hint: as mqtts://" in ran.err


@pytest.mark.parametrize("content", [None, b"", b"x" * 65_537, b"-----BEGIN PRIVATE KEY-----"])
def test_files_that_are_not_carried(site: Site, tmp_path: Path, content: bytes | None) -> None:
    held = wallet(site, "good", 2)
    file = tmp_path / "file"
    if content is not None:
        file.write_bytes(content)
    ran = run("phone", "deliver", "street", file, "--wallet", held, "--hci", _hci(site))
    assert ran.code == ExitCode.USAGE
    assert ran.err.startswith("error: ")
    assert "hint: " in ran.err
