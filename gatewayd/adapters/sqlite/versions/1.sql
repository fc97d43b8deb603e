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
-- `recorded_s` is NULL when the time was unknown. `request_key` and
-- `content_hash` become NULL when a day is over and the command has not ended.
CREATE TABLE command (
    intent_seq INTEGER PRIMARY KEY REFERENCES leaf (seq),
    id BLOB NOT NULL UNIQUE,
    door TEXT NOT NULL,
    request_key BLOB UNIQUE,
    content_hash BLOB,
    recorded_s INTEGER,
    phase INTEGER NOT NULL DEFAULT 1 CHECK (phase BETWEEN 1 AND 3),
    outcome INTEGER,
    reason INTEGER,
    CHECK ((phase = 1) = (outcome IS NULL) AND (outcome IS NULL) = (reason IS NULL))
) STRICT;

CREATE INDEX command_not_ended ON command (intent_seq) WHERE phase < 3;
CREATE INDEX command_by_time ON command (recorded_s);

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
