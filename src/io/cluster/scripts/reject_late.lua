-- Makes Redis reject an entry that arrives later. After an hour, nothing of a broken connection can arrive any more.
-- ARGV: entry.
redis.call('SET', late_key(ARGV[1]), 1, 'EX', 3600)
