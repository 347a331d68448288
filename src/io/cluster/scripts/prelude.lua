-- Functions that precede every script.
-- KEYS: what all keys begin with, and what all channels begin with.
-- ARGV of a script that needs a lease: number and token of the process, and then its own arguments.
local p, c = KEYS[1], KEYS[2]
local MIB = 1048576
-- LEASE_LIFETIME in store.rs.
local LEASE_MS = 10000

local function lease_is_lost()
  return redis.call('GET', p .. 'lease:' .. ARGV[1]) ~= ARGV[2]
end

local function lease_lost() return redis.error_reply('LEASELOST the lease has expired') end
local function room_gone() return redis.error_reply('ROOMGONE the room does not exist') end

local function is_alive(process)
  return redis.call('EXISTS', p .. 'lease:' .. process) == 1
end

-- Exists if the entry is to be rejected.
local function late_key(entry) return p .. 'late:' .. redis.sha1hex(entry) end

local function room_key(room) return p .. 'room:' .. room end

-- The end of a room's log: offset, hash, and total bytes of all entries, also of the trimmed ones. The last two values are offset and
-- total at the newest snapshot. No offset: there is no such room.
local function load_end(room)
  local s = redis.call('HMGET', room_key(room), 'offset', 'hash', 'total', 'snapshot_offset', 'snapshot_total')
  return tonumber(s[1]), s[2], tonumber(s[3]), tonumber(s[4]), tonumber(s[5])
end

-- Appends an entry to a room that exists, and sends it to the processes that follow the room. Extends the chain of hashes, so that two logs with the same hash at an offset are the same.
local function append(room, entry)
  local offset, previous, total, snapshot_offset, snapshot_total = load_end(room)
  offset = offset + 1
  local hash = redis.sha1hex(previous .. entry)
  local key = room_key(room)
  local grown = total + #entry
  redis.call('XADD', key .. ':log', string.format('%d-0', offset), 'e', entry, 'h', hash, 't', grown)
  redis.call('HSET', key, 'offset', offset, 'hash', hash, 'total', grown)
  local message = string.format('%s %d %s %s\n', room, offset, previous, hash) .. entry
  for _, process in ipairs(redis.call('HKEYS', key .. ':members')) do redis.call('PUBLISH', c .. 'to:' .. process, message) end
  local since = total - snapshot_total
  local due = (offset - snapshot_offset) % 1000 == 0 or math.floor(since / MIB) ~= math.floor((since + #entry) / MIB)
  return { offset, hash, due and 1 or 0 }
end

-- Hash and total at an offset of the log; nothing if the entry was trimmed or never existed.
local function at(room, offset)
  local id = offset .. '-0'
  local entry = redis.call('XRANGE', room_key(room) .. ':log', id, id)[1]
  if entry then return entry[2][4], entry[2][6] end
end

-- Makes the process a follower.
local function follow(process, room)
  redis.call('HSETNX', room_key(room) .. ':members', process, 0)
  redis.call('SADD', p .. 'process:' .. process .. ':rooms', room)
end

-- The opposite. Returns whether the process was a follower.
local function unfollow(process, room)
  redis.call('SREM', p .. 'process:' .. process .. ':rooms', room)
  return redis.call('HDEL', room_key(room) .. ':members', process) == 1
end

