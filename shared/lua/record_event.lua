-- The one write: every change of a document's status, and every report of a stage, goes through here.
--
-- ARGV[1]  attempt          the writer's attempt
-- ARGV[2]  part             the part that the writer holds, or '' for those who hold none
-- ARGV[3]  token            the fencing token that came with the part
-- ARGV[4]  sources          the states from which this event may come, as ",A,B,"
-- ARGV[5]  history_events   how many events the stream keeps, about
-- ARGV[6]  retention_ms     how long a document's keys live after its final event
-- ARGV[7]  final            the final states, as ",A,B,"
-- ARGV[8]  retryable        those of them after which what was parsed is kept for the next attempt
-- ARGV[9]  outbox_ms        how long the outbox lives when no courier comes
-- ARGV[10 ..]               field, JSON, ... of what changes
--
-- Returns   {code, payload, posted}. posted is 1 when something was put into the outbox, else 0; code is one of
--             recorded           payload is the event
--             behind             the same stage was reported further already; nothing is written, payload is the state
--             unknown_ingestion  no such document; payload is ''
--             stale_attempt      another attempt has begun; payload is the state
--             lost_lease         the part has been given to another; payload is the state
--             already_finished   the document is in a final state; payload is the state
--             out_of_order       no way leads from the present state to the reported one; payload is the state
-- Publishes the event when recorded, else nothing
local attempt, part, token, sources, history_events, retention_ms, final, retryable, outbox_ms = unpack(ARGV, 1, 9)
local changes = {unpack(ARGV, 10)}

-- How much there is of the document, as far as that is known: its pages from the plan, its chunks once they are loaded.
local function counts(stage)
  local found = {}
  local total, unit = unpack(redis.call('HMGET', WORK, 'total', 'unit'))
  if total then
    table.insert(found, string.format('"%s":%s', unit, total))
  end
  local chunks = string.match(stage, '"total":(%d+),"unit":"chunks"')
  if chunks then
    table.insert(found, '"chunks":' .. chunks)
  end
  return '{' .. table.concat(found, ',') .. '}'
end

-- What webhooks are to hear of a change of status: thin, and never the text.
local function post(known)
  local names = {'id', 'filename', 'status', 'attempt', 'seq', 'at', 'error'}
  local values = redis.call('HMGET', STATE, unpack(names))
  local seq = values[5]
  for i, name in ipairs(names) do
    values[i] = '"' .. name .. '":' .. values[i]
  end
  for i, value in ipairs(redis.call('HMGET', SOURCE, 'tenant', 'webhook')) do
    table.insert(values, '"' .. ({'tenant', 'webhook'})[i] .. '":' .. cjson.encode(value or ''))
  end
  table.insert(values, '"counts":' .. known)
  redis.call('HSET', OUTBOX, seq, '{' .. table.concat(values, ',') .. '}')
  redis.call('PEXPIRE', OUTBOX, outbox_ms)
end

local status, present_attempt = standing()
if not status then
  return {'unknown_ingestion', '', 0}
end
if present_attempt ~= attempt then
  return {'stale_attempt', compose(), 0}
end
if listed(final, status) then
  return {'already_finished', compose(), 0}
end
if part ~= '' and redis.call('HGET', WORK, 'token:' .. part) ~= token then
  return {'lost_lease', compose(), 0}
end
if not listed(sources, status) then
  return {'out_of_order', compose(), 0}
end
local progress = tonumber(redis.call('HGET', STATE, 'progress'))
local next_status = status
for i = 1, #changes, 2 do
  if changes[i] == 'progress' and tonumber(changes[i + 1]) < progress then
    return {'behind', compose(), 0}
  end
  if changes[i] == 'status' then
    next_status = string.sub(changes[i + 1], 2, -2)
  end
end
local known = counts(redis.call('HGET', STATE, 'stage'))
local payload = record(changes, history_events)
local posted = next_status ~= status and 1 or 0
if posted == 1 then
  post(known)
end
if listed(final, next_status) then
  redis.call('DEL', WAITING, RUNNING, WORK)
  redis.call('HSET', SOURCE, 'sealed_password', '')
  if not listed(retryable, next_status) then
    redis.call('DEL', DONE)
  end
  for _, key in ipairs({STATE, EVENTS, SOURCE, DONE}) do
    redis.call('PEXPIRE', key, retention_ms)
  end
end
return {'recorded', payload, posted}
