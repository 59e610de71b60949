-- Gives a document a seat among those of its tenant that are on their way. Idempotent.
--
-- KEYS[1]  zset       the documents that have one; score: since when, in ms
-- ARGV[1]  document
-- ARGV[2]  now_ms
-- ARGV[3]  most       how many there are, 0 for no bound
--
-- Returns   1 when it has one, 0 when there is none left
-- Publishes nothing
local document, now, most = ARGV[1], ARGV[2], tonumber(ARGV[3])

if redis.call('ZSCORE', KEYS[1], document) then
  return 1
end
if most > 0 and redis.call('ZCARD', KEYS[1]) >= most then
  return 0
end
return redis.call('ZADD', KEYS[1], now, document)
