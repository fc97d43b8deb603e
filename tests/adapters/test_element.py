"""What goes wrong with secure elements: wrong PINs, missing keys, silence, lost sessions."""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path

import pkcs11
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from pkcs11 import Attribute, KeyType, ObjectClass, TokenFlag
from pkcs11.util.ec import encode_named_curve_parameters

from gatewayd.adapters.element.keys import ElementKey
from gatewayd.adapters.element.token import element
from gatewayd.core.key_uri import KeyUri
from gatewayd.device_keys import KeyDeviceError, KeyUse, apart
from gatewayd.extras import KeyDevices
from gatewayd.keyfiles import KeyFileError
from tests.support import softhsm
from tests.support.softhsm import Token

pytestmark = softhsm.needed
OTHER = ec.generate_private_key(ec.SECP256R1())


@pytest.fixture
def token(tmp_path: Path) -> Token:
    return softhsm.fresh(tmp_path)


def opened(token: Token, use: KeyUse = KeyUse.EXCHANGE, **options: bool) -> ElementKey:
    uri = token.uri.changed(object="a key")
    found = KeyDevices(**options).open(uri, use)
    assert isinstance(found, ElementKey)
    return found


def made(token: Token) -> ElementKey:
    KeyDevices().make(token.uri, "a key", KeyUse.EXCHANGE)
    return opened(token)


def works(key: ElementKey) -> bool:
    return key.exchange(ec.ECDH(), OTHER.public_key()) == OTHER.exchange(
        ec.ECDH(), key.public_key()
    )


def flags(token: Token) -> TokenFlag:
    found: TokenFlag = pkcs11.lib(str(softhsm.LIBRARY)).get_token(token_label=token.label).flags
    return found


# --- keys ---------------------------------------------------------------------------------
def test_a_key_is_made_once_and_cannot_leave(token: Token) -> None:
    first = made(token)
    again = made(token)
    assert again.public_key() == first.public_key()
    session = element(token.uri.changed(pin_source=None))._session
    (held,) = session.get_objects({Attribute.CLASS: ObjectClass.PRIVATE_KEY})
    assert held[Attribute.SENSITIVE]
    assert held[Attribute.NEVER_EXTRACTABLE]
    assert held[Attribute.LOCAL]
    assert held[Attribute.DERIVE]
    assert not held[Attribute.SIGN]
    with pytest.raises(pkcs11.AttributeSensitive):
        held[Attribute.VALUE]


def test_nothing_is_left_behind_by_its_use(token: Token) -> None:
    key = made(token)
    session = element(token.uri.changed(pin_source=None))._session
    before = len(list(session.get_objects()))
    for _ in range(5):
        assert works(key)
    assert len(list(session.get_objects())) == before


def test_a_key_for_one_thing_is_refused_for_another(token: Token) -> None:
    made(token)
    with pytest.raises(KeyDeviceError):
        opened(token, KeyUse.SIGN)


def test_a_key_that_is_not_there(token: Token) -> None:
    with pytest.raises(KeyDeviceError, match="has no private key a key"):
        opened(token)


def add(token: Token, *, extractable: bool = False) -> None:
    session = element(token.uri.changed(pin_source=None))._session
    curve = {Attribute.EC_PARAMS: encode_named_curve_parameters("secp256r1")}
    session.create_domain_parameters(KeyType.EC, curve, local=True).generate_keypair(
        store=True, label="a key",
        private_template={
            Attribute.SENSITIVE: not extractable, Attribute.EXTRACTABLE: extractable,
            Attribute.DERIVE: True,
        },
    )  # fmt: skip


def test_two_of_one_name(token: Token) -> None:
    made(token)
    add(token)
    softhsm.forget()
    with pytest.raises(KeyDeviceError, match="has 2 private keys a key"):
        opened(token)


def test_half_a_pair(token: Token) -> None:
    made(token)
    session = element(token.uri.changed(pin_source=None))._session
    (public,) = session.get_objects({Attribute.CLASS: ObjectClass.PUBLIC_KEY})
    public.destroy()
    with pytest.raises(KeyDeviceError, match="has no public key a key"):
        opened(token)


def test_halves_of_two_pairs(token: Token) -> None:
    made(token)
    add(token)
    session = element(token.uri.changed(pin_source=None))._session
    for kind, which in ((ObjectClass.PUBLIC_KEY, True), (ObjectClass.PRIVATE_KEY, False)):
        for each in list(session.get_objects({Attribute.CLASS: kind})):
            if (each[Attribute.ID] == b"a key") is which:
                each.destroy()
    softhsm.forget()
    with pytest.raises(KeyDeviceError, match="no pair of keys"):
        opened(token)


def test_a_key_that_could_be_read_is_not_used(token: Token) -> None:
    with pytest.raises(KeyDeviceError):
        opened(token)  # logs in
    add(token, extractable=True)
    with pytest.raises(KeyDeviceError, match="can be read out of it"):
        opened(token)


# --- PINs ---------------------------------------------------------------------------------
def test_a_wrong_pin_is_tried_once_and_by_a_person_again(token: Token) -> None:
    made(token)
    softhsm.forget()
    token.pin.write_text("9999\n")
    with pytest.raises(KeyDeviceError, match="does not take the PIN") as refused:
        opened(token)
    assert "--try-pin" in refused.value.remedy
    # the element counts tries; nobody but a person makes it count another, whatever the PIN is
    for pin in ("9999\n", f"{softhsm.PIN}\n"):
        token.pin.write_text(pin)
        for again in (False, True):
            if again:
                softhsm.forget()
            with pytest.raises(KeyDeviceError, match="PIN"):
                opened(token)
            assert flags(token) & TokenFlag.USER_PIN_COUNT_LOW
    assert works(opened(token, try_pin=True))
    assert not flags(token) & TokenFlag.USER_PIN_COUNT_LOW
    softhsm.forget()
    assert works(opened(token))


