-- One score a version and transaction: the highest, should it have been scored in two contexts.
WITH pairs AS (
    SELECT
        max(score) FILTER (WHERE model_version = %(a)s) AS score_a,
        max(score) FILTER (WHERE model_version = %(b)s) AS score_b,
        bool_or(score >= threshold) FILTER (WHERE model_version = %(a)s) AS unusual_a,
        bool_or(score >= threshold) FILTER (WHERE model_version = %(b)s) AS unusual_b
    FROM transaction_scores
    WHERE seen_at >= %(since)s AND model_version IN (%(a)s, %(b)s)
    GROUP BY txid
)
SELECT
    count(*) AS transactions,
    count(*) FILTER (WHERE unusual_a) AS unusual_a,
    count(*) FILTER (WHERE unusual_b) AS unusual_b,
    count(*) FILTER (WHERE unusual_a AND unusual_b) AS unusual_both,
    corr(score_a, score_b) AS correlation
FROM pairs
WHERE score_a IS NOT NULL AND score_b IS NOT NULL
