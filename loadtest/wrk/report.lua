-- Prints what wrk measured as one line of JSON, and spreads the threads over several destinations when TARGETS names them.
-- It defines neither `request` nor `response`: with those wrk would call Lua for every exchange.

local targets = {}
for address, port in (os.getenv("TARGETS") or ""):gmatch("([%d.]+):(%d+)") do
  targets[#targets + 1] = wrk.lookup(address, port)[1]
end

local threads = 0

function setup(thread)
  if #targets > 0 then
    thread.addr = targets[threads % #targets + 1]
    threads = threads + 1
  end
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    'REPORT {"requests":%d,"bytes":%d,"duration_us":%d,"p50_us":%d,"p90_us":%d,"p99_us":%d,"p999_us":%d,"max_us":%d,'
      .. '"connect":%d,"read":%d,"write":%d,"status":%d,"timeout":%d}\n',
    summary.requests, summary.bytes, summary.duration,
    latency:percentile(50), latency:percentile(90), latency:percentile(99), latency:percentile(99.9), latency.max,
    errors.connect, errors.read, errors.write, errors.status, errors.timeout))
end
