-- Requests for wrk, told by the environment: LOAD_TOKENS is a file with LOAD_COUNT tokens of one length, one a
-- line; LOAD_ORDER is "cycle" or "zipf", LOAD_START the first; LOAD_POLICIES asks at /auth/p0000 and so on;
-- LOAD_DELAY are milliseconds before each request. Without them wrk sends one request, made once.
-- The result goes to LOAD_RESULT, as JSON.

local ffi = require("ffi")
local count = tonumber(os.getenv("LOAD_COUNT") or "1")
local policies = tonumber(os.getenv("LOAD_POLICIES") or "0")
local pause = tonumber(os.getenv("LOAD_DELAY") or "0")
local file = os.getenv("LOAD_TOKENS")

if pause > 0 then
  function delay() return pause end
end

local function order()
  local start = tonumber(os.getenv("LOAD_START") or "0") % count
  if os.getenv("LOAD_ORDER") ~= "zipf" then
    return start, count, nil
  end
  -- Zipf's law with exponent 1 by its inverse, good enough from the third on: rank = n^u.
  local length, ranks = 262144, ffi.new("uint32_t[?]", 262144)
  math.randomseed(tonumber(os.getenv("LOAD_SEED") or "1"))
  for place = 0, length - 1 do
    ranks[place] = math.min(count - 1, math.floor(count ^ math.random() - 1))
  end
  return start % length, length, ranks
end

if file then
  function init(_)
    ffi.cdef [[
      int open(const char *path, int flags);
      void *mmap(void *at, size_t length, int protection, int flags, int fd, long offset);
    ]]
    local input = assert(io.open(file, "rb"))
    local line = #input:read("*l") + 1
    input:close()
    local memory = ffi.C.mmap(nil, count * line, 1, 1, ffi.C.open(file, 0), 0) -- PROT_READ, MAP_SHARED
    assert(ffi.cast("intptr_t", memory) ~= -1, "cannot map the tokens")
    local tokens = ffi.cast("const char *", memory)
    local before = "GET " .. wrk.path .. " HTTP/1.1\r\nHost: " .. wrk.headers["Host"] .. "\r\nAuthorization: Bearer "
    local after = "\r\n\r\n"
    local size = #before + line - 1 + #after
    local request_bytes = ffi.new("char[?]", size)
    ffi.copy(request_bytes, before, #before)
    ffi.copy(request_bytes + #before + line - 1, after, #after)
    local hole = request_bytes + #before
    local place, length, ranks = order()
    place = place - 1
    function request()
      place = place + 1
      if place == length then place = 0 end
      local number = ranks and ranks[place] or place
      ffi.copy(hole, tokens + number * line, line - 1)
      return ffi.string(request_bytes, size)
    end
  end
elseif policies > 0 then
  function init(_)
    local requests, place = {}, 0
    for number = 1, policies do
      requests[number] = wrk.format("GET", string.format("/auth/p%04d", number - 1))
    end
    function request()
      place = place % policies + 1
      return requests[place]
    end
  end
end

function done(summary, latency, _)
  local errors = summary.errors
  local out = assert(io.open(os.getenv("LOAD_RESULT"), "w"))
  out:write(string.format(
    '{"requests":%d,"seconds":%f,"refused":%d,"failed":%d,"p50":%f,"p99":%f,"p999":%f}\n', summary.requests,
    summary.duration / 1e6, errors.status, errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, latency:percentile(99.9) / 1e3))
  out:close()
end
