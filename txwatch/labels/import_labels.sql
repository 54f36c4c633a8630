WITH given AS (
    SELECT DISTINCT ON (address, source) address, source, entity, category, confidence, note, changed_on
    FROM staged_labels
    ORDER BY address, source, place DESC
),
written AS (
    INSERT INTO labels (address, source, entity, category, confidence, note, changed_on, imported_at)
    SELECT address, source, entity, category, confidence, note, changed_on, %(now)s
    FROM given
    ORDER BY address, source
    ON CONFLICT (address, source) DO UPDATE SET
        entity = excluded.entity,
        category = excluded.category,
        confidence = excluded.confidence,
        note = excluded.note,
        changed_on = excluded.changed_on,
        imported_at = excluded.imported_at
    WHERE
        (labels.entity, labels.category, labels.confidence, labels.note, labels.changed_on)
        IS DISTINCT FROM (excluded.entity, excluded.category, excluded.confidence, excluded.note, excluded.changed_on)
    -- A row that was inserted, and not updated, has never been locked by another version of itself.
    RETURNING xmax = 0 AS is_new
)
SELECT
    (SELECT count(*) FROM written WHERE is_new),
    (SELECT count(*) FROM written WHERE NOT is_new),
    (SELECT count(*) FROM given) - (SELECT count(*) FROM written)
