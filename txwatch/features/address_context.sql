-- The trailing day of each wanted address as of a window, as it stood at a publication: the one sum of every lane.
-- Lateral, so that each address costs one look into the index; as a join the planner may choose to read the whole day.
SELECT wanted.address, activity.*
FROM unnest(%(addresses)b::text[]) AS wanted (address)
CROSS JOIN LATERAL (
    SELECT
        sum(tx_count)::bigint AS tx_count,
        least(sum(received_sat), 9223372036854775807)::bigint AS received_sat,
        least(sum(spent_sat), 9223372036854775807)::bigint AS spent_sat,
        min(first_seen_at) AS first_seen_at,
        max(last_seen_at) AS last_seen_at
    FROM address_activity AS bucket
    WHERE bucket.address = wanted.address
    AND window_start > %(as_of)s - interval '24 hours' AND window_start <= %(as_of)s
    AND written <= %(publication)s AND (superseded IS NULL OR superseded > %(publication)s)
) AS activity
WHERE activity.tx_count IS NOT NULL
