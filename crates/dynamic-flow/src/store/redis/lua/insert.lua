-- KEYS: record, index. ARGV: id, channel, hints, expiry, then fields and values.
-- Gives 1, or 0 if there is a record.
if redis.call('HGET', KEYS[1], 'rev') then return 0 end
redis.call('ZCARD', KEYS[2])
local id = ARGV[1]
local fields, after = {}, {}
for n = 5, #ARGV, 2 do
  fields[#fields + 1] = ARGV[n]
  fields[#fields + 1] = ARGV[n + 1]
  after[ARGV[n]] = ARGV[n + 1]
end
call_with('HSET', KEYS[1], fields)
reindex(KEYS[2], id, {}, after, ARGV[4])
expire(KEYS[1], {}, after, ARGV[4])
tell(ARGV[2], ARGV[3])
return 1
