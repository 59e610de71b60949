-- Brings a document into being, with its first event and its first part. Idempotent: what is there stays as it is.
--
-- ARGV[1]  history_events   how many events the stream keeps, about
-- ARGV[2]  turn             where it stands among the documents that wait: pages served, see shared/worklist.py
-- ARGV[3]  first_part       the part that everything begins with
-- ARGV[4]  n                how many of the following belong to the source
-- ARGV[5 .. 4+n]            field, value, ... of the source
-- ARGV[5+n ..]              field, JSON, ... of the state, all but seq
--
-- Returns   {created, payload}: 1 or 0, and the state as it now stands
-- Publishes the first event (seq 1) when it created the document, else nothing
local history_events, turn, first_part, n = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])

if redis.call('EXISTS', STATE) == 1 then
  return {0, compose()}
end
redis.call('HSET', SOURCE, unpack(ARGV, 5, 4 + n))
redis.call('HSET', WORK, 'turn', turn)
redis.call('ZADD', WAITING, 0, first_part)
return {1, record({unpack(ARGV, 5 + n)}, history_events)}
