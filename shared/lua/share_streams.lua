-- Says how many streams of a tenant a process holds, unless with those of the others they would be too many.
--
-- KEYS[1]  hash       process -> "<streams> <until when this holds, in ms> <order>"
-- ARGV[1]  process
-- ARGV[2]  streams
-- ARGV[3]  lease_ms   for how long it holds
-- ARGV[4]  most       streams of all processes together, 0 for no bound
-- ARGV[5]  order      counts what the process says: what it said later and came earlier stays
--
-- Returns   1 when they may be held, 0 when they would be too many: nothing has changed then
-- Publishes nothing
local process, streams, lease_ms, most, order = ARGV[1], unpack(ARGV, 2, 5)

local now, all, is_late = now_ms(), tonumber(streams), false
local said = redis.call('HGETALL', KEYS[1])
for i = 1, #said, 2 do
  local count, ends, said_as = string.match(said[i + 1], '(%d+) (%d+) (%d+)')
  if said[i] == process then
    is_late = tonumber(said_as) > tonumber(order)
  elseif tonumber(ends) <= now then
    redis.call('HDEL', KEYS[1], said[i])  -- it died
  else
    all = all + tonumber(count)
  end
end
if tonumber(most) > 0 and all > tonumber(most) then
  return 0
end
if not is_late then
  redis.call('HSET', KEYS[1], process, string.format('%d %.0f %d', streams, now + lease_ms, order))
  redis.call('PEXPIRE', KEYS[1], lease_ms)
end
return 1
