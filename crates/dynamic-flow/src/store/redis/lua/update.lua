-- KEYS: record, index. ARGV: id, expected revision or nothing, channel, hints, expiry, how many
-- items leave the inbox, how many arguments are fields and values, how many are fields to remove;
-- then these, then the items that join the inbox.
-- Gives the new revision, or nothing if the record is not as expected.
local revision = redis.call('HGET', KEYS[1], 'rev')
if not revision or (ARGV[2] ~= '' and ARGV[2] ~= revision) then return false end
redis.call('ZCARD', KEYS[2])
local id = ARGV[1]
local before = read(KEYS[1])
local after = copy(before)
-- First, since it fails at the end of all numbers. Exact, as arithmetic of Lua would not be.
redis.call('HINCRBY', KEYS[1], 'rev', 1)

local set, removed = {}, {}
local last_set = 8 + tonumber(ARGV[7])
local last_removed = last_set + tonumber(ARGV[8])
for n = 9, last_set, 2 do
  set[#set + 1] = ARGV[n]
  set[#set + 1] = ARGV[n + 1]
  after[ARGV[n]] = ARGV[n + 1]
end
for n = last_set + 1, last_removed do
  removed[#removed + 1] = ARGV[n]
  after[ARGV[n]] = nil
end

local dropped = tonumber(ARGV[6])
if dropped > 0 or #ARGV > last_removed then
  local place = redis.call('HMGET', KEYS[1], 'from', 'to')
  local from, to = tonumber(place[1] or 0), tonumber(place[2] or 0)
  local kept = math.min(from + dropped, to)
  for n = from, kept - 1 do removed[#removed + 1] = string.format('in%d', n) end
  for n = last_removed + 1, #ARGV do
    set[#set + 1] = string.format('in%d', to)
    set[#set + 1] = ARGV[n]
    to = to + 1
  end
  if kept == to then
    removed[#removed + 1] = 'from'
    removed[#removed + 1] = 'to'
  else
    for _, value in ipairs({ 'from', kept, 'to', to }) do set[#set + 1] = value end
  end
end

call_with('HDEL', KEYS[1], removed)
call_with('HSET', KEYS[1], set)
reindex(KEYS[2], id, before, after, ARGV[5])
-- As text: a number would be rounded on its way. And first: its time may have come.
local written = redis.call('HGET', KEYS[1], 'rev')
expire(KEYS[1], before, after, ARGV[5])
tell(ARGV[3], ARGV[4])
return written
