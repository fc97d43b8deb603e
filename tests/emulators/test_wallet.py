"""A wallet: strict when read, durable when it learns, never overwritten."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from gatewayd.emulators.wallet import Wallet
from gatewayd.keyfiles import KeyFileError
from tests.support.household import DOOR, Operator, new_key

REQUEST = b"r" * 16


@pytest.fixture
def operator() -> Operator:
    return Operator()


@pytest.fixture
def wallet(tmp_path: Path, operator: Operator) -> Wallet:
    return operator.wallet(tmp_path / "wallet")


def test_what_was_made_is_what_is_loaded(wallet: Wallet, operator: Operator) -> None:
    loaded = Wallet.load(wallet.path)
    assert loaded.token == wallet.token
    assert loaded.key.private_numbers() == wallet.key.private_numbers()
    assert loaded.gateways_key == operator.key.public_key()
    assert loaded.generations == {}
    assert (wallet.path / "key.pem").stat().st_mode & 0o777 == 0o600
    assert wallet.path.stat().st_mode & 0o777 == 0o700


def test_is_never_overwritten(wallet: Wallet) -> None:
    key = new_key()
    with pytest.raises(KeyFileError, match="never overwritten"):
        Wallet.create(wallet.path, key, wallet.token, key.public_key())
    assert Wallet.load(wallet.path).token == wallet.token


def test_generations_only_rise_and_survive(wallet: Wallet) -> None:
    for generation in (3, 5, 4):
        wallet.raise_generation(DOOR, generation)
    wallet.raise_generation("cellar", 1)
    assert Wallet.load(wallet.path).generations == {DOOR: 5, "cellar": 1}


def test_receipts(wallet: Wallet) -> None:
    assert wallet.receipt(REQUEST) is None
    assert wallet.keep_receipt(REQUEST, b"signed").read_bytes() == b"signed"
    assert wallet.receipt(REQUEST) == b"signed"
    with pytest.raises(ValueError, match="16 bytes"):
        wallet.keep_receipt(b"short", b"signed")


@pytest.mark.parametrize("name", ["key.pem", "token.cwt", "gateways.pem", "seen.json"])
@pytest.mark.parametrize("damage", ["missing", "empty", "half", "noise", "directory"])
def test_every_damage_is_named_and_left_alone(wallet: Wallet, name: str, damage: str) -> None:
    file = wallet.path / name
    whole = file.read_bytes()
    if damage == "missing":
        file.unlink()
    elif damage == "directory":
        file.unlink()
        file.mkdir()
    else:
        file.write_bytes({"empty": b"", "half": whole[: len(whole) // 2]}.get(damage, b"\xff\x00"))
    before = sorted(wallet.path.rglob("*"))
    with pytest.raises(KeyFileError, match=name.replace(".", r"\.")) as caught:
        Wallet.load(wallet.path)
    assert caught.value.hint
    assert sorted(wallet.path.rglob("*")) == before


def test_an_open_key_another_key_and_a_newer_version_are_named(
    wallet: Wallet, operator: Operator
) -> None:
    (wallet.path / "seen.json").write_text('{"version": 2, "news": []}')
    with pytest.raises(KeyFileError, match="version 2"):
        Wallet.load(wallet.path)
    (wallet.path / "token.cwt").write_bytes(operator.token(new_key()))
    with pytest.raises(KeyFileError, match="another key"):
        Wallet.load(wallet.path)
    (wallet.path / "key.pem").chmod(0o644)
    with pytest.raises(KeyFileError, match="can be read by others"):
        Wallet.load(wallet.path)
    shutil.rmtree(wallet.path)
    with pytest.raises(KeyFileError) as caught:
        Wallet.load(wallet.path)
    assert caught.value.hint.startswith("make the wallet first")
