-- Takes a member out of a sorted set, unless its score has changed since it was looked at.
--
-- KEYS[1]  zset
-- ARGV[1]  member
-- ARGV[2]  score      as it was
--
-- Returns   1 when it was taken out, else 0
-- Publishes nothing
if tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or -1) == tonumber(ARGV[2]) then
  return redis.call('ZREM', KEYS[1], ARGV[1])
end
return 0
