// Embeddings with the official Node.js SDK of OpenAI, which asks for base64 unless it is told otherwise.

import assert from "node:assert/strict";
import { test } from "node:test";

import { client, model } from "./target.mjs";

test("each text has its vector", async () => {
  const answer = await client.embeddings.create({ model, input: ["one", "two"] });
  assert.deepEqual(answer.data.map((item) => item.index), [0, 1]);
  const [one, two] = answer.data.map((item) => item.embedding);
  assert.ok(one.every((number) => typeof number === "number"));
  assert.notDeepEqual(one, two);
});

test("base64 and numbers are the same vector", async () => {
  const asked = { model, input: "one" };
  const byDefault = (await client.embeddings.create(asked)).data[0].embedding;
  const asNumbers = (await client.embeddings.create({ ...asked, encoding_format: "float" })).data[0].embedding;
  // Base64 holds numbers of 32 bits.
  assert.deepEqual(asNumbers.map(Math.fround), byDefault);
});
