-- Wireshark dissector for jamjam packets. Installation and examples: README.md. Protocol: ../protocol.md.

local jamjam = Proto("jamjam", "jamjam network music")

local HEADER_LEN = 12
local STUN_HEADER_LEN = 20
local STUN_COOKIE = 0x2112a442
local STUN_LOSS_REPORT = 0xc0ec
local AUDIO, FEC, CONTROL, KEEPALIVE, LATENCY_PING, LATENCY_PONG, LATENCY_INFO = 1, 2, 3, 4, 5, 6, 7
local TYPES = {
  [AUDIO] = "AUDIO",
  [FEC] = "FEC",
  [CONTROL] = "CONTROL",
  [KEEPALIVE] = "KEEPALIVE",
  [LATENCY_PING] = "LATENCY_PING",
  [LATENCY_PONG] = "LATENCY_PONG",
  [LATENCY_INFO] = "LATENCY_INFO",
}
local PROBE_REQUEST, PROBE_REPLY = 1, 2
-- Two packets are compared by header, length and this many bytes of payload, as in the echo server.
local COMPARED_PAYLOAD_LEN = 64
-- A later response belongs to an earlier run that used the same ports.
local MAX_RESPONSE_TIME = 60
-- Maximum number of packets that Linux combines.
local MAX_COMBINED = 128

local f = {
  version = ProtoField.uint8("jamjam.version", "Version"),
  type = ProtoField.uint8("jamjam.type", "Type", base.DEC, TYPES),
  sequence = ProtoField.uint32("jamjam.sequence", "Sequence"),
  timestamp = ProtoField.uint32("jamjam.timestamp", "Timestamp"),
  flags = ProtoField.uint16("jamjam.flags", "Flags", base.HEX),
  encrypted = ProtoField.bool("jamjam.flags.encrypted", "Encrypted", 16, nil, 0x0001),
  has_fec = ProtoField.bool("jamjam.flags.has_fec", "Has FEC", 16, nil, 0x0002),
  unknown_flags = ProtoField.bool("jamjam.flags.unknown", "Unknown bits", 16, nil, 0xfffc),
  payload = ProtoField.bytes("jamjam.payload", "Payload"),
  payload_len = ProtoField.uint32("jamjam.payload_len", "Payload length"),
  samples = ProtoField.uint32("jamjam.samples", "Samples of all channels"),
  probe = ProtoField.uint8("jamjam.route_probe", "Route probe", base.DEC,
    { [PROBE_REQUEST] = "request", [PROBE_REPLY] = "reply" }),
  token = ProtoField.uint32("jamjam.token", "Token", base.HEX),
  sent_time_us = ProtoField.uint64("jamjam.sent_time_us", "Send time (us, sender's clock)"),
  ping_sequence = ProtoField.uint32("jamjam.ping_sequence", "Ping sequence"),
  capture_ms = ProtoField.float("jamjam.capture_ms", "Capture delay (ms)"),
  playback_ms = ProtoField.float("jamjam.playback_ms", "Playback delay (ms)"),
  encoding_ms = ProtoField.float("jamjam.encoding_ms", "Encoding delay (ms)"),
  decoding_ms = ProtoField.float("jamjam.decoding_ms", "Decoding delay (ms)"),
  jitter_buffer_ms = ProtoField.float("jamjam.jitter_buffer_ms", "Jitter buffer delay (ms)"),
  frame_size = ProtoField.uint32("jamjam.frame_size", "Frame size (samples per channel)"),
  sample_rate = ProtoField.uint32("jamjam.sample_rate", "Sample rate (Hz)"),
  codec_len = ProtoField.uint8("jamjam.codec_len", "Codec length"),
  codec = ProtoField.string("jamjam.codec", "Codec", base.UNICODE),
  channel_count = ProtoField.uint8("jamjam.channel_count", "Channels"),
  ignored = ProtoField.bytes("jamjam.ignored", "Ignored bytes"),
  response_in = ProtoField.framenum("jamjam.response_in", "Response in", base.NONE, frametype.RESPONSE),
  response_to = ProtoField.framenum("jamjam.response_to", "Response to", base.NONE, frametype.REQUEST),
  response_time = ProtoField.relative_time("jamjam.response_time", "Response time"),
  report = ProtoField.string("jamjam.loss_report", "Loss report"),
  report_during_run = ProtoField.bool("jamjam.loss_report.during_run", "During a run"),
  report_since = ProtoField.uint32("jamjam.loss_report.since", "Start of counting"),
  report_audio = ProtoField.uint32("jamjam.loss_report.audio", "AUDIO received"),
  report_ping = ProtoField.uint32("jamjam.loss_report.latency_ping", "LATENCY_PING received"),
  report_keepalive = ProtoField.uint32("jamjam.loss_report.keepalive", "KEEPALIVE received"),
  report_delay = ProtoField.uint32("jamjam.loss_report.delay_us", "Server delay"),
  report_pauses = ProtoField.uint32("jamjam.loss_report.pauses", "Pauses of the server"),
  report_paused = ProtoField.uint32("jamjam.loss_report.paused_ms", "Total length of the pauses"),
  report_dropped = ProtoField.uint32("jamjam.loss_report.dropped", "Dropped by the server's socket"),
}
jamjam.fields = f

