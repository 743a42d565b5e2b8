-- KEYS: a key for nothing else. Does whatever the other scripts do, so that a right that is missing
-- is known, and by its name, before there is anything that it could leave half done.
local key = KEYS[1]
for _, call in ipairs({
  { 'DEL' },
  { 'HSET', 'rev', 1 },
  { 'HINCRBY', 'rev', 1 },
  { 'HGET', 'rev' },
  { 'HMGET', 'rev' },
  { 'HGETALL' },
  { 'PEXPIREAT', '4000000000000' },
  { 'PERSIST' },
  { 'EXISTS' },
  { 'HDEL', 'rev' },
  { 'ZADD', 0, 'a' },
  { 'ZCARD' },
  { 'ZSCORE', 'a' },
  { 'ZRANGEBYLEX', '-', '+', 'LIMIT', 0, 1 },
  { 'ZREVRANGEBYLEX', '+', '-', 'LIMIT', 0, 1 },
  { 'ZREM', 'a' },
}) do
  local reply = redis.pcall(call[1], key, unpack(call, 2))
  if type(reply) == 'table' and reply.err then
    redis.pcall('DEL', key)
    -- Redis does not name what it forbids to a script.
    if reply.err:find('NOPERM') or reply.err:find("can't run this command") then
      return redis.error_reply('NOPERM this user may not use ' .. call[1])
    end
    return reply
  end
end
return 1
