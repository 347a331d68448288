-- Ends following a room. Deletes the room if the process says that nothing in it must be kept, no process follows it, and nothing was
-- appended to what the process knows.
-- ARGV: room, offset that the process has applied, whether the room may be deleted (1 or 0). Returns whether it was deleted.
local room, offset, disposable = ARGV[3], ARGV[4], ARGV[5]
local key = room_key(room)
if lease_is_lost() then return lease_lost() end
unfollow(ARGV[1], room)
if disposable ~= '1' or redis.call('EXISTS', key .. ':members') == 1 then return 0 end
local last, dialect, names = unpack(redis.call('HMGET', key, 'offset', 'dialect', 'names'))
if last ~= offset then return 0 end
redis.call('ZREM', p .. 'dialect:' .. dialect, room)
for _, name in ipairs(cmsgpack.unpack(names)) do redis.call('DEL', name) end
redis.call('DEL', key, key .. ':log')
return 1
