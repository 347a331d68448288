-- Makes a room unless one of its names is taken. Room numbers are never used again, so that no process confuses two rooms of one name.
-- ARGV: dialect, description, first entry, members of the process, names. Returns the room and, if it was made, offset and hash.
local dialect, description, entry, members = ARGV[3], ARGV[4], ARGV[5], ARGV[6]
if lease_is_lost() then return lease_lost() end
local names = {}
for i = 7, #ARGV do
  names[#names + 1] = p .. 'name:' .. dialect .. ':' .. ARGV[i]
  local taken = redis.call('GET', names[#names])
  if taken then return { tonumber(taken), false } end
end
local room = string.format('%d', redis.call('INCR', p .. 'rooms'))
for _, name in ipairs(names) do redis.call('SET', name, room) end
redis.call('ZADD', p .. 'dialect:' .. dialect, room, room)
redis.call('HSET', room_key(room), 'dialect', dialect, 'names', cmsgpack.pack(names), 'description', description,
  'offset', 0, 'hash', '', 'total', 0, 'snapshot_offset', 0, 'snapshot_hash', '', 'snapshot_total', 0, 'previous_snapshot_offset', 0)
follow(ARGV[1], room)
redis.call('HSET', room_key(room) .. ':members', ARGV[1], members)
local appended = append(room, entry)
return { tonumber(room), { appended[1], appended[2] } }
