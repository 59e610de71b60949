-- The explicit retry: a document that FAILED or was CANCELLED starts over, as the next attempt. What was parsed stays.
--
-- ARGV[1]  sources          the states from which a retry may start, as ",A,B,"
-- ARGV[2]  history_events   how many events the stream keeps, about
-- ARGV[3]  turn             where it stands among the documents that wait
-- ARGV[4]  first_part       the part that everything begins with
-- ARGV[5]  sealed_password  of an encrypted file, or ''
-- ARGV[6 ..]                field, JSON, ... of the state as it begins, all but seq and attempt
--
-- Returns   {code, payload}. code is one of
--             recorded           payload is the event
--             unknown_ingestion  no such document; payload is ''
--             out_of_order       it is running, or COMPLETED; payload is the state
-- Publishes the event when recorded, else nothing
local sources, history_events, turn, first_part, sealed_password = unpack(ARGV, 1, 5)

local status = standing()
if not status then
  return {'unknown_ingestion', ''}
end
if not listed(sources, status) then
  return {'out_of_order', compose()}
end
for _, key in ipairs({STATE, EVENTS, SOURCE, DONE}) do
  redis.call('PERSIST', key)
end
redis.call('HINCRBY', STATE, 'attempt', 1)
redis.call('HSET', SOURCE, 'sealed_password', sealed_password)
redis.call('HSET', WORK, 'turn', turn)
redis.call('ZADD', WAITING, 0, first_part)
return {'recorded', record({unpack(ARGV, 6)}, history_events)}
