CREATE TEMP TABLE IF NOT EXISTS staged_labels ON COMMIT DELETE ROWS AS
SELECT 0::bigint AS place, address, source, entity, category, confidence, note, changed_on
FROM labels
WITH NO DATA