def test_a_locked_pin_is_not_tried(token: Token, monkeypatch: pytest.MonkeyPatch) -> None:
    class Locked:
        """SoftHSM never locks itself, so its word is forged."""

        label, flags = "token", TokenFlag.USER_PIN_LOCKED | TokenFlag.USER_PIN_COUNT_LOW

        def open(self, **_: object) -> None:
            raise AssertionError

    found = element(token.uri.changed(pin_source=None))
    monkeypatch.setattr(found, "_token", lambda anew: Locked())
    with pytest.raises(KeyDeviceError, match="its PIN is locked"):
        opened(token, try_pin=True)


def test_a_pin_file_is_held_like_a_key(token: Token) -> None:
    token.pin.chmod(0o644)
    with pytest.raises(KeyDeviceError, match="can be read by others"):
        opened(token)
    token.pin.chmod(0o600)
    token.pin.write_bytes(b"\xff\n")
    with pytest.raises(KeyDeviceError, match="not UTF-8"):
        opened(token)
    token.pin.write_bytes(b"\n")
    with pytest.raises(KeyDeviceError, match="is empty"):
        opened(token)
    assert not flags(token) & TokenFlag.USER_PIN_COUNT_LOW
    token.pin.unlink()
    with pytest.raises(KeyDeviceError, match="does not exist"):
        opened(token)


def test_a_pin_that_systemd_hands_over_is_taken(token: Token, tmp_path: Path) -> None:
    made(token)
    softhsm.forget()
    (tmp_path / "credentials").mkdir()
    token.pin.rename(tmp_path / "credentials" / token.pin.name)
    devices = KeyDevices(handed_over=tmp_path / "credentials")
    assert devices.open(token.uri.changed(object="a key"), KeyUse.EXCHANGE)


# --- elements ---------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("uri", "said"),
    [
        (KeyUri(module_path="/nowhere.so", serial="a", object="b"), "cannot open|nowhere"),
        (KeyUri(module_path=str(softhsm.LIBRARY), serial="a", object="b"), "it is not there"),
        (KeyUri(module_path=str(softhsm.LIBRARY), serial="a"), "names no key"),
    ],
)
def test_an_element_that_is_not_there(uri: KeyUri, said: str) -> None:
    softhsm.cabinet()
    with pytest.raises(KeyDeviceError, match=said):
        KeyDevices().open(uri, KeyUse.SIGN)


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gatewayd.adapters.element", None)
    monkeypatch.delattr("gatewayd.adapters.element")
    uri = KeyUri(module_path="/nowhere.so", serial="a", object="b")
    for call in (
        lambda: KeyDevices().open(uri, KeyUse.SIGN),
        lambda: KeyDevices().make(uri, "a", KeyUse.SIGN),
    ):
        with pytest.raises(KeyDeviceError, match="not installed") as missing:
            call()
        assert missing.value.remedy == "pip install 'gatewayd[pkcs11]'"


def test_it_is_known_by_its_serial_too(token: Token) -> None:
    made(token)
    serial = pkcs11.lib(str(softhsm.LIBRARY)).get_token(token_label=token.label).serial.decode()
    uri = token.uri.changed(object="a key", serial=serial, token=None)
    assert KeyDevices().open(uri, KeyUse.EXCHANGE)
    with pytest.raises(KeyDeviceError, match="not there"):
        KeyDevices().open(uri.changed(serial="0"), KeyUse.EXCHANGE)


def test_a_lost_session_is_opened_again(token: Token) -> None:
    key = made(token)
    softhsm.lose_sessions()
    assert works(key)
    assert works(key)


def test_one_that_comes_back_works_again(token: Token, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    key = made(token)
    with token.unplugged():
        softhsm.lose_sessions()
        for _ in range(5):
            with pytest.raises(KeyDeviceError):
                key.exchange(ec.ECDH(), OTHER.public_key())
    restored = [works(key) for _ in range(2)]
    assert restored == [True, True]
    said = [record.message for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(said) == 1  # whoever taps may tap again and again
    assert caplog.records[-1].message.endswith("works again")


async def test_one_that_hangs_holds_nobody_up(
    token: Token, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gatewayd.adapters.element.token.USE_S", 0.3)
    key = made(token)
    loop = asyncio.get_running_loop()
    with token.hanging():
        turns = 0
        using = asyncio.ensure_future(
            apart(key, lambda: key.exchange(ec.ECDH(), OTHER.public_key()))
        )
        while not using.done():
            await asyncio.sleep(0.01)
            turns += 1
        with pytest.raises(KeyDeviceError, match="no answer"):
            await using
        assert turns > 10  # the loop went on meanwhile
        before = loop.time()
        with pytest.raises(KeyDeviceError, match="has not answered yet"):
            key.exchange(ec.ECDH(), OTHER.public_key())
        assert loop.time() - before < 0.2
    async with asyncio.timeout(10):
        while True:
            try:
                assert works(key)
            except KeyDeviceError:
                await asyncio.sleep(0.05)
            else:
                break


def test_a_file_that_names_no_element_says_so(tmp_path: Path) -> None:
    from gatewayd import keyfiles  # noqa: PLC0415 - one test's

    path = tmp_path / "gateway.pem"
    keyfiles.create_files({path: b"pkcs11:token=a"})
    with pytest.raises(KeyFileError, match="no PKCS#11 URI: module-path is missing"):
        keyfiles.read_gateway_key(path, "gateway key", KeyUse.SIGN, KeyDevices().open)
    with pytest.raises(KeyFileError, match="this one has to be in a file"):
        keyfiles.read_p256_private(path, "gateways key")
