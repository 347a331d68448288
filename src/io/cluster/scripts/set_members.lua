-- Sets the number of members that the process has in a room that it follows.
-- ARGV: room, members.
if lease_is_lost() then return lease_lost() end
local key = room_key(ARGV[3]) .. ':members'
if redis.call('HEXISTS', key, ARGV[1]) == 0 then return room_gone() end
redis.call('HSET', key, ARGV[1], ARGV[4])
