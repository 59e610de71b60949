-- Takes back the parts whose leases have ended: whoever held them is gone. They wait again, and viewers are told.
--
-- ARGV[1]  final            the final states, as ",A,B,"
-- ARGV[2]  first_part       what waits when a document is found for which nothing waits and nothing runs
-- ARGV[3]  at               the time of the event, in JSON
-- ARGV[4]  history_events   how many events the stream keeps, about
-- ARGV[5]  lease_ms         how long a lease is: so long before its end was the last sign of life
--
-- Returns   {code, lost, waiting, running, turn, pending}: 'running', 'unknown_ingestion' or 'already_finished'; the
--           names of the parts that were taken back; how many wait and run now; the document's turn; 1 when nobody has
--           begun it
-- Publishes the event "Worker lost, ..." when there was one
local final, first_part, at, history_events, lease_ms = unpack(ARGV)

-- The document pays for what was done in vain as well: how long, until the last sign of life.
local function spent_ms(part)
  local since = tonumber(redis.call('HGET', WORK, 'since_ms:' .. part))
  return since and math.max(0, redis.call('ZSCORE', RUNNING, part) - lease_ms - since) or 0
end

local status = standing()
if not status then
  return {'unknown_ingestion', {}, 0, 0, 0, 0}
end
if listed(final, status) then
  return {'already_finished', {}, 0, 0, 0, 0}
end
local lost = redis.call('ZRANGEBYSCORE', RUNNING, '-inf', now_ms())
local resume
for _, part in ipairs(lost) do
  redis.call('HINCRBY', WORK, 'spent_ms', string.format('%.0f', spent_ms(part)))
  reach(0 - let_go(part)) -- "-0", which the minus alone makes of 0, is no integer to Redis 7.0
  redis.call('ZADD', WAITING, order(part), part)
  redis.call('HINCRBY', WORK, 'lost:' .. part, 1)
  redis.call('HINCRBY', WORK, 'turn', -math.max(1, size(part))) -- it was not served after all
  local page = order(part)
  if page > 0 and (not resume or page < resume) then
    resume = page
  end
end
if #lost > 0 then
  local unit = string.gsub(redis.call('HGET', WORK, 'unit') or '', 's$', '')
  local how = resume and string.format('resuming at %s %d', unit, resume) or 'starting this step again'
  record({'message', '"Worker lost, ' .. how .. '"', 'at', at, 'updated_at', at}, history_events)
end
if redis.call('ZCARD', WAITING) == 0 and redis.call('ZCARD', RUNNING) == 0 then
  redis.call('ZADD', WAITING, 0, first_part)
end
return {
  'running', lost, redis.call('ZCARD', WAITING), redis.call('ZCARD', RUNNING),
  tonumber(redis.call('HGET', WORK, 'turn') or 0), status == 'PENDING' and 1 or 0,
}
