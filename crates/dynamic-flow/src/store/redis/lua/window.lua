-- KEYS: index. ARGV: how many of each range, then the end and the beginning of each range.
-- Gives the last entries of each range, all of one moment: a run that moves from one range to
-- another meanwhile is in exactly one of them.
local found = {}
for n = 2, #ARGV, 2 do
  found[n / 2] = redis.call('ZREVRANGEBYLEX', KEYS[1], ARGV[n], ARGV[n + 1], 'LIMIT', 0, ARGV[1])
end
return found
