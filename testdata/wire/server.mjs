// A receiver on Node's own HTTP server: node server.mjs PORT. It prints what it reads.
import { createServer } from "node:http";

const server = createServer((request, response) => {
  let length = 0;
  request.on("data", (chunk) => (length += chunk.length));
  request.on("end", () => {
    console.log([request.method, request.url, request.headers.host, length, request.headers["webhook-id"], request.socket.remotePort].join("\t"));
    response.writeHead(204).end();
  });
});
server.keepAliveTimeout = 1000;
server.listen(Number(process.argv[2]), "127.0.0.1");
