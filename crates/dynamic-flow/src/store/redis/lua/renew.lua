-- KEYS: record, index. ARGV: id, epoch, end of the lease, expiry.
-- Gives 1, or 0 if the lease is not the caller's.
local held = redis.call('HMGET', KEYS[1], 'ep', 'own')
if held[1] ~= ARGV[2] or not held[2] then return 0 end
redis.call('ZCARD', KEYS[2])
local before = read(KEYS[1])
local after = copy(before)
after.til, after.due = ARGV[3], ARGV[3]
redis.call('HSET', KEYS[1], 'til', ARGV[3], 'due', ARGV[3])
reindex(KEYS[2], ARGV[1], before, after, ARGV[4])
expire(KEYS[1], before, after, ARGV[4])
return 1
