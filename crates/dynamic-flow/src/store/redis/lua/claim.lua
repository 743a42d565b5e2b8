-- KEYS: index, then records. ARGV: owner, end of the lease, now, expiry, then the id of each record
-- and the entry by which it was found due and free. What has changed since has another entry.
-- Gives for each record all its fields, or nothing if somebody was faster.
local LAST = '9223372036854775807'
local given = {}
for n = 2, #KEYS do
  local record, id, entry = KEYS[n], ARGV[2 * n + 1], ARGV[2 * n + 2]
  given[n - 1] = false
  if redis.call('ZSCORE', KEYS[1], entry) then
    local held = redis.call('HMGET', record, 'rev', 'ep', 'try')
    if not held[1] then
      -- Redis has removed the record after its time, or was told to.
      forget(KEYS[1], id, entry)
    elseif held[1] ~= LAST and held[2] ~= LAST then
      local before = read(record)
      local after = copy(before)
      after.due, after.til = ARGV[2], ARGV[2]
      if not is_final(before) then after.st = 'r' end
      redis.call('HINCRBY', record, 'rev', 1)
      redis.call('HINCRBY', record, 'ep', 1)
      local tries = string.format('%.0f', math.min(tonumber(held[3]) + 1, 4294967295))
      redis.call('HSET', record, 'own', ARGV[1], 'til', ARGV[2], 'due', ARGV[2], 'at', ARGV[3],
        'try', tries, 'st', after.st)
      reindex(KEYS[1], id, before, after, ARGV[4])
      given[n - 1] = redis.call('HGETALL', record)
      expire(record, before, after, ARGV[4])
    end
  end
end
return given
