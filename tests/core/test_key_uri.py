"""PKCS#11 URIs: what is meant, and nothing that is not known in whole."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.core.key_uri import MAX_CHARACTERS, KeyUri, NotAKeyUriError

MODULE = "?module-path=/usr/lib/softhsm/libsofthsm2.so"
GOOD = (
    "pkcs11:token=The%20Door;manufacturer=SoftHSM;model=2;serial=0a1b;object=gatewayd%20gateway"
    f"{MODULE}&pin-source=/etc/gatewayd/element.pin"
)
TEXTS = st.text(
    st.characters(exclude_categories=("C", "Zl", "Zp", "Zs"), exclude_characters=""),
    min_size=1, max_size=12,
)  # fmt: skip


def test_everything_that_a_uri_may_say() -> None:
    uri = KeyUri.parse(GOOD)
    assert uri == KeyUri(
        module_path="/usr/lib/softhsm/libsofthsm2.so",
        token="The Door",  # noqa: S106 - a label
        manufacturer="SoftHSM",
        model="2",
        serial="0a1b",
        object="gatewayd gateway",
        pin_source="/etc/gatewayd/element.pin",
    )
    assert uri.text() == GOOD
    assert uri.changed(object=None, pin_source=None).text() == GOOD.replace(
        ";object=gatewayd%20gateway", ""
    ).replace("&pin-source=/etc/gatewayd/element.pin", "")


@pytest.mark.parametrize("source", ["file:/run/pin", "file:///run/pin", "/run/pin"])
def test_a_pin_source_is_a_file(source: str) -> None:
    assert KeyUri.parse(f"pkcs11:serial=1{MODULE}&pin-source={source}").pin_source == "/run/pin"


def test_a_type_may_be_said_when_it_is_a_private_key() -> None:
    assert KeyUri.parse(f"pkcs11:model=a;serial=1;type=private{MODULE}").model == "a"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "begin with"),
        ("PKCS11:token=a", "begin with"),
        ("pkcs11:", "module-path is missing"),
        ("pkcs11:token=a", "module-path is missing"),
        (f"pkcs11:{MODULE}", "names no token"),
        (f"pkcs11:object=a{MODULE}", "names no token"),
        (f"pkcs11:token=a;pin-value=1{MODULE}", "a PIN does not stand in a URI"),
        (f"pkcs11:token=a{MODULE}&pin-value=1", "a PIN does not stand in a URI"),
        (f"pkcs11:token=a;id=%01{MODULE}", "id is nothing"),
        (f"pkcs11:token=a;slot-id=1{MODULE}", "slot-id is nothing"),
        (f"pkcs11:token=a{MODULE}&module-name=x", "module-name is nothing"),
        (f"pkcs11:token=a;type=public{MODULE}", "something else than a private key"),
        (f"pkcs11:token=a;token=b{MODULE}", "token twice"),
        (f"pkcs11:token=a{MODULE}&module-path=/b", "module-path twice"),
        (f"pkcs11:token={MODULE}", "without a value"),
        (f"pkcs11:token{MODULE}", "without a value"),
        (f"pkcs11:=a{MODULE}", "without a value"),
        (f"pkcs11:token=a;{MODULE}", "without a value"),
        (f"pkcs11:token=a b{MODULE}", "percent-encoded"),
        (f"pkcs11:token=a%2{MODULE}", "percent-encoded"),
        (f"pkcs11:token=ø{MODULE}", "percent-encoded"),
        (f"pkcs11:token=%FF{MODULE}", "not UTF-8"),
        (f"pkcs11:token=%00{MODULE}", "nobody can see"),
        (f"pkcs11:token=a%0A{MODULE}", "nobody can see"),
        ("pkcs11:token=a?module-path=lib.so", "module-path is not the absolute path"),
        (f"pkcs11:token=a{MODULE}&pin-source=pin", "pin-source is not the absolute path"),
        (f"pkcs11:token=a{MODULE}&pin-source=|/bin/pin", "pin-source is not the absolute path"),
        (f"pkcs11:token={'a' * MAX_CHARACTERS}{MODULE}", "too long"),
    ],
)
def test_what_is_none(text: str, said: str) -> None:
    with pytest.raises(NotAKeyUriError, match=said):
        KeyUri.parse(text)


@given(st.builds(
    KeyUri, module_path=TEXTS.map("/{}".format), token=TEXTS, manufacturer=st.none() | TEXTS,
    model=st.none() | TEXTS, serial=st.none() | TEXTS, object=st.none() | TEXTS,
    pin_source=st.none() | TEXTS.map(lambda text: f"/{text.strip('/')}"),
))  # fmt: skip
def test_what_is_written_is_read_again(uri: KeyUri) -> None:
    assert KeyUri.parse(uri.text()) == uri


@given(st.integers(0, len(GOOD)), st.characters())
def test_one_character_more_is_another_uri_or_none(at: int, more: str) -> None:
    text = GOOD[:at] + more + GOOD[at:]
    try:
        found = KeyUri.parse(text)
    except NotAKeyUriError:
        return
    assert KeyUri.parse(found.text()) == found


def test_cut_off_anywhere_it_says_less_or_nothing() -> None:
    for at in range(len(GOOD)):
        try:
            assert KeyUri.parse(GOOD[:at]) != KeyUri.parse(GOOD)
        except NotAKeyUriError:
            continue
