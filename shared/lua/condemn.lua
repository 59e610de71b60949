-- A document whose retention is over is about to be removed: from now on no retry begins. So nothing is taken from
-- under an attempt, whatever was true when it was looked for.
--
-- ARGV[1]  final    the final states, as ",A,B,"
-- ARGV[2]  latest  the latest time, in JSON, at which it may have become final
--
-- Returns   1 when it may be removed, also when there is no such document, else 0
-- Publishes nothing
local final, latest = unpack(ARGV)

local status = standing()
if not status then
  return 1
end
if not listed(final, status) or redis.call('HGET', STATE, 'finished_at') > latest then
  return 0
end
redis.call('HSET', WORK, 'condemned', 1)
redis.call('PEXPIRE', WORK, math.max(1, redis.call('PTTL', STATE)))
return 1
