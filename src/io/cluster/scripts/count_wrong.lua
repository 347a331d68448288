-- Counts a wrong password, code or token. The count ends 15 minutes after the first.
-- ARGV: kind, network. Returns the count.
local key = p .. 'wrong:' .. ARGV[1] .. ':' .. ARGV[2]
local count = redis.call('INCR', key)
if count == 1 then redis.call('EXPIRE', key, 900) end
return count