local function malformed(name, text)
  return ProtoExpert.new("jamjam.expert." .. name, text, expert.group.MALFORMED, expert.severity.ERROR)
end
local e = {
  short = malformed("short", "Shorter than the 12-byte header"),
  version = malformed("version", "Unknown version, expected 1"),
  type = malformed("type", "Unknown type, expected 1 to 7"),
  payload = malformed("payload", "Payload does not fit the type"),
  samples = ProtoExpert.new("jamjam.expert.samples", "AUDIO payload is not a multiple of 4 bytes",
    expert.group.PROTOCOL, expert.severity.WARN),
  truncated = ProtoExpert.new("jamjam.expert.truncated", "The capture does not contain the whole packet",
    expert.group.UNDECODED, expert.severity.NOTE),
  combined = ProtoExpert.new("jamjam.expert.combined", "Several packets, combined by the sender's segmentation offload",
    expert.group.COMMENTS_GROUP, expert.severity.NOTE),
}
jamjam.experts = e

-- Unanswered requests: key -> list of { id, frame, time }, oldest first.
local pending = {}
-- Id of a request -> frame number of its response. An id consists of a frame number and an offset in the datagram.
local response_in = {}
-- Id of a response -> its request.
local response_to = {}

function jamjam.init()
  pending, response_in, response_to = {}, {}, {}
end

local function key(from, from_port, to, to_port, content)
  return tostring(from) .. " " .. from_port .. " " .. tostring(to) .. " " .. to_port .. " " .. content
end

-- Records a request, so that a later packet in the opposite direction can be its response.
local function add_request(pinfo, id, content)
  local k = key(pinfo.src, pinfo.src_port, pinfo.dst, pinfo.dst_port, content)
  pending[k] = pending[k] or {}
  table.insert(pending[k], { id = id, frame = pinfo.number, time = pinfo.rel_ts })
end

-- Links this packet to the oldest matching request in the opposite direction. Returns whether there is one.
local function add_response(pinfo, id, content)
  local k = key(pinfo.dst, pinfo.dst_port, pinfo.src, pinfo.src_port, content)
  local request
  repeat
    request = pending[k] and table.remove(pending[k], 1)
  until not request or pinfo.rel_ts - request.time <= MAX_RESPONSE_TIME
  if pending[k] and #pending[k] == 0 then pending[k] = nil end
  if not request then return false end
  response_in[request.id] = pinfo.number
  response_to[id] = request
  return true
end

local function hex(buffer, offset, max_len)
  local len = math.min(max_len, buffer:len() - offset)
  return len > 0 and buffer(offset, len):bytes():tohex() or ""
