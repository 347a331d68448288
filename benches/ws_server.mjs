// A minimal broadcast server based on Node's `ws`: forwards each message unchanged to all other clients that are connected to the same
// path. It has no tokens, no JSON and no limits. `benches/side_by_side.py` compares it with the signaling server.
//
//     npm ci --prefix tests/node
//     node benches/ws_server.mjs 8080

import { createRequire } from 'node:module';

const { WebSocketServer } = createRequire(new URL('../tests/node/', import.meta.url))('ws');

const rooms = new Map();
const server = new WebSocketServer({
  host: '127.0.0.1',
  port: Number(process.argv[2]),
  clientTracking: false,
  perMessageDeflate: false,
});

server.on('connection', (socket, request) => {
  const room = request.url;
  const members = rooms.get(room) ?? new Set();
  rooms.set(room, members.add(socket));
  socket.on('message', (data, isBinary) => {
    for (const other of members) {
      if (other !== socket) other.send(data, { binary: isBinary });
    }
  });
  socket.on('close', () => {
    members.delete(socket);
    if (members.size === 0) rooms.delete(room);
  });
});
