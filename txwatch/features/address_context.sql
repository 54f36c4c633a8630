-- The trailing day of each wanted address as of a window: the one sum that every lane uses.
SELECT
    address,
    sum(tx_count)::bigint,
    sum(received_sat)::bigint,
    sum(spent_sat)::bigint,
    min(first_seen_at),
    max(last_seen_at)
FROM unnest(%(addresses)s::text[]) AS wanted (address)
JOIN address_activity USING (address)
WHERE window_start > %(as_of)s - interval '24 hours' AND window_start <= %(as_of)s
GROUP BY address
