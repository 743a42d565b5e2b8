-- What all scripts begin with. A record is a hash; the index of its partition is a sorted set of
-- entries, each of which ends with the record's id: see entry.rs. A script reads before it writes,
-- so that a key of a wrong type stops it while nothing has changed.

-- The fields from which a record's entries follow, and whether Redis may remove it.
local FIELDS = { 'st', 'flow', 'q', 'due', 'til', 'wx', 'mx' }

-- The end of a lease that nobody has.
local NEVER = string.rep('\0', 8)

local function read(record)
  local values = redis.call('HMGET', record, unpack(FIELDS))
  local fields = {}
  for n, name in ipairs(FIELDS) do fields[name] = values[n] or nil end
  return fields
end

local function copy(fields)
  local copied = {}
  for name, value in pairs(fields) do copied[name] = value end
  return copied
end

-- Takes apart what holds the beginnings of entries, each after its length in a byte.
local function unpack_entries(entries, packed, id)
  local at = 1
  while packed and at <= #packed do
    local length = packed:byte(at)
    entries[packed:sub(at + 1, at + length) .. id] = true
    at = at + 1 + length
  end
end

-- All entries of a record; none of one that is not there.
local function entries_of(fields, id)
  local entries = {}
  if not fields.st then return entries end
  entries['s' .. fields.st .. id] = true
  entries['f' .. fields.flow .. '\0' .. fields.st .. id] = true
  if fields.q and fields.due then
    entries['d' .. fields.q .. '\0' .. fields.due .. (fields.til or NEVER) .. id] = true
  end
  unpack_entries(entries, fields.wx, id)
  unpack_entries(entries, fields.mx, id)
  return entries
end

-- Makes a call with many arguments, so many of them at a time. Lua's stack has a bound.
local function call_with(command, key, arguments)
  for first = 1, #arguments, 1000 do
    local last = math.min(first + 999, #arguments)
    redis.call(command, key, unpack(arguments, first, last))
  end
end

-- Codes of final statuses are capitals.
local function is_final(fields)
  return fields.st and fields.st:byte() < 97
end

-- A time as a number; none where it is too far away to be one exactly.
local function millis(ordered)
  if ordered:byte(1) ~= 128 or ordered:byte(2) >= 32 then return nil end
  local time = 0
  for n = 2, 8 do time = time * 256 + ordered:byte(n) end
  return time
end

-- When Redis may remove a record: some time after the retention of an ended one, and else never.
local function expires_at(fields, expiry)
  if not is_final(fields) or not fields.due or expiry == '' then return nil end
  local retained = millis(fields.due)
  return retained and string.format('%.0f', retained + tonumber(expiry))
end

-- The entry from which the others of a record are known when Redis has removed it: the id, and the
-- beginnings of entries, each after its length in a byte. It is found by what it begins with.
local function mark_of(fields, id)
  local beginnings = { 's' .. fields.st, 'f' .. fields.flow .. '\0' .. fields.st }
  local due = fields.q and fields.due
    and 'd' .. fields.q .. '\0' .. fields.due .. (fields.til or NEVER)
  -- That of a queue with a longer name is found by who claims from the queue.
  if due and #due < 256 then beginnings[3] = due end
  local packed = {}
  for n, beginning in ipairs(beginnings) do packed[n] = string.char(#beginning) .. beginning end
  return 'x' .. id .. table.concat(packed) .. (fields.wx or '') .. (fields.mx or '') .. id
end

-- Removes an entry of a record that is not there, and the others that it has left behind.
local function forget(index, id, entry)
  local entries = { [entry] = true }
  -- What comes first is short: its length is not the largest byte.
  for _, mark in ipairs(redis.call('ZRANGEBYLEX', index, '[x' .. id, '(x' .. id .. '\255')) do
    entries[mark] = true
    unpack_entries(entries, mark:sub(18, -17), id)
  end
  local gone = {}
  for left in pairs(entries) do gone[#gone + 1] = left end
  call_with('ZREM', index, gone)
end

-- Puts the entries that a record has now in the place of those that it had.
local function reindex(index, id, before, after, expiry)
  local had, has = entries_of(before, id), entries_of(after, id)
  local gone, come = {}, {}
  for entry in pairs(had) do
    if not has[entry] then gone[#gone + 1] = entry end
  end
  -- Where the index was lost, all are put back.
  local lost = before.st and not redis.call('ZSCORE', index, 's' .. before.st .. id)
  for entry in pairs(has) do
    if lost or not had[entry] then
      come[#come + 1] = 0
      come[#come + 1] = entry
    end
  end
  -- Whether there is a mark depends on how whoever wrote the record was configured.
  if is_final(before) then gone[#gone + 1] = mark_of(before, id) end
  call_with('ZREM', index, gone)
  if expires_at(after, expiry) then
    come[#come + 1] = 0
    come[#come + 1] = mark_of(after, id)
  end
  call_with('ZADD', index, come)
end

-- Lets Redis remove an ended record some time after its retention, and no other.
local function expire(record, before, after, expiry)
  local time = expires_at(after, expiry)
  if time then
    redis.call('PEXPIREAT', record, time)
  elseif is_final(before) or is_final(after) then
    redis.call('PERSIST', record)
  end
end

-- Tells who waits. That this user may not is no reason to fail: it is only a hint.
local function tell(channel, hints)
  for hint in hints:gmatch('.') do redis.pcall('PUBLISH', channel, hint) end
end
