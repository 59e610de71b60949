-- Ends the work on a part: some of it is done, the rest waits again, and when nothing is left the next step begins.
-- So it finishes a part, cuts one in pieces, hands one back, and is the fan-in: whoever settles the last range finds
-- nothing waiting and nothing running, and only one can be the last.
--
-- ARGV[1]  final            the final states, as ",A,B,"
-- ARGV[2]  part
-- ARGV[3]  token            the fencing token that came with it
-- ARGV[4]  spent_ms         how long it took
-- ARGV[5]  characters       how much text it gave; from the part that plans: how much there is of the pages kept
-- ARGV[6]  next_part        what waits when all parts are done, or ''
-- ARGV[7 .. 12]             at, first_percent, last_percent, interval_ms, beat_ms, history_events: see report()
-- ARGV[13]  total           '' or, from the part that plans: how many pages there are,
-- ARGV[14]  kept            how many of them are parsed already,
-- ARGV[15]  verb            and the words for them, "Parsed" and "pages"
-- ARGV[16]  unit
-- ARGV[17]  n               how many names and values follow for what is done
-- ARGV[18 .. 17+n]          part, JSON, ...; '' for one that is done no longer
-- ARGV[18+n ..]             the names of the parts that wait from now on
--
-- Returns   {code, waiting, turn}: 'settled', 'lost_lease', 'unknown_ingestion' or 'already_finished'; how
--           many parts wait; the document's turn
-- Publishes a report of the pages when one is due
local final, part, token, spent_ms, characters, next_part = unpack(ARGV, 1, 6)
local total, kept, verb, unit, n = unpack(ARGV, 13, 17)

local code = holding(final, part, token)
if code ~= 'held' then
  return {code, 0, 0}
end
local counted = let_go(part)
redis.call('HINCRBY', WORK, 'spent_ms', spent_ms)
redis.call('HINCRBY', WORK, 'characters', characters)
if total ~= '' then
  local now = string.format('%.0f', now_ms())
  redis.call('HSET', WORK, 'characters', characters) -- of what is kept; planned again it is not counted twice
  redis.call('HSET', WORK, 'total', total, 'verb', verb, 'unit', unit, 'reached', kept, 'high', kept,
    'reported', -1, 'reported_ms', 0, 'mark_ms', now, 'mark_pages', kept, 'older_ms', now, 'older_pages', kept)
  redis.call('HDEL', WORK, 'due_ms', 'least_ms')
end
local pages = 0
for i = 18, 17 + n, 2 do
  if ARGV[i + 1] == '' then
    redis.call('HDEL', DONE, ARGV[i])
  else
    redis.call('HSET', DONE, ARGV[i], ARGV[i + 1])
    pages = pages + size(ARGV[i])
  end
end
local again = false
for i = 18 + n, #ARGV do
  redis.call('ZADD', WAITING, order(ARGV[i]), ARGV[i])
  again = again or ARGV[i] == part
end
if not again then
  redis.call('HDEL', WORK, 'lost:' .. part)
end
if next_part ~= '' and redis.call('ZCARD', WAITING) == 0 and redis.call('ZCARD', RUNNING) == 0 then
  redis.call('ZADD', WAITING, 0, next_part)
end
if size(part) > 0 then
  redis.call('HINCRBY', WORK, 'turn', pages - size(part)) -- what was not done was not served
end
reach(pages - counted)
report(unpack(ARGV, 7, 12))
return {'settled', redis.call('ZCARD', WAITING), tonumber(redis.call('HGET', WORK, 'turn'))}
