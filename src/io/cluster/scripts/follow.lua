-- Makes the process a follower and returns the log, so that it gets every entry either here or as a notification.
-- ARGV: room; offset and hash of the position after which it wants the entries, or neither for the newest snapshot and what follows.
-- Returns dialect, offset, hash, snapshot (if there is one and it was wanted) and entries; nothing if the log does not have the position.
local room, offset, hash, snapshot = ARGV[3], ARGV[4], ARGV[5], false
local key = room_key(room)
if lease_is_lost() then return lease_lost() end
local last, last_hash, _, snapshot_offset = load_end(room)
if not last then return room_gone() end
if not offset then
  offset = snapshot_offset
  hash, snapshot = unpack(redis.call('HMGET', key, 'snapshot_hash', 'snapshot'))
elseif at(room, offset) ~= hash then
  return false
end
follow(ARGV[1], room)
local entries = redis.call('XRANGE', key .. ':log', string.format('%d-0', offset + 1), '+')
return { redis.call('HGET', key, 'dialect'), tonumber(offset), hash, snapshot, entries }
