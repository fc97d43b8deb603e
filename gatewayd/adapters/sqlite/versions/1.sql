-- Version 1 of the log of one gateway.

-- One row per entry. `nodes` holds the hashes of all perfect subtrees that this
-- leaf completes (RFC 9162 §2.1), 32 bytes each, from the leaf's own upwards. So
-- one row is all that an append writes for the tree, the subtree (level, index)
-- is found in row ((index + 1) << level) - 1, and a body can be pruned to NULL
-- while every proof still verifies.
CREATE TABLE leaf (
    seq INTEGER PRIMARY KEY CHECK (seq >= 0),
    body BLOB,
    nodes BLOB NOT NULL CHECK (length(nodes) > 0 AND length(nodes) % 32 = 0)
) STRICT;

-- Commands to locks, forgotten a day after they ended. `phase`: 1 recorded and
-- without outcome, 2 outcome unknown and lock not asked since, 3 ended.
-- `recorded_s` is NULL when the time was unknown. `settled_seq` and `settled_s`
-- are the entry with the verdict, and when it was written.
CREATE TABLE command (
    intent_seq INTEGER PRIMARY KEY REFERENCES leaf (seq),
    id BLOB NOT NULL UNIQUE,
    door TEXT NOT NULL,
    recorded_s INTEGER,
    phase INTEGER NOT NULL DEFAULT 1 CHECK (phase BETWEEN 1 AND 3),
    outcome INTEGER,
    reason INTEGER,
    settled_seq INTEGER REFERENCES leaf (seq),
    settled_s INTEGER,
    CHECK ((phase = 1) = (outcome IS NULL) AND (outcome IS NULL) = (reason IS NULL))
) STRICT;

CREATE INDEX command_not_ended ON command (intent_seq) WHERE phase < 3;
CREATE INDEX command_by_time ON command (recorded_s);

-- Requests of phones, by keyed hashes, forgotten after a day. Its command has the
-- verdict, unless the request only shared in an opening that had ended by then:
-- such a request has an entry and a verdict of its own.
CREATE TABLE request (
    key BLOB PRIMARY KEY,
    content BLOB NOT NULL,
    command BLOB NOT NULL REFERENCES command (id),
    recorded_s INTEGER,
    seq INTEGER REFERENCES leaf (seq),
    written_s INTEGER,
    outcome INTEGER,
    reason INTEGER,
    CHECK ((seq IS NULL) = (written_s IS NULL) AND (outcome IS NULL) = (reason IS NULL))
) STRICT, WITHOUT ROWID;

CREATE INDEX request_by_time ON request (recorded_s);
CREATE INDEX request_by_command ON request (command);

-- How many entries the cloud has said it keeps: one row.
CREATE TABLE cursor (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    acknowledged INTEGER NOT NULL CHECK (acknowledged >= 0)
) STRICT;
INSERT INTO cursor (only, acknowledged) VALUES (1, 0);

-- Small values, each replaced whole.
CREATE TABLE memory (
    name TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;
