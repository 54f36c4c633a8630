SELECT DISTINCT ON (window_start)
    window_start, context_version, publication, tx_count_1h, tx_count_24h, windows_24h, kind_counts_1h, kind_counts_24h,
    p10_value_sat_1h, median_value_sat_1h, p90_value_sat_1h, p99_value_sat_1h, p10_fee_rate_1h,
    median_fee_rate_1h, p90_fee_rate_1h, p99_fee_rate_1h, p10_value_sat_24h, median_value_sat_24h,
    p90_value_sat_24h, p99_value_sat_24h, p10_fee_rate_24h, median_fee_rate_24h, p90_fee_rate_24h,
    p99_fee_rate_24h
FROM network_baseline
WHERE window_start = ANY(%(as_of)s) AND (%(version)s::bigint IS NULL OR context_version = %(version)s)
ORDER BY window_start, context_version DESC
