// What an application does with ioredis and node-redis, against the port in argv; ends with code 1 at the first surprise.
const assert = require("node:assert");
const Redis = require("ioredis");
const { createClient } = require("redis");

const port = Number(process.argv[2]);
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

async function until(condition, what) {
  for (let tries = 0; tries < 500; tries++) {
    if (await condition()) return;
    await sleep(10);
  }
  assert.fail(`not within five seconds: ${what}`);
}

async function ioredis() {
  const client = new Redis(port, "127.0.0.1");
  await client.flushdb();
  assert.equal(await client.set("a", "1", "EX", 100), "OK");
  assert.equal(await client.get("a"), "1");
  assert.deepEqual(await client.mget("a", "none"), ["1", null]);
  assert.deepEqual(await client.multi().set("b", "2").get("b").exec(), [[null, "OK"], [null, "2"]]);
  const pipeline = client.pipeline();
  for (let i = 0; i < 3000; i++) pipeline.set(`many:${i}`, "v".repeat(100));
  assert.equal((await pipeline.exec()).filter(([error]) => error).length, 0);
  const found = new Set();
  for await (const keys of client.scanStream({ match: "*:1*", count: 100 })) keys.forEach((key) => found.add(key));
  assert.equal(found.size, 1111);
  const subscriber = new Redis(port, "127.0.0.1");
  const heard = [];
  subscriber.on("pmessage", (pattern, channel, text) => heard.push([channel, text]));
  await subscriber.psubscribe("__keyspace@0__:ev:*");
  await client.set("ev:1", "x");
  await client.del("ev:1");
  await until(() => heard.length === 2, "two events");
  assert.deepEqual(heard, [["__keyspace@0__:ev:1", "set"], ["__keyspace@0__:ev:1", "del"]]);
  await assert.rejects(client.incr("n"), /INCR is not taken/);
  await subscriber.quit();
  await client.quit();
}

async function nodeRedis() {
  const cache = { ttl: 0, maxEntries: 100, evictPolicy: "LRU" };
  const client = await createClient({ url: `redis://127.0.0.1:${port}`, RESP: 3, clientSideCache: cache }).connect();
  const other = await createClient({ url: `redis://127.0.0.1:${port}` }).connect();
  await other.set("cached", "1", { EX: 100 });
  assert.equal(await client.get("cached"), "1");
  assert.equal(await client.get("cached"), "1");
  await other.set("cached", "2");
  await until(async () => (await client.get("cached")) === "2", "the cache is told");
  assert.deepEqual(await other.multi().set("t", "1").append("t", "2").get("t").exec(), ["OK", 2, "12"]);
  const keys = [];
  for await (const some of other.scanIterator({ MATCH: "many:?", COUNT: 100 })) keys.push(...[some].flat());
  assert.equal(keys.length, 10);
  await client.close();
  await other.close();
}

ioredis().then(nodeRedis).then(() => process.exit(0), (error) => { console.error(error); process.exit(1); });
