-- What the scripts of the work share: who holds a part, and how far the pages are.

-- The order in which parts are claimed: ranges by their first page; the other parts are alone when they wait.
local function order(part)
  return tonumber(string.match(part, '^pages:(%d+)-')) or 0
end

-- How many pages a part covers, 0 for a step that covers none.
local function size(part)
  local first, last = string.match(part, '^pages:(%d+)-(%d+)$')
  return first and last - first + 1 or 0
end

-- 'held', or why the caller no longer holds the part.
local function holding(final, part, token)
  local status = standing()
  if not status then
    return 'unknown_ingestion'
  end
  if listed(final, status) then
    return 'already_finished'
  end
  if redis.call('HGET', WORK, 'token:' .. part) ~= token then
    return 'lost_lease'
  end
  return 'held'
end

-- Pages count as they are read, and stop to count when the part is given up. `high` is what viewers see: it only grows,
-- and never past the end, also when a range that the record lost is read and counted again.
local function reach(pages)
  local reached = redis.call('HINCRBY', WORK, 'reached', pages)
  local known = redis.call('HMGET', WORK, 'high', 'total')
  local high = tonumber(known[1] or 0)
  reached = math.min(reached, tonumber(known[2] or reached))
  if reached > high then
    redis.call('HSET', WORK, 'high', reached)
    return reached
  end
  return high
end

-- The part is nobody's now. Gives how many of its pages had been counted.
local function let_go(part)
  local counted = tonumber(redis.call('HGET', WORK, 'read:' .. part) or 0)
  redis.call('ZREM', RUNNING, part)
  redis.call('HDEL', WORK, 'token:' .. part, 'read:' .. part, 'since_ms:' .. part)
  return counted
end

local function shortest(number)
  return (string.gsub(string.format('%.1f', number), '%.0$', ''))
end

-- Pages have come: when will all be read, at the rate since the older of two marks? The marks move when pages come,
-- not with time: after 5 s, and as many pages as parts are in hand. So the rate is that of the last 5 to 10 s, or of
-- the last few pages where they are slow. Until the next page nothing is known of more than those in hand: `least_ms`
-- is the time of all others.
local function foresee(now, high, total)
  local work = redis.call('HMGET', WORK, 'mark_ms', 'mark_pages', 'older_ms', 'older_pages')
  local mark_ms, mark_pages, older_ms, older_pages = unpack(work)
  local in_hand = math.max(1, redis.call('ZCARD', RUNNING))
  local pages, elapsed_ms = high - older_pages, now - older_ms
  if pages > 0 and elapsed_ms > 0 then
    local page_ms = elapsed_ms / pages
    redis.call('HSET', WORK, 'due_ms', string.format('%.0f', now + (total - high) * page_ms),
      'least_ms', string.format('%.0f', math.max(0, total - high - in_hand) * page_ms))
  end
  if now - mark_ms >= 5000 and high - mark_pages >= in_hand then
    redis.call('HSET', WORK, 'older_ms', mark_ms, 'older_pages', mark_pages,
      'mark_ms', string.format('%.0f', now), 'mark_pages', high)
  end
end

-- Seconds until all pages are read: counts down from one page to the next; 'null' until there is a rate.
local function eta(now)
  local due_ms, least_ms = unpack(redis.call('HMGET', WORK, 'due_ms', 'least_ms'))
  return due_ms and shortest(math.max(due_ms - now, tonumber(least_ms)) / 1000) or 'null'
end

-- Reports how many pages are read: when all are, when the last report is an interval ago and there is something new,
-- and as a sign of life, with what is left of the time, when it is a beat ago.
local function report(at, first_percent, last_percent, interval_ms, beat_ms, history_events)
  local work = redis.call('HMGET', WORK, 'total', 'high', 'reported', 'reported_ms', 'verb', 'unit')
  local total, high, reported, reported_ms = tonumber(work[1]), tonumber(work[2]), tonumber(work[3]), tonumber(work[4])
  if not total or standing() ~= 'PARSING' then
    return
  end
  local now = now_ms()
  local due = high == total or now - reported_ms >= tonumber(interval_ms)
  if not ((high > reported and due) or now - reported_ms >= tonumber(beat_ms)) then
    return
  end
  if high > reported then
    foresee(now, high, total)
  end
  redis.call('HSET', WORK, 'reported', high, 'reported_ms', string.format('%.0f', now))
  record({
    'progress', shortest(first_percent + (last_percent - first_percent) * high / total),
    'message', string.format('"%s %d of %d %s"', work[5], high, total, work[6]),
    'stage', string.format('{"done":%d,"total":%d,"unit":"%s"}', high, total, work[6]),
    'eta_seconds', eta(now),
    'at', at, 'updated_at', at, 'alive_at', at,
  }, history_events)
end

-- A sign of life, when the last one is a beat ago: an event that says no more than that somebody is at work. Of a document
-- that is PENDING nobody has begun a part, though one may be in hand.
local function beat(at, beat_ms, history_events)
  local now = now_ms()
  if standing() == 'PENDING' or now - (redis.call('HGET', WORK, 'reported_ms') or 0) < tonumber(beat_ms) then
    return
  end
  redis.call('HSET', WORK, 'reported_ms', string.format('%.0f', now))
  record({'at', at, 'updated_at', at, 'alive_at', at}, history_events)
end
