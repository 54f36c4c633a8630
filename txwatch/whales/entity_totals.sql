SELECT
    entity,
    coalesce(sum(moved_sat) FILTER (WHERE is_receiver), 0)::bigint AS received_sat,
    coalesce(sum(moved_sat) FILTER (WHERE NOT is_receiver), 0)::bigint AS sent_sat,
    count(*) AS count
FROM whale_moves
CROSS JOIN LATERAL (
    SELECT unnest(senders) AS entity, false AS is_receiver
    UNION ALL
    SELECT unnest(receivers), true
) AS parts
WHERE seen_at >= %(since)s AND seen_at < %(until)s AND flow <> 'internal_move'
GROUP BY entity
ORDER BY sum(moved_sat) DESC, entity
LIMIT %(limit)s
