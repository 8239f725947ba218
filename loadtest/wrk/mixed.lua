-- What a site is asked for, in a fixed order of 100 requests: mostly small answers, few large ones, some forms and uploads.
-- The shares are a guess at an ordinary web application, not a recording of one. Unlike the other scripts it defines
-- `request`, so wrk calls Lua for each of them: that costs the client, and the same for every proxy.

dofile(debug.getinfo(1, "S").source:match("^@(.*/)") .. "report.lua")

local mix = {
  { 50, "GET", "/" },
  { 30, "GET", "/bytes/4096" },
  { 12, "GET", "/bytes/65536" },
  { 1, "GET", "/bytes/1048576" },
  { 5, "POST", "/form", 4096 },
  { 2, "POST", "/upload", 65536 },
}

local requests = {}
local at = 0

function init(args)
  local headers = { ["Content-Type"] = "application/octet-stream" }
  for _, kind in ipairs(mix) do
    local share, method, path, body = kind[1], kind[2], kind[3], kind[4]
    local text = wrk.format(method, path, body and headers or nil, body and string.rep("0123456789abcdef", body / 16))
    -- 37 and 100 have no common factor, so each place of the hundred is taken once, and the kinds are spread over it.
    for _ = 1, share do
      requests[at * 37 % 100 + 1] = text
      at = at + 1
    end
  end
  at = 0
end

function request()
  at = at % #requests + 1
  return requests[at]
end
