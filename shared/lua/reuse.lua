-- Another upload gets the result of a document: its retention begins anew.
--
-- ARGV[1]  completed     the status of a document that has a result
-- ARGV[2]  at            the time, in JSON
-- ARGV[3]  retention_ms  how long its keys live from now on
--
-- Returns   the state; '' when there is no such document, or no result
-- Publishes nothing
local completed, at, retention_ms = unpack(ARGV)

local status = standing()
if status ~= completed then
  return ''
end
redis.call('HSET', WORK, 'reused_at', at)
for _, key in ipairs({STATE, EVENTS, SOURCE, WORK}) do
  redis.call('PEXPIRE', key, retention_ms)
end
return compose()
