-- The number of each process, and whether it has a lease.
local list = {}
for _, process in ipairs(redis.call('SMEMBERS', p .. 'processes')) do
  list[#list + 1] = tonumber(process)
  list[#list + 1] = is_alive(process) and 1 or 0
end
return list
