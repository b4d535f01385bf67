// Chats with the official Node.js SDK of OpenAI.

import assert from "node:assert/strict";
import { test } from "node:test";

import OpenAI from "openai";

import { all, client, clientWith, model } from "./target.mjs";

const question = { model, messages: [{ role: "user", content: "Say something." }], max_tokens: 8 };

const textOf = (chunks) => chunks.map((chunk) => chunk.choices[0]?.delta.content ?? "").join("");

test("models are listed", async () => {
  const ids = (await all(client.models.list())).map((listed) => listed.id);
  assert.ok(ids.includes(model), ids.join(" "));
});

test("a chat", async () => {
  const answer = await client.chat.completions.create(question);
  assert.equal(answer.model, model);
  assert.equal(answer.choices[0].message.role, "assistant");
  assert.ok(answer.choices[0].message.content);
  assert.equal(answer.usage.completion_tokens, 8);
});

test("a stream says what the whole answer says", async () => {
  const whole = await client.chat.completions.create(question);
  const chunks = await all(await client.chat.completions.create({ ...question, stream: true }));
  assert.equal(textOf(chunks), whole.choices[0].message.content);
  assert.equal(chunks.at(-1).choices[0].finish_reason, whole.choices[0].finish_reason);
  assert.ok(chunks.every((chunk) => chunk.usage == null), "nobody asked for it");
});

test("a stream tells its usage when asked", async () => {
  const whole = await client.chat.completions.create(question);
  const asked = { ...question, stream: true, stream_options: { include_usage: true } };
  const chunks = await all(await client.chat.completions.create(asked));
  assert.equal(textOf(chunks), whole.choices[0].message.content);
  assert.deepEqual(chunks.at(-1).choices, []);
  assert.equal(chunks.at(-1).usage.completion_tokens, 8);
  assert.equal(chunks.at(-1).usage.prompt_tokens, whole.usage.prompt_tokens);
});

test("the SDK gathers a stream by itself", async () => {
  const whole = await client.chat.completions.create(question);
  const stream = client.chat.completions.stream(question);
  assert.equal(await stream.finalContent(), whole.choices[0].message.content);
});

test("a stream that is aborted ends, and the next request works", async () => {
  const control = new AbortController();
  // So many tokens take longer than this test.
  const long = { ...question, max_tokens: 8000, stream: true };
  const stream = await client.chat.completions.create(long, { signal: control.signal });
  let chunks = 0;
  for await (const _ of stream) {
    chunks += 1;
    control.abort();
  }
  assert.ok(chunks > 0 && chunks < 8000, `${chunks}`);
  assert.ok((await client.chat.completions.create(question)).choices[0].message.content);
});

test("a request that is aborted before its answer is an error", async () => {
  const control = new AbortController();
  const asked = client.chat.completions.create({ ...question, max_tokens: 8000 }, { signal: control.signal });
  control.abort();
  await assert.rejects(asked, OpenAI.APIUserAbortError);
});

test("a wrong key is an authentication error", async () => {
  const asked = clientWith({ apiKey: "sk-wrong" }).chat.completions.create(question);
  await assert.rejects(asked, OpenAI.AuthenticationError);
});

test("an unknown model is not found", async () => {
  const asked = client.chat.completions.create({ ...question, model: "no-such-model" });
  await assert.rejects(asked, (error) => {
    assert.ok(error instanceof OpenAI.NotFoundError, `${error}`);
    assert.equal(error.param, "model");
    return true;
  });
});

test("a negative max_tokens is a bad request", async () => {
  for (const stream of [false, true]) {
    const asked = client.chat.completions.create({ ...question, max_tokens: -5, stream });
    await assert.rejects(asked, (error) => {
      assert.ok(error instanceof OpenAI.BadRequestError, `${error}`);
      assert.equal(error.param, "max_tokens");
      return true;
    });
  }
});
