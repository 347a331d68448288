-- Appends an entry to a room. At most 8 MiB follow the newest snapshot, and the log keeps as much before it, 16 MiB together.
-- ARGV: room, entry, change of the number of members that the process has in it. Returns offset, hash, whether a snapshot is due.
local room, entry, delta = ARGV[3], ARGV[4], tonumber(ARGV[5])
if lease_is_lost() then return lease_lost() end
if redis.call('EXISTS', late_key(entry)) == 1 then return redis.error_reply('LATE the entry was rejected before it arrived') end
local offset, _, total, _, snapshot_total = load_end(room)
if not offset then return room_gone() end
if total - snapshot_total + #entry > 8 * MIB then return redis.error_reply('LOGFULL the log needs a snapshot') end
if delta ~= 0 then
  follow(ARGV[1], room)
  redis.call('HINCRBY', room_key(room) .. ':members', ARGV[1], delta)
end
return append(room, entry)
