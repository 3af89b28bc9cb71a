-- Enables the kill switch; one that is on already keeps its text. Loaded with allow-oom, so that a
-- full Redis can still be told to sell nothing.
--
-- KEYS[1]  seckill:kill-switch  string: what is said of it while it is on; also the channel that
--                               tells when it has been set
-- ARGV[1]  "Unix ms reason", if it is off
--
-- Reply: array of one: its text now.

local switch_key = KEYS[1]
local text = ARGV[1]

local call = redis.call
text = call('GET', switch_key) or text
-- Also if nothing changes: replicas are asked about the last write of this connection.
call('SET', switch_key, text)
call('PUBLISH', switch_key, '')
return {text}
