-- The explicit retry: a document that FAILED or was CANCELLED starts over, as the next attempt.
--
-- KEYS[1]  hash    ingest:{<id>}          the state; also the name of the channel
-- KEYS[2]  stream  ingest:{<id>}:events   the last events
-- KEYS[3]  hash    ingest:{<id>}:source   what was uploaded; only its expiry moves
--
-- ARGV[1]  sources          the states from which a retry may start, as ",A,B,"
-- ARGV[2]  history_events   how many events the stream keeps, about
-- ARGV[3]  ttl_seconds      how long all of it lives without another event
-- ARGV[4 ..]                field, JSON, ... of the state as it begins, all but seq and attempt
--
-- Returns   {code, payload}. code is one of
--             recorded           payload is the event
--             unknown_ingestion  no such document; payload is ''
--             out_of_order       it is running, or COMPLETED; payload is the state
-- Publishes the event when recorded, else nothing
local sources, history_events, ttl_seconds = unpack(ARGV, 1, 3)
local changes = {unpack(ARGV, 4)}

local status = redis.call('HGET', KEYS[1], 'status')
if not status then
  return {'unknown_ingestion', ''}
end
if not string.find(sources, ',' .. string.sub(status, 2, -2) .. ',', 1, true) then
  return {'out_of_order', compose(KEYS[1])}
end
redis.call('HINCRBY', KEYS[1], 'attempt', 1)
redis.call('EXPIRE', KEYS[3], ttl_seconds)
return {'recorded', record(KEYS[1], KEYS[2], changes, history_events, ttl_seconds)}
