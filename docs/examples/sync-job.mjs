// Writes one subscription, or removes it, as a config sync job does: HSET or HDEL, then XADD.
//
//   node sync-job.mjs ACCOUNT ID '{"url":"https://example.com/hooks","events":["EMAIL_OPEN"]}'
//   node sync-job.mjs ACCOUNT ID            # removes it
//
// REDIS_HOST (127.0.0.1) and REDIS_PORT (6379) say where Redis is. It needs nothing but Node 18. With node-redis, the calls
// are client.hSet(key, id, json) and client.xAdd("fanout:changes", "*", { account }, { TRIM: { strategy: "MAXLEN",
// strategyModifier: "~", threshold: 100000 } }).
import { connect } from "node:net";
import { createInterface } from "node:readline";

const [account, id, json] = process.argv.slice(2);
const socket = connect(Number(process.env.REDIS_PORT ?? 6379), process.env.REDIS_HOST ?? "127.0.0.1");
socket.setTimeout(5000, () => socket.destroy(new Error("redis does not answer")));
const lines = createInterface({ input: socket })[Symbol.asyncIterator]();

async function command(...words) {
  socket.write(`*${words.length}\r\n` + words.map((w) => `$${Buffer.byteLength(w)}\r\n${w}\r\n`).join(""));
  let { value: answer } = await lines.next();
  if (answer?.startsWith("$")) ({ value: answer } = await lines.next()); // XADD answers with the entry's id
  if (answer === undefined || answer.startsWith("-")) throw new Error(`${words[0]}: ${answer ?? "the connection was closed"}`);
}

const key = "fanout:account:" + account;
if (json) await command("HSET", key, id, json);
else await command("HDEL", key, id);
// Says whose subscriptions have changed.
await command("XADD", "fanout:changes", "MAXLEN", "~", "100000", "*", "account", account);
socket.end();
