// A participant in a web page. It opens a data channel to every participant that is already in the room. Each side of a channel sends a
// greeting. The promise resolves with the first received greeting, the types of the server's messages and the WebSocket.
function participant(url, room, user) {
  const query = new URLSearchParams({ roomId: room, userId: user, userName: `${user} ♪` });
  const socket = new WebSocket(`${url}?${query}`);
  const send = (message) => socket.send(JSON.stringify(message));
  const types = [];
  return new Promise((resolve, reject) => {
    const peers = new Map();
    const listen = (channel, id) => {
      channel.onopen = () => channel.send(`hello ${id}, this is ${user}`);
      channel.onmessage = ({ data }) => resolve({ greeting: data, types, socket });
    };
    const peer = (id) => {
      if (!peers.has(id)) {
        const connection = new RTCPeerConnection();
        connection.onicecandidate = ({ candidate }) => {
          if (candidate) send({ type: "ice-candidate", targetUserId: id, candidate });
        };
        connection.ondatachannel = ({ channel }) => listen(channel, id);
        peers.set(id, connection);
      }
      return peers.get(id);
    };
    const act = async (message) => {
      const from = message.fromUserId;
      switch (message.type) {
        case "existing-participants":
          for (const { id } of message.participants) {
            const connection = peer(id);
            listen(connection.createDataChannel("greetings"), id);
            await connection.setLocalDescription();
            send({ type: "offer", targetUserId: id, sdp: connection.localDescription });
          }
          break;
        case "offer":
          await peer(from).setRemoteDescription(message.sdp);
          await peer(from).setLocalDescription();
          send({ type: "answer", targetUserId: from, sdp: peer(from).localDescription });
          break;
        case "answer":
          await peer(from).setRemoteDescription(message.sdp);
          break;
        case "ice-candidate":
          await peer(from).addIceCandidate(message.candidate);
      }
    };
    // Process messages one after the other, in the order of arrival.
    let acted = Promise.resolve();
    socket.onmessage = ({ data }) => {
      const message = JSON.parse(data);
      types.push(message.type);
      acted = acted.then(() => act(message)).catch(reject);
    };
    socket.onerror = () => reject(new Error(`no WebSocket to ${url}`));
  });
}

// How the server closed a WebSocket, as visible to a page.
function ending(socket) {
  return new Promise((resolve) => {
    socket.onclose = ({ code, reason, wasClean }) => resolve({ code, reason, wasClean });
  });
}
