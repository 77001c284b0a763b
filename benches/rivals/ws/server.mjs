// A broadcast server on Node's ws, as its documentation writes one; the letters are those of
// benches/src/rivals/speech/raw.rs. Arguments: port, and the folder of cert.pem and key.pem for TLS.
import { createServer as createPlain } from "node:http";
import { createServer as createSecure } from "node:https";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

// The package is in the folder that it was installed to, not beside this file.
const require = createRequire(process.env.HAWSER_RIVAL_MODULES + "/");
const { WebSocketServer, WebSocket } = require("ws");

const [port, tls] = process.argv.slice(2);
const options = tls
  ? { cert: readFileSync(`${tls}/cert.pem`), key: readFileSync(`${tls}/key.pem`), minVersion: "TLSv1.3" }
  : {};
const server = tls ? createSecure(options) : createPlain();
const sockets = new WebSocketServer({ server, perMessageDeflate: false, clientTracking: false });
const subscribers = new Set();
const direct = new Map();
const ready = Buffer.from("i");

sockets.on("connection", (socket) => {
  let number;
  socket.on("message", (message) => {
    const letter = String.fromCharCode(message[0]);
    if (letter === "B") {
      const body = message.subarray(1);
      for (const one of subscribers) if (one.readyState === WebSocket.OPEN) one.send(body);
    } else if (letter === "D" && message.length >= 5) {
      direct.get(message.readUInt32LE(1))?.send(message.subarray(5));
    } else if ((letter === "I" || letter === "J") && message.length >= 5) {
      number = message.readUInt32LE(1);
      if (letter === "I") subscribers.add(socket);
      direct.set(number, socket);
      socket.send(ready);
    }
  });
  socket.on("error", () => socket.terminate());
  socket.on("close", () => {
    subscribers.delete(socket);
    direct.delete(number);
  });
});
server.listen({ port: Number(port), host: "127.0.0.1", backlog: 4096 });
