-- KEYS: index, then records that were not there. ARGV: for each the entry by which it was found.
-- Removes what records have left behind that Redis removed after their time.
for n = 2, #KEYS do
  if redis.call('EXISTS', KEYS[n]) == 0 then redis.call('ZREM', KEYS[1], ARGV[n - 1]) end
end
return 1