end

-- Matches requests and responses. AUDIO and KEEPALIVE have no mark that distinguishes them: the second of two equal packets in opposite
-- directions is the response.
local function match(buffer, pinfo, id, packet_type)
  local payload_len = buffer:reported_len() - HEADER_LEN
  if packet_type == LATENCY_PING or packet_type == LATENCY_PONG then
    local content = "ping " .. hex(buffer, 2, 4) .. hex(buffer, HEADER_LEN, 12)
    if packet_type == LATENCY_PING then add_request(pinfo, id, content) else add_response(pinfo, id, content) end
  elseif packet_type == KEEPALIVE and payload_len == 5 and buffer:len() >= 17
    and (buffer(12, 1):uint() == PROBE_REQUEST or buffer(12, 1):uint() == PROBE_REPLY) then
    local content = "route " .. hex(buffer, 2, 10) .. hex(buffer, 13, 4)
    if buffer(12, 1):uint() == PROBE_REQUEST then add_request(pinfo, id, content) else add_response(pinfo, id, content) end
  elseif packet_type == AUDIO or packet_type == KEEPALIVE then
    local content = payload_len .. " " .. hex(buffer, 0, HEADER_LEN + COMPARED_PAYLOAD_LEN)
    if not add_response(pinfo, id, content) then add_request(pinfo, id, content) end
  end
end

-- Adds the link of this packet to its request or response. Returns text for the Info column.
local function add_links(pinfo, id, tree)
  if response_in[id] then
    tree:add(f.response_in, response_in[id]):set_generated()
  end
  local request = response_to[id]
  if not request then return "" end
  tree:add(f.response_to, request.frame):set_generated()
  local nanoseconds = math.floor((pinfo.rel_ts - request.time) * 1e9 + 0.5)
  local seconds = math.floor(nanoseconds / 1e9)
  tree:add(f.response_time, NSTime(seconds, nanoseconds - seconds * 1e9)):set_generated()
  return string.format(", response to frame %d after %.3f ms", request.frame, nanoseconds / 1e6)
end

-- The following functions add the payload of one type to the tree and return text for the Info column. `payload` begins after the header;
-- `len` is its length on the wire.

local function audio(payload, len, tree)
  if len % 4 ~= 0 then
    tree:add_proto_expert_info(e.samples)
    return ", " .. len .. " bytes"
  end
  tree:add(f.samples, len / 4):set_generated()
  return ", " .. math.floor(len / 4) .. " samples"
end

local function keepalive(payload, len, tree)
  if len ~= 5 then return "" end
  local kind = payload(0, 1):uint()
  if kind ~= PROBE_REQUEST and kind ~= PROBE_REPLY then return "" end
  tree:add(f.probe, payload(0, 1))
  tree:add(f.token, payload(1, 4))
  return string.format(", route probe %s, token 0x%08x", kind == PROBE_REQUEST and "request" or "reply", payload(1, 4):uint())
end

-- The payload of LATENCY_PING and LATENCY_PONG.
local function ping(payload, len, tree)
  tree:add(f.sent_time_us, payload(0, 8))
  tree:add(f.ping_sequence, payload(8, 4))
  if payload:len() > 12 then tree:add(f.ignored, payload(12)) end
  return ", ping_sequence=" .. payload(8, 4):uint()
end

local function latency_info(payload, len, tree)
  local delays = { f.capture_ms, f.playback_ms, f.encoding_ms, f.decoding_ms, f.jitter_buffer_ms }
  for i, field in ipairs(delays) do
    tree:add(field, payload(4 * (i - 1), 4))
  end
  tree:add(f.frame_size, payload(20, 4))
  tree:add(f.sample_rate, payload(24, 4))
  tree:add(f.codec_len, payload(28, 1))
  local codec_len = payload(28, 1):uint()
  local codec = ""
  if codec_len > 0 then
    tree:add_packet_field(f.codec, payload(29, codec_len), ENC_UTF_8)
    codec = " " .. payload(29, codec_len):string(ENC_UTF_8)
  end
  local text = string.format(",%s %d Hz, %d samples", codec, payload(24, 4):uint(), payload(20, 4):uint())
  local rest = 29 + codec_len
  if payload:len() > rest then
    tree:add(f.channel_count, payload(rest, 1))
    text = text .. ", channels: " .. payload(rest, 1):uint()
  end
  if payload:len() > rest + 1 then tree:add(f.ignored, payload(rest + 1)) end
  return text
