-- Brings a document into being, with its first event. Idempotent: what is there already stays as it is.
--
-- KEYS[1]  hash    ingest:{<id>}          the state; also the name of the channel
-- KEYS[2]  stream  ingest:{<id>}:events   the last events
-- KEYS[3]  hash    ingest:{<id>}:source   what was uploaded
--
-- ARGV[1]  history_events   how many events the stream keeps, about
-- ARGV[2]  ttl_seconds      how long all of it lives without another event
-- ARGV[3]  n                how many of the following belong to the source
-- ARGV[4 .. 3+n]            field, value, ... of the source
-- ARGV[4+n ..]              field, JSON, ... of the state, all but seq
--
-- Returns   {created, payload}: 1 or 0, and the state as it now stands
-- Publishes the first event (seq 1) when it created the document, else nothing
local history_events, ttl_seconds, n = ARGV[1], ARGV[2], tonumber(ARGV[3])

if redis.call('EXISTS', KEYS[1]) == 1 then
  return {0, compose(KEYS[1])}
end
redis.call('HSET', KEYS[3], unpack(ARGV, 4, 3 + n))
redis.call('EXPIRE', KEYS[3], ttl_seconds)
return {1, record(KEYS[1], KEYS[2], {unpack(ARGV, 4 + n)}, history_events, ttl_seconds)}
