-- Posts the given bodies in turn and prints the figures as one line of JSON.
-- Usage: wrk … --script post.lua URL -- CONTENT_TYPE BODY_FILE...
local requests, turn = {}, 0

function init(arguments)
  local headers = { ["Content-Type"] = arguments[1] }
  for index = 2, #arguments do
    local file = assert(io.open(arguments[index], "rb"))
    requests[index - 1] = wrk.format("POST", nil, headers, file:read("*a"))
    file:close()
  end
end

function request()
  turn = turn % #requests + 1
  return requests[turn]
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '{"requests": %d, "duration_us": %d, "p50_us": %d, "p99_us": %d, '
      .. '"connect": %d, "read": %d, "write": %d, "timeout": %d, "status": %d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    errors.connect, errors.read, errors.write, errors.timeout, errors.status))
end