end

local PAYLOADS = {
  [AUDIO] = audio,
  [KEEPALIVE] = keepalive,
  [LATENCY_PING] = ping,
  [LATENCY_PONG] = ping,
  [LATENCY_INFO] = latency_info,
}

-- Minimum length of a payload on the wire. `payload` contains its captured bytes.
local function min_len(packet_type, payload)
  if packet_type == LATENCY_PING or packet_type == LATENCY_PONG then return 12 end
  if packet_type ~= LATENCY_INFO then return 0 end
  return 29 + (payload and payload:len() > 28 and payload(28, 1):uint() or 0)
end

-- Whether the datagram is a STUN message, which shares the port.
local function is_stun(buffer)
  return buffer:len() >= STUN_HEADER_LEN
    and buffer(0, 1):uint() < 4
    and buffer(4, 4):uint() == STUN_COOKIE
    and buffer(2, 2):uint() == buffer:reported_len() - STUN_HEADER_LEN
end

-- Adds the loss report of a STUN message: docs/protocol.md#loss-report.
local function loss_report(buffer, pinfo, tree)
  local at = STUN_HEADER_LEN
  while at + 4 <= buffer:len() do
    local len = buffer(at + 2, 2):uint()
    if buffer(at, 2):uint() == STUN_LOSS_REPORT and at + 4 + len <= buffer:len() then
      local attribute = buffer(at, 4 + len)
      local magic = len >= 20 and buffer(at + 4, 4):string()
      local is_response = len == 20 and magic == "jam1" or len == 100 and magic == "jam2"
      local subtree = tree:add(jamjam, attribute, "jamjam loss report")
      subtree:add(f.report, attribute, is_response and "response" or "request")
      if is_response then
        local counts = { f.report_since, f.report_audio, f.report_ping, f.report_keepalive,
          f.report_delay, f.report_pauses, f.report_paused, f.report_dropped }
        for i, field in ipairs(counts) do
          if 4 * i < len then
            subtree:add(field, buffer(at + 4 + 4 * i, 4))
          end
        end
      elseif len > 0 then
        subtree:add(f.report_during_run, buffer(at + 4, 1))
      end
      pinfo.cols.info:append(is_response and ", loss report" or ", loss report request")
      return
    end
    at = at + 4 + len + (4 - len % 4) % 4
  end
end

local function flag_names(flags)
  local names = {}
  if flags % 2 == 1 then table.insert(names, "encrypted") end
  if flags % 4 >= 2 then table.insert(names, "has_fec") end
  if flags >= 4 then table.insert(names, "unknown flags") end
  return #names > 0 and " [" .. table.concat(names, ", ") .. "]" or ""
end

