-- Holds on to a part, and says how many of its pages are read so far.
--
-- ARGV[1]  final            the final states, as ",A,B,"
-- ARGV[2]  part
-- ARGV[3]  token            the fencing token that came with it
-- ARGV[4]  lease_ms         how long the part is theirs from now on
-- ARGV[5]  read             how many pages of the part are read; '' when there is nothing new
-- ARGV[6 ..]                at, first_percent, last_percent, interval_ms, beat_ms, history_events: see report()
--
-- Returns   'held', 'lost_lease', 'unknown_ingestion' or 'already_finished'
-- Publishes a report of the pages when one is due, in other stages a sign of life
local final, part, token, lease_ms, read = unpack(ARGV, 1, 5)

local code = holding(final, part, token)
if code ~= 'held' then
  return code
end
redis.call('ZADD', RUNNING, now_ms() + lease_ms, part)
if read ~= '' then
  reach(read - (redis.call('HGET', WORK, 'read:' .. part) or 0))
  redis.call('HSET', WORK, 'read:' .. part, read)
end
report(unpack(ARGV, 6))
beat(ARGV[6], unpack(ARGV, 10))
return 'held'
