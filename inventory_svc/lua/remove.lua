-- Takes entries off the outbox of one sku: acknowledges and deletes them, and counts what is left.
-- Running it twice is the same as once. Loaded with allow-oom, so that a full Redis gets rid
-- of what Kafka has.
--
-- KEYS[1]  seckill:outbox:{sku}   stream: the outbox
-- KEYS[2]  seckill:backlog:{sku}  hash: what is in KEYS[1]; not given for an outbox that is not
--                                 counted
-- ARGV[1]  consumer group of the relays
-- ARGV[2...] two for each entry, at most 1,000 entries: its id, and how many reservations are in it
--
-- Reply: integer, how many of the entries were still there.
--
-- With fewer entries in the stream than were counted, others have removed some, and how many
-- reservations those had is not known: what is left is counted again. None given: nothing but that.

local outbox_key, backlog_key = KEYS[1], KEYS[2]
local group = ARGV[1]
local FIRST, WIDTH, PAGE = 2, 2, 100

local call = redis.call
local counted = backlog_key and call('HMGET', backlog_key, 'entries', 'reservations')
local entries, reservations = 0, 0
if counted then
  entries, reservations = tonumber(counted[1] or 0), tonumber(counted[2] or 0)
end
local before = call('XLEN', outbox_key)

local removed = 0
for at = FIRST, #ARGV, WIDTH do
  call('XACK', outbox_key, group, ARGV[at])
  if call('XDEL', outbox_key, ARGV[at]) == 1 then
    removed = removed + 1
    reservations = reservations - ARGV[at + 1]
  end
end
if not backlog_key then
  return removed
end

local left = before - removed
if before < entries then
  entries, reservations = 0, 0
  local start = '-'
  repeat
    local page = call('XRANGE', outbox_key, start, '+', 'COUNT', PAGE)
    for n = 1, #page do
      local fields, lines = page[n][2], 1
      if fields[1] == 'b' then
        local _
        _, lines = string.gsub(fields[2], '\n', '')
      end
      entries, reservations = entries + 1, reservations + math.max(1, lines)
      start = '(' .. page[n][1]
    end
  until #page < PAGE
else
  -- Entries that were added without being counted have one reservation each.
  reservations = reservations + before - entries
  entries = left
end
if entries == 0 then
  call('DEL', backlog_key)
else
  call('HSET', backlog_key, 'entries', entries, 'reservations', math.max(entries, reservations))
end
return removed