-- Adds the packet in `buffer` to the tree. Returns text for the Info column.
local function packet(buffer, pinfo, id, root)
  local tree = root:add(jamjam, buffer())
  local function reject(item, info, text)
    item:add_proto_expert_info(info)
    return "Malformed: " .. text
  end
  local wire_len = buffer:reported_len()
  if wire_len < HEADER_LEN then
    return reject(tree, e.short, wire_len .. " bytes, shorter than the 12-byte header")
  end
  local version = tree:add(f.version, buffer(0, 1))
  if buffer(0, 1):uint() ~= 1 then
    return reject(version, e.version, "version " .. buffer(0, 1):uint() .. ", expected 1")
  end
  if buffer:len() < HEADER_LEN then
    tree:add_proto_expert_info(e.truncated)
    return "Truncated by the capture"
  end
  local type_item = tree:add(f.type, buffer(1, 1))
  local packet_type = buffer(1, 1):uint()
  local name = TYPES[packet_type]
  if not name then
    return reject(type_item, e.type, string.format("unknown type 0x%02x", packet_type))
  end
  tree:append_text(", " .. name)
  tree:add(f.sequence, buffer(2, 4))
  tree:add(f.timestamp, buffer(6, 4))
  local flags = buffer(10, 2):uint()
  local flags_tree = tree:add(f.flags, buffer(10, 2))
  flags_tree:add(f.encrypted, buffer(10, 2))
  flags_tree:add(f.has_fec, buffer(10, 2))
  flags_tree:add(f.unknown_flags, buffer(10, 2))
  local len = wire_len - HEADER_LEN
  local payload = buffer:len() > HEADER_LEN and buffer(HEADER_LEN):tvb() or nil
  tree:add(f.payload_len, len):set_generated()
  local payload_tree = payload and tree:add(f.payload, buffer(HEADER_LEN)) or tree

  local info = name .. " seq=" .. buffer(2, 4):uint()
  if packet_type == AUDIO or packet_type == FEC then info = info .. " ts=" .. buffer(6, 4):uint() end
  local required = min_len(packet_type, payload)
  if flags % 2 == 1 then
    info = info .. ", " .. len .. " bytes"
  elseif len < required then
    return reject(payload_tree, e.payload, string.format("%s payload of %d bytes, expected at least %d", name, len, required))
  elseif buffer:len() < wire_len then
    payload_tree:add_proto_expert_info(e.truncated)
  elseif PAYLOADS[packet_type] and len > 0 then
    info = info .. PAYLOADS[packet_type](payload, len, payload_tree)
  elseif len > 0 then
    info = info .. ", " .. len .. " bytes"
  end
  if not pinfo.visited then match(buffer, pinfo, id, packet_type) end
  return info .. flag_names(flags) .. add_links(pinfo, id, tree)
end

-- Whether a packet that begins at `at` (from 0) plausibly follows the first packet: an AUDIO packet or pong with the same flags and one of
-- the next sequences, or an immediate reply without flags at the end.
local function follows(buffer, at)
  local left = buffer:len() - at
  if left < HEADER_LEN or buffer(at + 10, 2):uint() ~= buffer(10, 2):uint() then return false end
  local distance = (buffer(at + 2, 4):uint() - buffer(2, 4):uint()) % 2 ^ 32
  if buffer(at + 1, 1):uint() == buffer(1, 1):uint() then return distance > 0 and distance <= MAX_COMBINED end
  return buffer(at + 6, 4):uint() == 0 and (buffer(at + 1, 1):uint() == KEEPALIVE and left == HEADER_LEN
    or buffer(at + 1, 1):uint() == LATENCY_PONG and left == HEADER_LEN + 12)
end

-- Length of the packets in a datagram. On the sending machine, Linux captures packets of one batch before they are separated. All packets
-- of a batch have the same length, only the last one may be shorter. The capture does not contain this length.
local function packet_len(buffer)
  local len = buffer:len()
  if len < 2 * HEADER_LEN or len < buffer:reported_len() then return len end
  local bytes = buffer:raw()
  -- Positions of strings count from 1.
  local at = bytes:find("^\1[\1-\7]") and bytes:find("\1[\1-\7]", HEADER_LEN + 1)
  while at do
    local step = at - 1
    local fits = true
    for start = step, len - 1, step do
      fits = fits and bytes:find("^\1[\1-\7]", start + 1) and follows(buffer, start)
    end
    if fits then return step end
    at = bytes:find("\1[\1-\7]", at + 1)
  end
  return len
end

