"""Makes a long log quickly: the same leaves and nodes as `append` writes, in one transaction."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from gatewayd.adapters.sqlite import reading
from gatewayd.adapters.sqlite.store import LogStore
from gatewayd.core import merkle
from gatewayd.core.audit import Leaf
from tests.support.log_child import INTENT


def rows(tree: merkle.CompactRange) -> Iterator[tuple[int, bytes, bytes]]:
    """Rows of the table `leaf` that go on from `tree`, without end."""
    for seq in itertools.count(tree.size):
        salt = seq.to_bytes(16, "big")
        body = Leaf.of(INTENT, seq=seq, salt=salt, commitment=salt * 2).encode()
        tree, nodes = tree.append(merkle.leaf_hash(body))
        yield seq, body, b"".join(nodes)


def fill_in_bulk(store: LogStore, size: int) -> None:
    """Let the log grow to `size` entries."""
    connection = store._connection
    present = reading.tree_size(connection)
    tree = merkle.CompactRange.load(present, lambda *node: reading.tree_node(connection, *node))
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany(
        "INSERT INTO leaf (seq, body, nodes) VALUES (?, ?, ?)",
        itertools.islice(rows(tree), size - present),
    )
    connection.execute("COMMIT")
    store._tree = None
