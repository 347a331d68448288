-- Extends the lease, but never revives one that has expired: the departure of the process may already be in the logs.
if lease_is_lost() then return lease_lost() end
redis.call('PEXPIRE', p .. 'lease:' .. ARGV[1], LEASE_MS)