function jamjam.dissector(buffer, pinfo, root)
  local stun = is_stun(buffer) and Dissector.get("stun-udp")
  if stun then
    stun:call(buffer, pinfo, root)
    loss_report(buffer, pinfo, root)
    return
  end
  pinfo.cols.protocol = "jamjam"
  local step = packet_len(buffer)
  if step == buffer:len() then
    pinfo.cols.info = packet(buffer, pinfo, pinfo.number .. ":0", root)
    return
  end
  root:add_proto_expert_info(e.combined)
  local infos = {}
  for at = 0, buffer:len() - 1, step do
    local one = buffer(at, math.min(step, buffer:len() - at)):tvb()
    table.insert(infos, packet(one, pinfo, pinfo.number .. ":" .. at, root))
  end
  pinfo.cols.info = #infos .. " packets: " .. table.concat(infos, "; ")
end

-- The heuristic recognizes packets on other ports. It accepts only packets that other protocols are very unlikely to send. After the first
-- such packet, the whole conversation is jamjam, with the types that are not recognizable by themselves: FEC, CONTROL, encrypted packets.

local MIN_RECOGNIZED_SAMPLES = 16
local MAX_CHECKED_SAMPLES = 128

-- Whether the first samples are silent or within plausible levels: at most 24 dB above full scale, at least -240 dB.
local function are_samples(buffer)
  local count = math.floor((buffer:len() - HEADER_LEN) / 4)
  for i = 0, math.min(count, MAX_CHECKED_SAMPLES) - 1 do
    local level = math.abs(buffer(HEADER_LEN + 4 * i, 4):le_float())
    if not (level == 0 or (level > 1e-12 and level < 16)) then return false end
  end
  return true
end

local function is_jamjam(buffer)
  local len = buffer:reported_len()
  if buffer:len() < HEADER_LEN or buffer(0, 1):uint() ~= 1 or is_stun(buffer) then return false end
  local packet_type = buffer(1, 1):uint()
  local flags = buffer(10, 2):uint()
  if packet_type == AUDIO then
    local payload_len = len - HEADER_LEN
    return (flags == 0 or flags == 2) and payload_len >= 4 * MIN_RECOGNIZED_SAMPLES and payload_len % 4 == 0 and are_samples(buffer)
  end
  -- A DNS query with the id 0x0104 to 0x0107 also has zeros here.
  if buffer(6, 4):uint() ~= 0 or flags ~= 0 then return false end
  if packet_type == KEEPALIVE then
    return len == HEADER_LEN and buffer(2, 1):uint() == 0
  elseif packet_type == LATENCY_PING or packet_type == LATENCY_PONG then
    -- Send times reach this byte after 2,000 years. In a DNS query, it is the length of a label.
    return len == HEADER_LEN + 12 and buffer:len() == len and buffer(2, 1):uint() == 0 and buffer(HEADER_LEN, 1):uint() == 0
  elseif packet_type == LATENCY_INFO then
    if buffer:len() < HEADER_LEN + 29 then return false end
    local codec_end = HEADER_LEN + 29 + buffer(HEADER_LEN + 28, 1):uint()
    local codec = buffer:len() >= codec_end and buffer(HEADER_LEN + 29):string() or ""
    return (len == codec_end or len == codec_end + 1) and (codec:sub(1, 3) == "pcm" or codec:sub(1, 4) == "opus")
  end
  return false
end

jamjam:register_heuristic("udp", function(buffer, pinfo, tree)
  if not is_jamjam(buffer) then return false end
  pinfo.conversation = jamjam
  jamjam.dissector(buffer, pinfo, tree)
  return true
end)

local ports = DissectorTable.get("udp.port")
jamjam.prefs.ports = Pref.range("UDP ports", "5000", "UDP ports of jamjam clients and servers", 65535)
local registered_ports = jamjam.prefs.ports
ports:add(registered_ports, jamjam)
ports:add_for_decode_as(jamjam)

function jamjam.prefs_changed()
  if registered_ports ~= jamjam.prefs.ports then
    ports:remove(registered_ports, jamjam)
    registered_ports = jamjam.prefs.ports
    ports:add(registered_ports, jamjam)
  end
end
