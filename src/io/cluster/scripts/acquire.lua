-- Takes a process number with a lease if the settings are those of the other processes. Without any other, the settings are replaced.
-- ARGV: token, then name and value of each setting. Returns the number (0: none) and the names of settings that differ.
local key, alone, differing = p .. 'settings', true, {}
for _, process in ipairs(redis.call('SMEMBERS', p .. 'processes')) do alone = alone and not is_alive(process) end
if alone then redis.call('DEL', key) end
for i = 2, #ARGV, 2 do
  local stored = redis.call('HGET', key, ARGV[i])
  if stored and stored ~= ARGV[i + 1] then differing[#differing + 1] = ARGV[i] end
end
if #differing > 0 then return { 0, differing } end
for i = 2, #ARGV, 2 do redis.call('HSET', key, ARGV[i], ARGV[i + 1]) end
local process = redis.call('INCR', p .. 'process')
redis.call('SET', p .. 'lease:' .. process, ARGV[1], 'PX', LEASE_MS)
redis.call('SADD', p .. 'processes', process)
return { process, differing }
