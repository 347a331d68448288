-- All operations of the store. Redis runs each without any other command in between.
-- KEYS: what all keys begin with, and what all channels begin with.
-- ARGV: the operation; number and token of the process, whose lease is checked first, or empty strings; arguments of the operation.
local p, c = KEYS[1], KEYS[2]
local operation, process, token = ARGV[1], ARGV[2], ARGV[3]
local MIB = 1048576
-- LEASE_LIFETIME in store.rs.
local LEASE_MS = 10000

local function is_alive(number) return redis.call('EXISTS', p .. 'lease:' .. number) == 1 end
local function room_key(room) return p .. 'room:' .. room end
local function room_gone() return redis.error_reply('ROOMGONE the room does not exist') end

-- The end of a room's log: offset, hash, and total bytes of all entries, also of the trimmed ones. The last two values are offset and
-- total at the newest snapshot. No offset: there is no such room.
local function load_end(room)
  local s = redis.call('HMGET', room_key(room), 'offset', 'hash', 'total', 'snapshot_offset', 'snapshot_total')
  return tonumber(s[1]), s[2], tonumber(s[3]), tonumber(s[4]), tonumber(s[5])
end

-- Appends an entry to a room that exists, and sends it to the processes that follow the room. Extends the chain of hashes, so that two
-- logs with the same hash at an offset are the same. Returns offset, hash, and whether a snapshot is due.
local function append(room, entry)
  local offset, previous, total, snapshot_offset, snapshot_total = load_end(room)
  offset = offset + 1
  local hash = redis.sha1hex(previous .. entry)
  local key = room_key(room)
  local grown = total + #entry
  redis.call('XADD', key .. ':log', string.format('%d-0', offset), 'e', entry, 'h', hash, 't', grown)
  redis.call('HSET', key, 'offset', offset, 'hash', hash, 'total', grown)
  local message = string.format('%s %d %s %s\n', room, offset, previous, hash) .. entry
  for _, follower in ipairs(redis.call('HKEYS', key .. ':members')) do redis.call('PUBLISH', c .. 'to:' .. follower, message) end
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

-- Makes this process a follower.
local function follow(room)
  redis.call('HSETNX', room_key(room) .. ':members', process, 0)
  redis.call('SADD', p .. 'process:' .. process .. ':rooms', room)
end

-- Returns whether the process was a follower.
local function unfollow(follower, room)
  redis.call('SREM', p .. 'process:' .. follower .. ':rooms', room)
  return redis.call('HDEL', room_key(room) .. ':members', follower) == 1
end

local operations = {}

