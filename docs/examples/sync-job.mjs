// Writes one subscription, or removes it, as a config sync job does: HSET or HDEL, then XADD.
//
//   node sync-job.mjs ACCOUNT ID '{"url":"https://example.com/hooks","events":["EMAIL_OPEN"]}'
//   node sync-job.mjs ACCOUNT ID            # removes it
//
// REDIS_HOST (127.0.0.1) and REDIS_PORT (6379) say where Redis is, or one node of a Cluster; REDISCLI_AUTH is the password,
// if it wants one, and REDIS_USER (default) whose. It needs nothing but Node 18. With node-redis, the calls are
// client.hSet(key, id, json) and client.xAdd("fanout:changes", "*", { account }, { TRIM: { strategy: "MAXLEN",
// strategyModifier: "~", threshold: 100000 } }).
import { connect } from "node:net";
import { createInterface } from "node:readline";

const { REDIS_HOST = "127.0.0.1", REDIS_PORT = "6379", REDIS_USER = "default", REDISCLI_AUTH } = process.env;
const [account, id, json, ...more] = process.argv.slice(2);
if (!id || more.length > 0) {
  console.error("usage: node sync-job.mjs ACCOUNT ID [JSON]        without JSON, the subscription is removed");
  process.exit(2);
}

// Sends commands over one connection, and resolves to the last one's answer.
async function ask(host, port, steps) {
  const socket = connect(Number(port), host);
  socket.setTimeout(5000, () => socket.destroy(new Error("redis does not answer")));
  const lines = createInterface({ input: socket })[Symbol.asyncIterator]();
  let answer;
  for (const words of steps) {
    socket.write(`*${words.length}\r\n` + words.map((w) => `$${Buffer.byteLength(w)}\r\n${w}\r\n`).join(""));
    ({ value: answer } = await lines.next());
    if (answer?.startsWith("$")) ({ value: answer } = await lines.next()); // XADD answers with the entry's id
  }
  socket.end();
  return answer ?? "-the connection was closed";
}

async function command(...words) {
  const auth = REDISCLI_AUTH ? [["AUTH", REDIS_USER, REDISCLI_AUTH]] : [];
  let [host, port, steps, answer] = [REDIS_HOST, REDIS_PORT, [...auth, words]];
  for (let tries = 0; tries < 5; tries++) {
    answer = await ask(host, port, steps);
    // On a Cluster, another node has that key: for good, or (ASK) for this one command.
    const redirect = answer.match(/^-(MOVED|ASK) \d+ (.*):(\d+)$/);
    if (!redirect) break;
    [host, port] = [redirect[2] || host, redirect[3]];
    steps = [...auth, ...(redirect[1] === "ASK" ? [["ASKING"]] : []), words];
  }
  if (answer.startsWith("-")) throw new Error(`${words[0]}: ${answer}`);
}

try {
  const key = "fanout:account:" + account;
  if (json) await command("HSET", key, id, json);
  else await command("HDEL", key, id);
  // Says whose subscriptions have changed.
  await command("XADD", "fanout:changes", "MAXLEN", "~", "100000", "*", "account", account);
} catch (problem) {
  console.error("redis: " + problem.message);
  process.exit(1);
}
