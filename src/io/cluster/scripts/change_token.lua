-- Extends the lease under another token. Operations with the old token that Redis receives later are rejected.
-- ARGV: new token. Repeating the call does no harm.
local key = p .. 'lease:' .. ARGV[1]
local token = redis.call('GET', key)
if token ~= ARGV[2] and token ~= ARGV[3] then return lease_lost() end
redis.call('SET', key, ARGV[3], 'PX', LEASE_MS)
