"""The operator's invitations in one SQLite file: `cloud.invitations.InvitationStore`.

A file of its own, beside the keys that sign certificates and credentials: who
pulls logs needs neither.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

from firmware_proto import cbor
from firmware_proto.errors import RemoteProtocolError
from gatewayd.adapters.sqlite.errors import storage_errors
from gatewayd.adapters.sqlite.schema import Schema, open_writer
from gatewayd.cloud.holdings import Holding, generations, granted
from gatewayd.cloud.invitations import ClaimUsedError, Invitation, Sign
from gatewayd.ports import StorageError

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

_SECOND: Final = """
ALTER TABLE invitations ADD COLUMN enrols TEXT NOT NULL DEFAULT '';
ALTER TABLE invitations ADD COLUMN replaces TEXT;

CREATE TABLE gateways (
    gateway    TEXT PRIMARY KEY,
    credential BLOB NOT NULL,                -- the newest
    successor  TEXT                          -- who took over the last of its doors
) STRICT, WITHOUT ROWID;

CREATE TABLE doors (
    door       TEXT PRIMARY KEY,
    gateway    TEXT NOT NULL,
    generation INTEGER NOT NULL,
    body       BLOB                          -- of BINDINGS, for this door alone
) STRICT, WITHOUT ROWID;

