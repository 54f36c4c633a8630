SELECT flow, count(*) AS count, sum(moved_sat)::bigint AS moved_sat
FROM whale_moves
WHERE seen_at >= %(since)s AND seen_at < %(until)s
GROUP BY flow
ORDER BY moved_sat DESC, flow
