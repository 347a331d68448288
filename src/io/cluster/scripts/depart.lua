-- Appends the departure of a process without a lease to up to 50 rooms that it followed, and removes it there. As both happen in one
-- script, each room gets one departure although several processes try. Rooms that no other process follows are followed by this process
-- then, so that they are not forgotten if it dies before it has looked whether they can be deleted.
-- ARGV: number of the dead process, entry. Returns those rooms, and whether there are more to depart from.
local dead, entry = ARGV[3], ARGV[4]
if lease_is_lost() then return lease_lost() end
local unfollowed = {}
if is_alive(dead) then return { unfollowed, 0 } end
local key = p .. 'process:' .. dead .. ':rooms'
for _, room in ipairs(redis.call('SRANDMEMBER', key, 50)) do
  if unfollow(dead, room) then
    append(room, entry)
    if redis.call('EXISTS', room_key(room) .. ':members') == 0 then
      follow(ARGV[1], room)
      unfollowed[#unfollowed + 1] = tonumber(room)
    end
  end
end
local more = redis.call('EXISTS', key)
if more == 0 then redis.call('SREM', p .. 'processes', dead) end
return { unfollowed, more }