-- Takes a process number with a lease if the settings (names and values) are those of the other processes. Without any other, the settings
-- are replaced. Returns the number (0: none) and the names of settings that differ.
function operations.acquire(new_token, ...)
  local key, alone, differing, settings = p .. 'settings', true, {}, { ... }
  for _, other in ipairs(redis.call('SMEMBERS', p .. 'processes')) do alone = alone and not is_alive(other) end
  if alone then redis.call('DEL', key) end
  for i = 1, #settings, 2 do
    local stored = redis.call('HGET', key, settings[i])
    if stored and stored ~= settings[i + 1] then differing[#differing + 1] = settings[i] end
  end
  if #differing > 0 then return { 0, differing } end
  for i = 1, #settings, 2 do redis.call('HSET', key, settings[i], settings[i + 1]) end
  local number = redis.call('INCR', p .. 'process')
  redis.call('SET', p .. 'lease:' .. number, new_token, 'PX', LEASE_MS)
  redis.call('SADD', p .. 'processes', number)
  return { number, differing }
end

-- Extends the lease, but never revives one that has expired: the departure of the process may already be in the logs. Fails if Redis has no
-- memory for more data. Returns the time of Redis, the number of rooms, and of each process its number and whether it has a lease.
function operations.renew(...)
  redis.call('PEXPIRE', p .. 'lease:' .. process, LEASE_MS)
  local written, rooms, processes = redis.pcall('SET', p .. 'written', 1), 0, {}
  if written.err then return written end
  for _, dialect in ipairs({ ... }) do rooms = rooms + redis.call('ZCARD', p .. 'dialect:' .. dialect) end
  for _, number in ipairs(redis.call('SMEMBERS', p .. 'processes')) do
    processes[#processes + 1] = { tonumber(number), is_alive(number) and 1 or 0 }
  end
  return { redis.call('TIME'), rooms, processes }
end

-- Ends the lease. A process that still follows rooms stays listed, so that another process appends its departure.
function operations.release()
  redis.call('DEL', p .. 'lease:' .. process)
  if redis.call('EXISTS', p .. 'process:' .. process .. ':rooms') == 0 then redis.call('SREM', p .. 'processes', process) end
end

-- Appends the departure of a process without a lease to up to 50 rooms that it followed, and removes it there. As both happen in one
-- script, each room gets one departure although several processes try. Rooms that no other process follows are followed by this process
-- then, so that they are not forgotten if it dies before it has looked whether they can be deleted.
-- Returns those rooms, and whether there are more to depart from.
function operations.depart(dead, entry)
  local unfollowed = {}
  if is_alive(dead) then return { unfollowed, 0 } end
  local key = p .. 'process:' .. dead .. ':rooms'
  for _, room in ipairs(redis.call('SRANDMEMBER', key, 50)) do
    if unfollow(dead, room) then
      append(room, entry)
      if redis.call('EXISTS', room_key(room) .. ':members') == 0 then
        follow(room)
        unfollowed[#unfollowed + 1] = tonumber(room)
      end
    end
  end
  local more = redis.call('EXISTS', key)
  if more == 0 then redis.call('SREM', p .. 'processes', dead) end
  return { unfollowed, more }
end

-- The rooms of a dialect in the order of their creation: description, members. Members of dead processes do not count. A value that cannot be
-- read counts as empty, so that it does not hide the other rooms.
function operations.list(dialect)
  local list, alive = {}, {}
  for _, room in ipairs(redis.call('ZRANGE', p .. 'dialect:' .. dialect, 0, -1)) do
    local members, counts = 0, redis.pcall('HGETALL', room_key(room) .. ':members')
    for i = 1, #counts, 2 do
      local follower = counts[i]
      if alive[follower] == nil then alive[follower] = is_alive(follower) end
      if alive[follower] then members = members + (tonumber(counts[i + 1]) or 0) end
    end
    local description = redis.pcall('HGET', room_key(room), 'description')
    list[#list + 1] = { type(description) == 'string' and description or '', math.max(members, 0) }
  end
  return list
end

-- Makes a room with this first entry unless one of its names is taken. Room numbers are never used again, so that no process confuses two
-- rooms of one name. Returns the room and, if it was made, offset and hash.
function operations.create(dialect, description, entry, members, ...)
  local names = {}
  for _, name in ipairs({ ... }) do
    names[#names + 1] = p .. 'name:' .. dialect .. ':' .. name
    local taken = redis.call('GET', names[#names])
    if taken then return { tonumber(taken), false } end
  end
  local room = string.format('%d', redis.call('INCR', p .. 'rooms'))
  for _, name in ipairs(names) do redis.call('SET', name, room) end
  redis.call('ZADD', p .. 'dialect:' .. dialect, room, room)
  redis.call('HSET', room_key(room), 'dialect', dialect, 'names', cmsgpack.pack(names), 'description', description,
    'offset', 0, 'hash', '', 'total', 0, 'snapshot_offset', 0, 'snapshot_hash', '', 'snapshot_total', 0, 'previous_snapshot_offset', 0)
  follow(room)
  redis.call('HSET', room_key(room) .. ':members', process, members)
  local appended = append(room, entry)
  return { tonumber(room), { appended[1], appended[2] } }
end

-- Makes the process a follower and returns the log, so that it gets every entry either here or as a notification: the entries after the
-- position of offset and hash, or, without them, the newest snapshot and what follows.
-- Returns dialect, offset, hash, snapshot (if there is one and it was wanted) and entries; nothing if the log does not have the position.
function operations.follow(room, offset, hash)
  local key, snapshot = room_key(room), false
  local last, _, _, snapshot_offset = load_end(room)
  if not last then return room_gone() end
  if not offset then
    offset = snapshot_offset
    hash, snapshot = unpack(redis.call('HMGET', key, 'snapshot_hash', 'snapshot'))
  elseif at(room, offset) ~= hash then
    return false
  end
  follow(room)
  local entries = redis.call('XRANGE', key .. ':log', string.format('%d-0', offset + 1), '+')
  return { redis.call('HGET', key, 'dialect'), tonumber(offset), hash, snapshot, entries }
end

-- Appends an entry, and changes the number of members that the process has in the room. At most 8 MiB follow the newest snapshot, and the
-- log keeps as much before it, 16 MiB together. Returns offset, hash, and whether a snapshot is due.
function operations.append(room, request, entry, change)
  if redis.call('EXISTS', p .. 'late:' .. process .. ':' .. request) == 1 then return redis.error_reply('LATE the attempt was rejected before it arrived') end
  local offset, _, total, _, snapshot_total = load_end(room)
  if not offset then return room_gone() end
  if total - snapshot_total + #entry > 8 * MIB then return redis.error_reply('LOGFULL the log needs a snapshot') end
  if change ~= '0' then
    follow(room)
    redis.call('HINCRBY', room_key(room) .. ':members', process, change)
  end
  return append(room, entry)
end

-- Rejects an append that arrives later. After an hour, nothing of a broken connection can arrive any more.
function operations.reject_late(request)
  redis.call('SET', p .. 'late:' .. process .. ':' .. request, 1, 'EX', 3600)
end

-- Sets the number of members that the process has in a room that it follows.
function operations.set_members(room, members)
  local key = room_key(room) .. ':members'
  if redis.call('HEXISTS', key, process) == 0 then return room_gone() end
  redis.call('HSET', key, process, members)
end

-- Ends following a room. Deletes the room if the process says that nothing in it must be kept (1), no process follows it, and nothing was
-- appended after the offset that the process has applied. Returns whether it was deleted.
function operations.unfollow(room, offset, disposable)
  local key = room_key(room)
  unfollow(process, room)
  if disposable ~= '1' or redis.call('EXISTS', key .. ':members') == 1 then return 0 end
  local last, dialect, names = unpack(redis.call('HMGET', key, 'offset', 'dialect', 'names'))
  if last ~= offset then return 0 end
  redis.call('ZREM', p .. 'dialect:' .. dialect, room)
  for _, name in ipairs(cmsgpack.unpack(names)) do redis.call('DEL', name) end
  redis.call('DEL', key, key .. ':log')
  return 1
end

-- Saves a snapshot, unless a newer one is saved or the log does not have its position. Entries after the snapshot before it stay, so that
-- a process that has just loaded that one can read on. Returns whether it was saved.
function operations.save_snapshot(room, offset, hash, snapshot, description)
  local key = room_key(room)
  local last, _, _, previous = load_end(room)
  if not last then return room_gone() end
  local found, total = at(room, offset)
  if tonumber(offset) <= previous or found ~= hash then return 0 end
  redis.call('HSET', key, 'snapshot', snapshot, 'snapshot_offset', offset, 'snapshot_hash', hash, 'snapshot_total', total,
    'previous_snapshot_offset', previous, 'description', description)
  -- The entry at the offset of the previous snapshot stays for the check of its hash.
  redis.call('XTRIM', key .. ':log', 'MINID', '=', string.format('%d-0', previous))
  return 1
end

-- Counts a wrong password, code or token. The count ends 15 minutes after the first. Returns the count.
function operations.count_wrong(kind, network)
  local key = p .. 'wrong:' .. kind .. ':' .. network
  local count = redis.call('INCR', key)
  if count == 1 then redis.call('EXPIRE', key, 900) end
  return count
end

if process ~= '' and redis.call('GET', p .. 'lease:' .. process) ~= token then
  return redis.error_reply('LEASELOST the lease has expired')
end
return operations[operation](unpack(ARGV, 4))
