"""The operator's invitations in one SQLite file: `cloud.invitations.InvitationStore`.

A file of its own, beside the keys that sign certificates and credentials: who
pulls logs needs neither.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

from firmware_proto import cbor
from gatewayd.adapters.sqlite.errors import storage_errors
from gatewayd.adapters.sqlite.schema import Schema, open_writer
from gatewayd.cloud.invitations import ClaimUsedError, Invitation

_FIRST: Final = """
CREATE TABLE invitations (
    number      INTEGER PRIMARY KEY,
    claim       BLOB NOT NULL UNIQUE,
    key         BLOB NOT NULL,               -- public: the secret is nowhere
    gateway     TEXT NOT NULL,
    doors       BLOB NOT NULL,               -- CBOR map: door to generation
    broker      TEXT NOT NULL,
    authorities BLOB NOT NULL,               -- CBOR array of certificates
    expires     INTEGER NOT NULL,
    used_s      INTEGER,
    request     BLOB,                        -- digest of the request that used it
    credential  BLOB,
    alarms      INTEGER NOT NULL DEFAULT 0   -- requests of other devices
) STRICT;

CREATE TABLE certificates (
    gateway     TEXT PRIMARY KEY,
    certificate BLOB NOT NULL
) STRICT, WITHOUT ROWID;
"""

SCHEMA: Final = Schema(0x67_77_69_31, (_FIRST,))
_COLUMNS: Final = "claim, key, gateway, doors, broker, authorities, expires, used_s, alarms"


@contextmanager
def open_invitations(path: Path) -> Iterator[SqliteInvitations]:
    """Open the store, or make it. StorageError when the file is anything else, left untouched."""
    with closing(open_writer(path, SCHEMA)) as connection:
        yield SqliteInvitations(connection, path)


class SqliteInvitations:
    """See `InvitationStore`; StorageError when the file does not obey. Use `open_invitations`."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path

    def add(self, invitation: Invitation) -> None:
        """See `InvitationStore`."""
        row = (
            invitation.id,
            invitation.key,
            invitation.gateway,
            cbor.encode(dict(invitation.doors)),
            invitation.broker,
            cbor.encode(list(invitation.authorities)),
            invitation.expires,
        )
        with self._transaction():
            self._connection.execute(
                "INSERT INTO invitations (claim, key, gateway, doors, broker, authorities, expires)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                row,
            )

    def find(self, claim: bytes) -> Invitation | None:
        """See `InvitationStore`."""
        rows = self._select("WHERE claim = ?", claim)
        return rows[0] if rows else None

    def all(self) -> list[Invitation]:
        """See `InvitationStore`."""
        return self._select("ORDER BY number")

    def overtaken(self, claim: bytes) -> bool:
        """See `InvitationStore`."""
        later = (
            "SELECT EXISTS (SELECT 1 FROM invitations AS this JOIN invitations AS later"
            " USING (gateway) WHERE this.claim = ? AND later.number > this.number"
            " AND later.used_s IS NOT NULL)"
        )
        with storage_errors(str(self._path)):
            return bool(self._connection.execute(later, (claim,)).fetchone()[0])

    def use(self, claim: bytes, digest: bytes, credential: bytes, now_s: int) -> bytes:
        """See `InvitationStore`."""
        with self._transaction():
            kept, first = self._connection.execute(
                "SELECT request, credential FROM invitations WHERE claim = ?", (claim,)
            ).fetchone()
            if kept is None:
                self._connection.execute(
                    "UPDATE invitations SET request = ?, credential = ?, used_s = ?"
                    " WHERE claim = ?",
                    (digest, credential, now_s, claim),
                )
                return credential
            if kept != digest:
                self._connection.execute(
                    "UPDATE invitations SET alarms = alarms + 1 WHERE claim = ?", (claim,)
                )
        if kept != digest:
            raise ClaimUsedError
        assert isinstance(first, bytes)  # noqa: S101 - stored with the request
        return first

    def credential(self, gateway: str) -> bytes | None:
        """See `InvitationStore`."""
        with storage_errors(str(self._path)):
            row = self._connection.execute(
                "SELECT credential FROM invitations WHERE gateway = ? AND credential IS NOT NULL"
                " ORDER BY number DESC LIMIT 1",
                (gateway,),
            ).fetchone()
        return None if row is None else row[0]

    def certificate(self, gateway: str) -> bytes | None:
        """See `InvitationStore`."""
        with storage_errors(str(self._path)):
            row = self._connection.execute(
                "SELECT certificate FROM certificates WHERE gateway = ?", (gateway,)
            ).fetchone()
        return None if row is None else row[0]

    def keep_certificate(self, gateway: str, der: bytes) -> None:
        """See `InvitationStore`."""
        with self._transaction():
            self._connection.execute(
                "INSERT INTO certificates VALUES (?, ?)"
                " ON CONFLICT (gateway) DO UPDATE SET certificate = excluded.certificate",
                (gateway, der),
            )

    def _select(self, rest: str, *values: object) -> list[Invitation]:
        with storage_errors(str(self._path)):
            rows = self._connection.execute(
                f"SELECT {_COLUMNS} FROM invitations {rest}",  # noqa: S608 - both are ours
                values,
            ).fetchall()
        return [_invitation(*row) for row in rows]

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with storage_errors(str(self._path)):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise


def _invitation(*row: Any) -> Invitation:  # noqa: ANN401 - SQLite's types are in the schema
    claim, key, gateway, doors, broker, authorities, expires, used_s, alarms = row
    return Invitation(
        id=claim,
        key=key,
        gateway=gateway,
        doors=cbor.decode(doors),  # type: ignore[arg-type]  # as `add` wrote it
        broker=broker,
        authorities=tuple(cbor.decode(authorities)),  # type: ignore[arg-type]  # likewise
        expires=expires,
        used_s=used_s,
        alarms=alarms,
    )
