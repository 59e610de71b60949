-- Gives the next part of a document to whoever asks, with a lease and a fencing token.
--
-- ARGV[1]  final            the final states, as ",A,B,"
-- ARGV[2]  lease_ms         how long the part is theirs unless they renew
-- ARGV[3]  most_running     how many parts of a document may be in hand at once
-- ARGV[4]  nonce            makes the token one that nobody has had
--
-- Returns   {code, ...}. code is one of
--             claimed            then part, token, attempt, how often it was lost, turn, spent_ms, characters, total pages, unit
--             nothing            no part waits
--             busy               as many are in hand as may be
--             unknown_ingestion, already_finished
-- Publishes nothing
local final, lease_ms, most_running, nonce = unpack(ARGV)

local status, attempt = standing()
if not status then
  return {'unknown_ingestion'}
end
if listed(final, status) then
  return {'already_finished'}
end
local part = redis.call('ZRANGE', WAITING, 0, 0)[1]
if not part then
  return {'nothing'}
end
if redis.call('ZCARD', RUNNING) >= tonumber(most_running) then
  return {'busy'}
end
local turn = redis.call('HINCRBY', WORK, 'turn', math.max(1, size(part)))
-- Not a count of claims: a Redis that comes back without its last second would count some of them twice.
local token = attempt .. '.' .. nonce
redis.call('ZREM', WAITING, part)
local now = now_ms()
redis.call('ZADD', RUNNING, now + lease_ms, part)
redis.call('HSET', WORK, 'token:' .. part, token, 'since_ms:' .. part, string.format('%.0f', now))
local known = redis.call('HMGET', WORK, 'lost:' .. part, 'spent_ms', 'characters', 'total', 'unit')
for i = 1, 4 do
  known[i] = tonumber(known[i] or 0)
end
return {'claimed', part, token, attempt, known[1], turn, known[2], known[3], known[4], known[5] or ''}
