-- The one write: everything that moves a document goes through here.
--
-- KEYS[1]  hash    ingest:{<id>}          the state; also the name of the channel
-- KEYS[2]  stream  ingest:{<id>}:events   the last events
-- KEYS[3]  hash    ingest:{<id>}:source   what was uploaded; only its expiry moves
--
-- ARGV[1]  attempt          the writer's attempt: its fencing token
-- ARGV[2]  sources          the states from which this event may come, as ",A,B,"
-- ARGV[3]  history_events   how many events the stream keeps, about
-- ARGV[4]  ttl_seconds      how long all of it lives without another event
-- ARGV[5]  final            the final states, as ",A,B,"
-- ARGV[6 ..]                field, JSON, ... of what changes
--
-- Returns   {code, payload}. code is one of
--             recorded           payload is the event
--             behind             the same stage was reported further already; nothing is written, payload is the state
--             unknown_ingestion  no such document; payload is ''
--             stale_attempt      another attempt has begun; payload is the state
--             already_finished   the document is in a final state; payload is the state
--             out_of_order       no way leads from the present state to the reported one; payload is the state
-- Publishes the event when recorded, else nothing
local attempt, sources, history_events, ttl_seconds, final = unpack(ARGV, 1, 5)
local changes = {unpack(ARGV, 6)}

local function listed(list, status)
  return string.find(list, ',' .. status .. ',', 1, true) ~= nil
end

local now = redis.call('HMGET', KEYS[1], 'attempt', 'status', 'progress')
if not now[1] then
  return {'unknown_ingestion', ''}
end
local status = string.sub(now[2], 2, -2)
if now[1] ~= attempt then
  return {'stale_attempt', compose(KEYS[1])}
end
if listed(final, status) then
  return {'already_finished', compose(KEYS[1])}
end
if not listed(sources, status) then
  return {'out_of_order', compose(KEYS[1])}
end
for i = 1, #changes, 2 do
  if changes[i] == 'progress' and tonumber(changes[i + 1]) < tonumber(now[3]) then
    return {'behind', compose(KEYS[1])}
  end
end
redis.call('EXPIRE', KEYS[3], ttl_seconds)
return {'recorded', record(KEYS[1], KEYS[2], changes, history_events, ttl_seconds)}
