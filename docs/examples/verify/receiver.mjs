// Takes webhooks whose signature is right, each event once, and answers 401 to others. A batch is verified once.
//
//   npm install standardwebhooks
//   WEBHOOK_SECRET=whsec_… node receiver.mjs 127.0.0.1:9000
//
// For a whpk_ key (signatures v1a, Ed25519), which the library does not know, Node's own crypto does the work.
import { createPublicKey, verify as ed25519 } from "node:crypto";
import { createServer } from "node:http";
import { Webhook } from "standardwebhooks";

const [host, port] = (process.argv[2] ?? "127.0.0.1:9000").split(":");
const secret = process.env.WEBHOOK_SECRET;
if (!secret) {
  console.error("set WEBHOOK_SECRET to the subscription's secret");
  process.exit(2);
}
const verify = secret.startsWith("whpk_") ? v1a(secret) : (body, headers) => new Webhook(secret).verify(body, headers);

// v1a throws as the library does where no signature is right.
function v1a(secret) {
  const key = createPublicKey({ key: { kty: "OKP", crv: "Ed25519", x: Buffer.from(secret.slice(5), "base64").toString("base64url") }, format: "jwk" });
  return (body, { "webhook-id": id, "webhook-timestamp": timestamp, "webhook-signature": signatures = "" }) => {
    if (!(Math.abs(Date.now() / 1000 - Number(timestamp)) <= 300)) throw new Error("the timestamp is too far from now");
    const signed = Buffer.concat([Buffer.from(`${id}.${timestamp}.`), body]);
    const matches = (s) => s.startsWith("v1a,") && ed25519(null, signed, key, Buffer.from(s.slice(4), "base64"));
    if (!signatures.split(" ").some(matches)) throw new Error("no signature matches");
  };
}

const seen = new Set(); // of ids; yours is a table, written in the transaction of your own work

// take works off the events of a request that was verified: of one event, or a batch with an id of its own in each.
function take(body, id) {
  const parsed = JSON.parse(body);
  for (const event of Array.isArray(parsed) ? parsed : [{ ...parsed, id }]) {
    if (seen.has(event.id)) continue; // it came before, alone or in another batch
    seen.add(event.id);
    console.log(event.id, JSON.stringify(event));
  }
}

createServer(async (request, response) => {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const body = Buffer.concat(chunks); // the raw bytes: what is signed
  try {
    verify(body, request.headers);
  } catch (problem) {
    console.log("refused:", problem.message);
    return response.writeHead(401).end();
  }
  take(body, request.headers["webhook-id"]);
  response.writeHead(204).end();
}).listen(Number(port), host);
