-- Ends the lease. A process that still follows rooms stays listed, so that another process appends its departure.
if lease_is_lost() then return lease_lost() end
redis.call('DEL', p .. 'lease:' .. ARGV[1])
if redis.call('EXISTS', p .. 'process:' .. ARGV[1] .. ':rooms') == 0 then redis.call('SREM', p .. 'processes', ARGV[1]) end
