-- KEYS: index, then records. ARGV: owner, end of the lease, now, expiry, then the id of each record
-- and the entry by which it was found due and free. What has changed since has another entry.
-- Gives for each record all its fields, or nothing if somebody was faster. One that others have
-- damaged is passed over: it must not stop this half way, nor keep anybody from the others.
local LAST = '9223372036854775807'

local function is_count(text)
  return text and text:match('^%d+$')
end

local function is_sound(now)
  return is_count(now[1]) and is_count(now[2]) and is_count(now[3]) and now[4] and now[5]
end

local held = {}
for n = 2, #KEYS do
  if redis.call('ZSCORE', KEYS[1], ARGV[2 * n + 2]) then
    local now = redis.pcall('HMGET', KEYS[n], 'rev', 'ep', 'try', 'st', 'flow')
    held[n] = not now.err and now
  end
end
local given = {}
for n = 2, #KEYS do
  local record, id, entry = KEYS[n], ARGV[2 * n + 1], ARGV[2 * n + 2]
  given[n - 1] = false
  local now = held[n]
  if now and redis.call('EXISTS', record) == 0 then
    -- Redis has removed the record after its time, or was told to.
    forget(KEYS[1], id, entry)
  elseif now and is_sound(now) and now[1] ~= LAST and now[2] ~= LAST then
    local before = read(record)
    local after = copy(before)
    after.due, after.til = ARGV[2], ARGV[2]
    if not is_final(before) then after.st = 'r' end
    redis.call('HINCRBY', record, 'rev', 1)
    redis.call('HINCRBY', record, 'ep', 1)
    local tries = string.format('%.0f', math.min(tonumber(now[3]) + 1, 4294967295))
    redis.call('HSET', record, 'own', ARGV[1], 'til', ARGV[2], 'due', ARGV[2], 'at', ARGV[3],
      'try', tries, 'st', after.st)
    reindex(KEYS[1], id, before, after, ARGV[4])
    given[n - 1] = redis.call('HGETALL', record)
    expire(record, before, after, ARGV[4])
  end
end
return given
