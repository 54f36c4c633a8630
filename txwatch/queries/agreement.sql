-- One score a version and transaction: the first.
WITH one AS (
    SELECT DISTINCT ON (txid, model_version) txid, model_version, score, score >= threshold AS unusual
    FROM transaction_scores
    WHERE seen_at >= %(since)s AND model_version IN (%(a)s, %(b)s)
    ORDER BY txid, model_version, scored_at
)
SELECT
    count(*) AS transactions,
    count(*) FILTER (WHERE a.unusual) AS unusual_a,
    count(*) FILTER (WHERE b.unusual) AS unusual_b,
    count(*) FILTER (WHERE a.unusual AND b.unusual) AS unusual_both,
    corr(a.score, b.score) AS correlation
FROM one AS a
JOIN one AS b USING (txid)
WHERE a.model_version = %(a)s AND b.model_version = %(b)s
