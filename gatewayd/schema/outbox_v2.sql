-- Version 2: what shows that a row and its sound are as they were stored. SQLite itself notices damage to its
-- own structure only, not to what the rows say.

ALTER TABLE message ADD COLUMN crc INTEGER;  -- CRC-32 of the row and its sound; NULL: stored by version 1
