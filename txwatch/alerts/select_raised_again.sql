-- Scores that name a kind which the alert of their transaction does not: another lane saw another context, or labels came
-- to be known. After a day nobody looks at the message any more, and a backfill would edit thousands of them.
SELECT scores.txid, scores.seen_at, score, threshold, scores.reasons::text, source, scores.model_version
FROM transaction_scores AS scores
JOIN transactions USING (txid)
JOIN alerts ON alert_key = scores.txid
WHERE
    is_anomaly
    AND lane IN ('live', 'window')
    AND scores.seen_at >= %(start)s
    AND scores.seen_at < %(end)s
    AND scores.seen_at > %(now)s - interval '1 day'
    AND EXISTS (
        SELECT 1 FROM jsonb_array_elements(scores.reasons) AS reason WHERE reason ->> 'kind' <> ALL (alerts.kinds)
    )
ORDER BY scores.txid, scored_at
