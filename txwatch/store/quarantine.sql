INSERT INTO quarantined_messages (received_at, reason, size, body)
SELECT %(received_at)s, %(reason)s, %(size)s, %(body)s
WHERE NOT EXISTS (
    SELECT FROM quarantined_messages WHERE received_at = %(received_at)s AND body = %(body)s
)
