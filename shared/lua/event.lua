-- What all the scripts share; shared/scripts.py puts it before each of them.
--
-- KEYS, in every script, are all the keys of one document:
local STATE = KEYS[1]    -- hash    ingest:{<id>}           the state; also the name of the channel
local EVENTS = KEYS[2]   -- stream  ingest:{<id>}:events    the last events
local SOURCE = KEYS[3]   -- hash    ingest:{<id>}:source    what was uploaded
local WAITING = KEYS[4]  -- zset    ingest:{<id>}:waiting   parts that anyone may claim
local RUNNING = KEYS[5]  -- zset    ingest:{<id>}:running   claimed parts; score: when the lease ends, in ms
local WORK = KEYS[6]     -- hash    ingest:{<id>}:work      tokens, losses, and how far the pages are
local DONE = KEYS[7]     -- hash    ingest:{<id>}:done      ranges of pages that are parsed, and what was found
local OUTBOX = KEYS[8]   -- hash    ingest:{<id>}:outbox    what webhooks are to hear, until a courier takes it over

-- The order on the wire. shared/protocol.py has the same list; a test compares them.
local FIELDS = {
  'id', 'filename', 'status', 'progress', 'message', 'stage', 'eta_seconds', 'queue_position', 'attempt', 'seq', 'at',
  'created_at', 'updated_at', 'alive_at', 'finished_at', 'error', 'warnings',
}

-- The state as one JSON object. Each field of the hash holds JSON already, so this joins strings and no more.
local function compose()
  local values = redis.call('HMGET', STATE, unpack(FIELDS))
  for i, name in ipairs(FIELDS) do
    values[i] = '"' .. name .. '":' .. values[i]
  end
  return '{' .. table.concat(values, ',') .. '}'
end

-- Gives the event its number, keeps it, tells everyone. `changes` is a flat list: field, JSON, field, JSON, ...
-- Writes:    HSET the state, XADD the event (id <seq>-0).
-- Publishes: the whole state as JSON, on the channel named like the state's key.
-- Returns:   what it published.
local function record(changes, history_events)
  redis.call('HSET', STATE, unpack(changes))
  local seq = redis.call('HINCRBY', STATE, 'seq', 1)
  local payload = compose()
  redis.call('XADD', EVENTS, 'MAXLEN', '~', history_events, string.format('%.0f-0', seq), 'state', payload)
  redis.call('PUBLISH', STATE, payload)
  return payload
end

-- Whether a list ",A,B," names a status.
local function listed(list, status)
  return string.find(list, ',' .. status .. ',', 1, true) ~= nil
end

-- The status and the attempt; nil when there is no such document.
local function standing()
  local values = redis.call('HMGET', STATE, 'status', 'attempt')
  return values[1] and string.sub(values[1], 2, -2), values[2]
end

-- The server's clock in milliseconds: leases must not depend on whose clock is right.
local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
