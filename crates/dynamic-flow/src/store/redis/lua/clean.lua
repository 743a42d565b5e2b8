-- KEYS: index, then records that were not there. ARGV: for each the entry by which it was found.
-- Removes what records have left behind that Redis removed after their time.
for n = 2, #KEYS do
  local entry = ARGV[n - 1]
  if redis.call('EXISTS', KEYS[n]) == 0 then forget(KEYS[1], entry:sub(-16), entry) end
end
return 1
