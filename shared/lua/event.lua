-- The part that all the scripts share; shared/scripts.py puts it before each of them.

-- The order on the wire. shared/protocol.py has the same list; a test compares them.
local FIELDS = {
  'id', 'filename', 'status', 'progress', 'message', 'stage', 'eta_seconds', 'attempt', 'seq', 'at',
  'created_at', 'updated_at', 'finished_at', 'error', 'warnings',
}

-- The state as one JSON object. Each field of the hash holds JSON already, so this joins strings and no more.
local function compose(state_key)
  local values = redis.call('HMGET', state_key, unpack(FIELDS))
  for i, name in ipairs(FIELDS) do
    values[i] = '"' .. name .. '":' .. values[i]
  end
  return '{' .. table.concat(values, ',') .. '}'
end

-- Gives the event its number, keeps it, tells everyone. `changes` is a flat list: field, JSON, field, JSON, ...
-- Writes:    HSET state_key, XADD events_key (id <seq>-0), EXPIRE both.
-- Publishes: the whole state as JSON, on the channel named like state_key.
-- Returns:   what it published.
local function record(state_key, events_key, changes, history_events, ttl_seconds)
  redis.call('HSET', state_key, unpack(changes))
  local seq = redis.call('HINCRBY', state_key, 'seq', 1)
  local payload = compose(state_key)
  redis.call('XADD', events_key, 'MAXLEN', '~', history_events, string.format('%.0f-0', seq), 'state', payload)
  redis.call('PUBLISH', state_key, payload)
  redis.call('EXPIRE', state_key, ttl_seconds)
  redis.call('EXPIRE', events_key, ttl_seconds)
  return payload
end
