-- Sends the hash of a process' copy of a room to the other followers.
-- ARGV: room, offset of the copy, process, hash.
publish(ARGV[1], table.concat({ 'check', ARGV[1], ARGV[2], ARGV[3], ARGV[4] }, ' ') .. '\n', ARGV[3])
