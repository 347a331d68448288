-- Saves a snapshot, unless a newer one is saved or the log does not have its position. Entries after the snapshot before it stay, so that
-- a process that has just loaded that one can read on.
-- ARGV: room, offset, hash, snapshot, description. Returns whether it was saved.
local room, offset, hash = ARGV[3], ARGV[4], ARGV[5]
local key = room_key(room)
if lease_is_lost() then return lease_lost() end
local last, _, _, previous = load_end(room)
if not last then return room_gone() end
local found, total = at(room, offset)
if tonumber(offset) <= previous or found ~= hash then return 0 end
redis.call('HSET', key, 'snapshot', ARGV[6], 'snapshot_offset', offset, 'snapshot_hash', hash, 'snapshot_total', total,
  'previous_snapshot_offset', previous, 'description', ARGV[7])
-- The entry at the offset of the previous snapshot stays for the check of its hash.
redis.call('XTRIM', key .. ':log', 'MINID', '=', string.format('%d-0', previous))
return 1