CREATE TABLE serials (
    gateway TEXT NOT NULL,
    kind    TEXT NOT NULL,
    serial  INTEGER NOT NULL,
    PRIMARY KEY (gateway, kind)
) STRICT, WITHOUT ROWID;
"""

SCHEMA: Final = Schema(0x67_77_69_31, (_FIRST, _SECOND))
_COLUMNS: Final = (
    "claim, key, gateway, doors, broker, authorities, expires, enrols, replaces, used_s, alarms"
)


@contextmanager
def open_invitations(path: Path) -> Iterator[SqliteInvitations]:
    """Open the store, or make it. StorageError when the file is anything else, left untouched."""
    with closing(open_writer(path, SCHEMA)) as connection:
        store = SqliteInvitations(connection, path)
        store.know_of_before()
        yield store


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
            invitation.enrols,
            invitation.replaces,
        )
        with self._transaction():
            self._connection.execute(
                "INSERT INTO invitations (claim, key, gateway, doors, broker, authorities, expires,"
                " enrols, replaces) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
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

    def use(self, claim: bytes, digest: bytes, sign: Sign, now_s: int) -> bytes:
        """See `InvitationStore`."""
        with self._transaction():
            kept, first = self._connection.execute(
                "SELECT request, credential FROM invitations WHERE claim = ?", (claim,)
            ).fetchone()
            if kept is None:
                (invitation,) = self._select("WHERE claim = ?", claim)
                doors = self._granted(invitation)
                first = sign(doors, self.credential(invitation.gateway))
                self._take(invitation.gateway, doors, first)
                self._connection.execute(
                    "UPDATE invitations SET request = ?, credential = ?, used_s = ?, doors = ?"
                    " WHERE claim = ?",
                    (digest, first, now_s, cbor.encode(doors), claim),
                )
                kept = digest
            elif kept != digest:
                self._connection.execute(
                    "UPDATE invitations SET alarms = alarms + 1 WHERE claim = ?", (claim,)
                )
        if kept != digest:
            raise ClaimUsedError
        assert isinstance(first, bytes)  # noqa: S101 - stored with the request
        return first

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

    # --- gateways and doors ---------------------------------------------------------
    def know_of_before(self) -> None:
        """Gateways that enrolled before this file counted: who they are, and their doors."""
        used = "WHERE used_s IS NOT NULL AND gateway NOT IN (SELECT gateway FROM gateways)"
        missing = self._select(f"{used} ORDER BY used_s, number")
        if not missing:
            return
        with self._transaction():
            for each in missing:
                (credential,) = self._connection.execute(
                    "SELECT credential FROM invitations WHERE claim = ?", (each.id,)
                ).fetchone()
                held = generations(self.holdings())
                doors = {
                    door: given for door, given in each.doors.items() if given >= held.get(door, 0)
                }
                self._take(each.gateway, doors, credential)

    def credential(self, gateway: str) -> bytes | None:
        """See `InvitationStore`."""
        found = self._gateway(gateway)
        return None if found is None else found[0]

    def successor(self, gateway: str) -> str | None:
        """See `InvitationStore`."""
        found = self._gateway(gateway)
        return None if found is None else found[1]

    def holdings(self, gateway: str | None = None) -> list[Holding]:
        """See `InvitationStore`."""
        with storage_errors(str(self._path)):
            rows = self._connection.execute(
                "SELECT door, gateway, generation, body FROM doors"
                " WHERE ?1 IS NULL OR gateway = ?1 ORDER BY door",
                (gateway,),
            ).fetchall()
        return [
            Holding(door=door, gateway=whose, generation=generation, body=body)
            for door, whose, generation, body in rows
        ]

    def bind(self, bodies: Mapping[str, bytes]) -> None:
        """See `InvitationStore`."""
        with self._transaction():
            self._connection.executemany(
                "UPDATE doors SET body = ? WHERE door = ?",
                [(body, door) for door, body in bodies.items()],
            )

    def move(self, door: str, gateway: str, sign: Sign) -> None:
        """See `InvitationStore`."""
        with self._transaction():
            held = {each.door: each for each in self.holdings()}[door]
            if held.gateway == gateway:
                return
            for whose, more in ((gateway, {door: held.generation + 1}), (held.gateway, {})):
                before = self.credential(whose)
                if before is None:
                    raise KeyError(whose)
                doors = generations(self.holdings(whose)) | more
                if doors:
                    self._take(whose, doors, sign(doors, before))

    def next_serial(self, gateway: str, kind: str, least: int) -> int:
        """See `InvitationStore`."""
        with self._transaction():
            (serial,) = self._connection.execute(
                "INSERT INTO serials VALUES (?, ?, ?) ON CONFLICT (gateway, kind)"
                " DO UPDATE SET serial = max(serial + 1, excluded.serial) RETURNING serial",
                (gateway, kind, least),
            ).fetchone()
        return int(serial)

    def _gateway(self, gateway: str) -> tuple[bytes, str | None] | None:
        with storage_errors(str(self._path)):
            row: tuple[bytes, str | None] | None = self._connection.execute(
                "SELECT credential, successor FROM gateways WHERE gateway = ?", (gateway,)
            ).fetchone()
        return row

    def _granted(self, invitation: Invitation) -> dict[str, int]:
        """What this invitation is good for now. OthersDoorError."""
        held = {each.door: each for each in self.holdings()}
        return {
            door: granted(held.get(door), invitation.gateway, invitation.replaces, least)
            for door, least in invitation.doors.items()
        }

    def _take(self, gateway: str, doors: Mapping[str, int], credential: bytes) -> None:
        """These doors are this gateway's, whosever they were."""
        losing = {each.gateway for each in self.holdings() if each.door in doors} - {gateway}
        self._connection.execute(
            "INSERT INTO gateways (gateway, credential) VALUES (?, ?)"
            " ON CONFLICT (gateway) DO UPDATE SET credential = excluded.credential",
            (gateway, credential),
        )
        self._connection.executemany(
            "INSERT INTO doors (door, gateway, generation) VALUES (?, ?, ?) ON CONFLICT (door)"
            " DO UPDATE SET gateway = excluded.gateway, generation = excluded.generation",
            [(door, gateway, generation) for door, generation in doors.items()],
        )
        self._connection.execute(
            "UPDATE gateways SET successor = NULL WHERE gateway = ?", (gateway,)
        )
        for each in losing:
            if not self.holdings(each):
                self._connection.execute(
                    "UPDATE gateways SET successor = ? WHERE gateway = ?", (gateway, each)
                )

    def _select(self, rest: str, *values: object) -> list[Invitation]:
        with storage_errors(str(self._path)):
            rows = self._connection.execute(
                f"SELECT {_COLUMNS} FROM invitations {rest}",  # noqa: S608 - both are ours
                values,
            ).fetchall()
        try:
            return [_invitation(*row) for row in rows]
        except (RemoteProtocolError, TypeError) as error:
            raise StorageError(
                f"{self._path}: damaged; keep it, and put a copy in its place"
            ) from error

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
    claim, key, gateway, doors, broker, authorities, expires, enrols, replaces, used_s, alarms = row
    return Invitation(
        id=claim,
        key=key,
        gateway=gateway,
        doors=cbor.decode(doors),  # type: ignore[arg-type]  # as `add` wrote it
        broker=broker,
        authorities=tuple(cbor.decode(authorities)),  # type: ignore[arg-type]  # likewise
        expires=expires,
        enrols=enrols,
        replaces=replaces,
        used_s=used_s,
        alarms=alarms,
    )
