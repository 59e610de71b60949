-- Takes the record of a final document away: from now on it is gone for everyone. No reader, no retry and no upload of
-- the same bytes finds it while what is stored of it is being removed. What webhooks are to hear of it stays.
--
-- ARGV[1]  final    the final states, as ",A,B,"
-- ARGV[2]  latest   the latest time, in JSON, since which it may be kept; '' for any
--
-- Returns   'withdrawn', 'unknown_ingestion', or 'kept': it is not final, or kept since later
-- Publishes an empty message when it is withdrawn, else nothing
local final, latest = unpack(ARGV)

-- Since when it is kept: its end, or when another upload got its result.
local function since()
  local finished_at, reused_at = redis.call('HGET', STATE, 'finished_at'), redis.call('HGET', WORK, 'reused_at')
  return reused_at and reused_at > finished_at and reused_at or finished_at
end

local status = standing()
if not status then
  return 'unknown_ingestion'
end
if not listed(final, status) or (latest ~= '' and since() > latest) then
  return 'kept'
end
redis.call('DEL', STATE, EVENTS, SOURCE, WAITING, RUNNING, WORK, DONE)
redis.call('PUBLISH', STATE, '')
return 'withdrawn'
