-- The arithmetic of ring.rs and limits.rs, step by step, on what all gateways share: one call looks at all windows of a key
-- and takes from all of them, or from none.
--
-- KEYS  1: what the key has taken, a hash: of each window its newest slot (n), their sum (s), and the counts, in a ring
--       2: its requests under way, a sorted set: each place by the end of its lease
--       3: the pass that the request brings, if it does
-- ARGV  1: the time in milliseconds since 1970; empty for the server's own
--       2: what is to be done, and behind it of what; an empty text stands for none

local WINDOWS = { 'rpm', 'rpd', 'tpm', 'tpd' }
local REQUESTS = 2 -- the first so many windows count requests
local COUNT_MAX = 4294967295 -- of a slot, as in Rust

local taken, running, brought = KEYS[1], KEYS[2], KEYS[3]

local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end

-- A window whose slots have another length is another window: a day of UTC counts nothing of a rolling one.
local function opened(window, slot, slots)
  local prefix = WINDOWS[window] .. ':' .. slot .. ':'
  local kept = redis.call('HMGET', taken, prefix .. 'n', prefix .. 's')
  local sum = tonumber(kept[2]) or 0
  return {
    prefix = prefix, slot = tonumber(slot), slots = tonumber(slots), length = slots + 1,
    newest = tonumber(kept[1]) or 0, sum = sum, was = sum,
  }
end

local longest = 0

local function saved(ring)
  if ring.sum > 0 or ring.was > 0 then
    redis.call('HSET', taken, ring.prefix .. 'n', ring.newest, ring.prefix .. 's', ring.sum)
    longest = math.max(longest, ring.length * ring.slot)
  end
end

-- Idle keys vanish, when nothing can be counted in them any more.
local function expires()
  if longest > 0 and redis.call('PTTL', taken) < longest then
    redis.call('PEXPIRE', taken, 2 * longest)
  end
end

local function field(ring, slot)
  return ring.prefix .. slot % ring.length
end

local function count(ring, slot)
  return tonumber(redis.call('HGET', taken, field(ring, slot))) or 0
end

