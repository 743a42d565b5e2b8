-- KEYS: record, index. ARGV: id, expected revision or nothing.
-- Gives 1, or 0 if the record is not as expected.
local revision = redis.call('HGET', KEYS[1], 'rev')
if not revision or (ARGV[2] ~= '' and ARGV[2] ~= revision) then return 0 end
redis.call('ZCARD', KEYS[2])
local before = read(KEYS[1])
redis.call('DEL', KEYS[1])
reindex(KEYS[2], ARGV[1], before, {}, '')
return 1
