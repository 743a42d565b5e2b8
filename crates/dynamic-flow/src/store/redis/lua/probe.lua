-- KEYS: a key for nothing else. Does whatever the other scripts do, so that a right that is missing
-- is known before there is anything that it could leave half done.
local key = KEYS[1]
redis.call('DEL', key)
redis.call('HSET', key, 'rev', 1)
redis.call('HINCRBY', key, 'rev', 1)
redis.call('HGET', key, 'rev')
redis.call('HMGET', key, 'rev')
redis.call('HGETALL', key)
redis.call('PEXPIREAT', key, '4000000000000')
redis.call('PERSIST', key)
redis.call('EXISTS', key)
redis.call('HDEL', key, 'rev')
redis.call('ZADD', key, 0, 'a')
redis.call('ZCARD', key)
redis.call('ZSCORE', key, 'a')
redis.call('ZREVRANGEBYLEX', key, '+', '-', 'LIMIT', 0, 1)
redis.call('ZREM', key, 'a')
return 1
