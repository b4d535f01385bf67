// What the gateway adds, as applications meet it with the official Node.js SDK of OpenAI.

import assert from "node:assert/strict";
import { test } from "node:test";

import OpenAI from "openai";

import { client, clientWith, model, slowModel } from "./target.mjs";

const question = { model, messages: [{ role: "user", content: "Hi" }], max_tokens: 8 };

/** The error that `asked` ends with. */
async function errorOf(asked) {
  return asked.then(() => assert.fail("it was answered"), (error) => error);
}

test("a wrong key is told in OpenAI's words", async () => {
  const error = await errorOf(clientWith({ apiKey: "sk-wrong" }).models.list());
  assert.ok(error instanceof OpenAI.AuthenticationError, `${error}`);
  assert.equal(error.code, "invalid_api_key");
  assert.ok(error.requestID);
});

test("an unknown model is told in OpenAI's words", async () => {
  const error = await errorOf(client.chat.completions.create({ ...question, model: "no-such-model" }));
  assert.ok(error instanceof OpenAI.NotFoundError, `${error}`);
  assert.equal(error.code, "model_not_found");
  assert.equal(error.param, "model");
  assert.ok(error.requestID);
});

test("the name of a request comes back", async () => {
  const headers = { "x-request-id": "order-66" };
  const { data, request_id } = await client.chat.completions.create(question, { headers }).withResponse();
  assert.equal(request_id, "order-66");
  assert.equal(data._request_id, "order-66");
  assert.ok((await client.chat.completions.create(question))._request_id);
});

test("a node slower than the timeout header is 504", async () => {
  const slow = { ...question, model: slowModel };
  const asked = client.chat.completions.create(slow, { headers: { "X-Timeout-Seconds": "0.2" } });
  const error = await errorOf(asked);
  assert.ok(error instanceof OpenAI.InternalServerError, `${error}`);
  assert.equal(error.status, 504);
  assert.equal(error.code, "upstream_timeout");
});

test("a client that does not wait gets its timeout", async () => {
  const asked = clientWith({ timeout: 300 }).chat.completions.create({ ...question, model: slowModel });
  await assert.rejects(asked, OpenAI.APIConnectionTimeoutError);
});
