-- The rooms of a dialect in the order of their creation: number, description, members. Members of dead processes do not count.
-- ARGV: dialect.
local list, alive = {}, {}
for _, room in ipairs(redis.call('ZRANGE', p .. 'dialect:' .. ARGV[1], 0, -1)) do
  local members, counts = 0, redis.call('HGETALL', room_key(room) .. ':members')
  for i = 1, #counts, 2 do
    local process = counts[i]
    if alive[process] == nil then alive[process] = is_alive(process) end
    if alive[process] then members = members + tonumber(counts[i + 1]) end
  end
  list[#list + 1] = tonumber(room)
  list[#list + 1] = redis.call('HGET', room_key(room), 'description')
  list[#list + 1] = math.max(members, 0)
end
return list
