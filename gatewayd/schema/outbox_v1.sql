-- The outbox, version 1 (PRAGMA user_version). What waits for its PUBACK, and what must outlive a restart.

CREATE TABLE message (
    n INTEGER PRIMARY KEY,          -- the order in which messages were stored
    id TEXT NOT NULL UNIQUE,        -- UUIDv7, the idempotency key
    class TEXT NOT NULL,            -- a MessageClass; live sound is stored as "audio"
    topic TEXT NOT NULL,            -- below the base
    body TEXT NOT NULL,             -- payload.dump: never a rendered payload
    boot TEXT NOT NULL,             -- the Instant it happened at
    mono REAL NOT NULL,
    wall REAL NOT NULL,
    source TEXT NOT NULL,
    uncertainty INTEGER NOT NULL,
    run TEXT NOT NULL,
    seq INTEGER NOT NULL,
    retain INTEGER NOT NULL,
    replaces INTEGER NOT NULL,
    clears INTEGER NOT NULL,
    expires INTEGER,
    response_topic TEXT,
    correlation BLOB,
    size INTEGER NOT NULL,          -- bytes of body and sound: what the budget counts
    segment TEXT,                   -- sound: its file below the audio directory, and where in it
    offset INTEGER,
    length INTEGER
) STRICT;

-- What goes out next, and what is evicted first.
CREATE INDEX message_by_class ON message (class, n, size, wall);
-- One row per topic where only the newest counts.
CREATE UNIQUE INDEX message_by_replaced_topic ON message (topic) WHERE replaces;
-- Whether a segment file is still needed.
CREATE INDEX message_by_segment ON message (segment) WHERE segment IS NOT NULL;

CREATE TABLE record (
    kind TEXT NOT NULL,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (kind, key)
) STRICT, WITHOUT ROWID;
