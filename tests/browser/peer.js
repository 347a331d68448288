// A participant as a web page is one: it calls everybody who is in the room already, over a data channel, and greets them.
// Ends with what it heard over the channel, and the types of the messages that the server sent.
function participant(url, room, user) {
  const query = new URLSearchParams({ roomId: room, userId: user, userName: `${user} ♪` });
  const socket = new WebSocket(`${url}?${query}`);
  const say = (message) => socket.send(JSON.stringify(message));
  const types = [];
  return new Promise((resolve, reject) => {
    const peers = new Map();
    const listen = (channel, id) => {
      channel.onopen = () => channel.send(`hello ${id}, this is ${user}`);
      channel.onmessage = ({ data }) => resolve({ heard: data, types, socket });
    };
    const peer = (id) => {
      if (!peers.has(id)) {
        const connection = new RTCPeerConnection();
        connection.onicecandidate = ({ candidate }) => {
          if (candidate) say({ type: "ice-candidate", targetUserId: id, candidate });
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
            say({ type: "offer", targetUserId: id, sdp: connection.localDescription });
          }
          break;
        case "offer":
          await peer(from).setRemoteDescription(message.sdp);
          await peer(from).setLocalDescription();
          say({ type: "answer", targetUserId: from, sdp: peer(from).localDescription });
          break;
        case "answer":
          await peer(from).setRemoteDescription(message.sdp);
          break;
        case "ice-candidate":
          await peer(from).addIceCandidate(message.candidate);
      }
    };
    // One after the other, in the order in which they came.
    let acted = Promise.resolve();
    socket.onmessage = ({ data }) => {
      const message = JSON.parse(data);
      types.push(message.type);
      acted = acted.then(() => act(message)).catch(reject);
    };
    socket.onerror = () => reject(new Error(`no WebSocket to ${url}`));
  });
}

// How a WebSocket ends that the server closes: what a page can see of it.
function ending(socket) {
  return new Promise((resolve) => {
    socket.onclose = ({ code, reason, wasClean }) => resolve({ code, reason, wasClean });
  });
}
