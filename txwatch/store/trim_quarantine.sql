DELETE FROM quarantined_messages
WHERE id IN (
    SELECT id
    FROM (
        SELECT id, row_number() OVER newest AS place, sum(octet_length(body)) OVER newest AS bytes
        FROM quarantined_messages
        WINDOW newest AS (ORDER BY id DESC)
    ) AS kept
    WHERE place > %(messages)s OR bytes > %(bytes)s
)