local function counts(ring, first, last)
  local fields = {}
  for slot = first, last do fields[#fields + 1] = field(ring, slot) end
  return redis.call('HMGET', taken, unpack(fields))
end

-- Ring::used
local function used(ring)
  local at = math.floor(now / ring.slot)
  local passed = math.min(math.max(at - ring.newest, 0), ring.length)
  if ring.sum > 0 and passed > 0 then
    for index, gone in ipairs(counts(ring, ring.newest + 1, ring.newest + passed)) do
      if gone then
        redis.call('HDEL', taken, field(ring, ring.newest + index))
        ring.sum = ring.sum - gone
      end
    end
  end
  ring.newest = math.max(ring.newest, at)
  return ring.sum
end

-- Ring::take
local function take(ring, amount)
  local before = count(ring, ring.newest)
  local added = math.min(amount, COUNT_MAX - before)
  if added > 0 then
    redis.call('HSET', taken, field(ring, ring.newest), before + added)
    ring.sum = ring.sum + added
  end
  return ring.newest
end

-- Ring::give_back
local function give_back(ring, slot, amount)
  if slot + ring.slots < ring.newest or slot > ring.newest then return 0 end
  local there = count(ring, slot)
  local given = math.min(amount, there)
  if given > 0 then
    if given < there then
      redis.call('HSET', taken, field(ring, slot), there - given)
    else
      redis.call('HDEL', taken, field(ring, slot))
    end
    ring.sum = ring.sum - given
  end
  return given
end

-- Ring::frees
local function frees(ring, amount)
  if ring.sum == 0 then return 0 end
  local freed, oldest = 0, math.max(ring.newest - ring.slots, 0)
  for index, there in ipairs(counts(ring, oldest, ring.newest)) do
    freed = freed + (tonumber(there) or 0)
    if freed >= math.min(amount, ring.sum) then
      return math.max((oldest + index + ring.slots) * ring.slot - now, 0)
    end
  end
  return 0
end

-- Ring::resets: from the newest slot on, which nearly always is the one.
local function resets(ring)
  if ring.sum == 0 then return 0 end
  for slot = ring.newest, math.max(ring.newest - ring.slots, 0), -1 do
    if count(ring, slot) > 0 then
      return math.max((slot + ring.length) * ring.slot - now, 0)
    end
  end
  return 0
end

-- ARGV 3: requests at a time  4: the place that is wanted  5: its lease  6: the wait where all are taken
--      7: when the pass was given out  8: when it expires  9: the longest that any is good
--      10…: of each window what is allowed, what is wanted, the length of a slot, and how many
-- Gives, as whole numbers: what is in the way (0: nothing; 5: the places), used, wanted, the wait; the time; of each window
-- the slot that was taken in (-1: none), what is used, and until all is there again.
local function decide()
  local concurrent, place, lease = tonumber(ARGV[3]), ARGV[4], ARGV[5]
  local moment = tonumber(ARGV[7])
  if moment then
    -- One that was used, at whatever gateway, or is good no more leaves a request as any other.
    local left = ARGV[8] - now
    local good = left > 0 and left <= tonumber(ARGV[9])
    if not (good and redis.call('SET', brought, '', 'NX', 'PX', left)) then moment = nil end
  end
  local rings = {}
  for window = 1, #WINDOWS do
    local at = 6 + 4 * window
    local allowed, wanted = tonumber(ARGV[at]), tonumber(ARGV[at + 1])
    if allowed then
      local ring = opened(window, ARGV[at + 2], ARGV[at + 3])
      ring.allowed, ring.wanted = allowed, wanted
      if moment and window <= REQUESTS then
        local here = give_back(ring, math.floor(moment / ring.slot), 1)
        if here == 0 then ring.wanted = nil end
      end
      rings[window] = ring
    end
  end
  local way = { 0, 0, 0, -1 }
  if concurrent then
    redis.call('ZREMRANGEBYSCORE', running, '-inf', now)
    local under_way = redis.call('ZCARD', running)
    if under_way >= concurrent then way = { #WINDOWS + 1, under_way, 1, tonumber(ARGV[6]) } end
  end
  for window = 1, #WINDOWS do
    local ring = rings[window]
    if ring and ring.wanted then
      local over = used(ring) + ring.wanted - ring.allowed
      if over > 0 then
        local wait = frees(ring, over)
        if wait >= way[4] then way = { window, ring.sum, ring.wanted, wait } end
      end
    end
  end
  if way[1] == 0 and place ~= '' then
    redis.call('ZADD', running, now + lease, place)
    redis.call('PEXPIRE', running, lease)
  end
  way[5] = now
  for window = 1, #WINDOWS do
    local ring, slot = rings[window], -1
    if ring then
      if way[1] == 0 and ring.wanted then slot = take(ring, ring.wanted) end
      used(ring)
    end
    way[#way + 1] = slot
    way[#way + 1] = ring and ring.sum or 0
    way[#way + 1] = ring and resets(ring) or 0
    if ring then saved(ring) end
  end
  return way
end

-- ARGV 3: the place that is free  4…: of each window its number, the length of a slot, and how many; the slot that was taken
-- in, what is given back of it, and what is taken now
local function change()
  if ARGV[3] ~= '' then redis.call('ZREM', running, ARGV[3]) end
  for at = 4, #ARGV, 6 do
    local ring = opened(tonumber(ARGV[at]), ARGV[at + 1], ARGV[at + 2])
    local back, more = tonumber(ARGV[at + 4]), tonumber(ARGV[at + 5])
    give_back(ring, tonumber(ARGV[at + 3]), back)
    if more > 0 then
      used(ring)
      take(ring, more)
    end
    saved(ring)
  end
  return {}
end

-- ARGV 3: the lease  4…: places that are still taken
local function renew()
  local lease = ARGV[3]
  for at = 4, #ARGV do redis.call('ZADD', running, now + lease, ARGV[at]) end
  redis.call('PEXPIRE', running, lease)
  return {}
end

local answer
if ARGV[2] == 'decide' then
  answer = decide()
elseif ARGV[2] == 'change' then
  answer = change()
else
  answer = renew()
end
expires()
return answer
