INSERT INTO network_baseline (
    window_start, context_version, tx_count, value_sat, kind_counts, value_histogram, fee_rate_histogram,
    publication, tx_count_1h, tx_count_24h, windows_24h, kind_counts_1h, kind_counts_24h, p10_value_sat_1h,
    median_value_sat_1h, p90_value_sat_1h, p99_value_sat_1h, p10_fee_rate_1h, median_fee_rate_1h,
    p90_fee_rate_1h, p99_fee_rate_1h, p10_value_sat_24h, median_value_sat_24h, p90_value_sat_24h,
    p99_value_sat_24h, p10_fee_rate_24h, median_fee_rate_24h, p90_fee_rate_24h, p99_fee_rate_24h
) VALUES (
    %(window_start)s, %(context_version)s, %(tx_count)s, %(value_sat)s, %(kind_counts)s, %(value_histogram)s,
    %(fee_rate_histogram)s, %(publication)s, %(tx_count_1h)s, %(tx_count_24h)s, %(windows_24h)s, %(kind_counts_1h)s,
    %(kind_counts_24h)s, %(p10_value_sat_1h)s, %(median_value_sat_1h)s, %(p90_value_sat_1h)s,
    %(p99_value_sat_1h)s, %(p10_fee_rate_1h)s, %(median_fee_rate_1h)s, %(p90_fee_rate_1h)s,
    %(p99_fee_rate_1h)s, %(p10_value_sat_24h)s, %(median_value_sat_24h)s, %(p90_value_sat_24h)s,
    %(p99_value_sat_24h)s, %(p10_fee_rate_24h)s, %(median_fee_rate_24h)s, %(p90_fee_rate_24h)s,
    %(p99_fee_rate_24h)s
)
