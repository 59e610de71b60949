-- Takes the record of a final document away: from now on it is gone for everyone. No reader, no retry and no upload of
-- the same bytes finds it while what is stored of it is being removed. What webhooks are to hear of it stays.
--
-- ARGV[1]  final    the final states, as ",A,B,"
-- ARGV[2]  latest   the latest time, in JSON, at which it may have become final; '' for any
--
-- Returns   'withdrawn', 'unknown_ingestion', or 'kept': it is not final, or became so later
-- Publishes an empty message when it is withdrawn, else nothing
local final, latest = unpack(ARGV)

local status = standing()
if not status then
  return 'unknown_ingestion'
end
if not listed(final, status) or (latest ~= '' and redis.call('HGET', STATE, 'finished_at') > latest) then
  return 'kept'
end
redis.call('DEL', STATE, EVENTS, SOURCE, WAITING, RUNNING, WORK, DONE)
redis.call('PUBLISH', STATE, '')
return 'withdrawn'
