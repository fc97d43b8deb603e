"""Later versions of the log's schema, for there is no earlier one yet: version 1 is the first.

As a real one might, each copies every entry into a table of another shape, and makes a table
out of another.
"""

from __future__ import annotations

from gatewayd.adapters.sqlite.schema import LOG, Schema

_SCRIPT = """
CREATE TABLE settled_{0} (id BLOB PRIMARY KEY, outcome INTEGER) STRICT, WITHOUT ROWID;
INSERT INTO settled_{0} SELECT id, outcome FROM command WHERE phase = 3;
CREATE TABLE leaf_new (
    seq INTEGER PRIMARY KEY CHECK (seq >= 0),
    body BLOB,
    nodes BLOB NOT NULL CHECK (length(nodes) > 0 AND length(nodes) % 32 = 0),
    added INTEGER NOT NULL DEFAULT {0}
) STRICT;
INSERT INTO leaf_new (seq, body, nodes) SELECT seq, body, nodes FROM leaf;
DROP TABLE leaf;
ALTER TABLE leaf_new RENAME TO leaf;
"""


def younger(versions: int) -> Schema:
    """The log's schema, so many versions later."""
    later = (_SCRIPT.format(number) for number in range(versions))
    return Schema(LOG.application_id, (*LOG.scripts, *later))
