-- Puts a value in the place of another, if that is still what stands there.
--
-- KEYS[1]  string
-- ARGV[1]  expected
-- ARGV[2]  next       '' for nothing
-- ARGV[3]  ttl_ms     how long it stands
--
-- Returns   what stands there now, or nil
-- Publishes nothing
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return redis.call('GET', KEYS[1])
end
if ARGV[2] == '' then
  redis.call('DEL', KEYS[1])
  return nil
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return ARGV[2]
