// `/v1/responses` with the official Node.js SDK of OpenAI.

import assert from "node:assert/strict";
import { test } from "node:test";

import OpenAI from "openai";

import { all, client, model } from "./target.mjs";

const question = { model, input: "Say something.", max_output_tokens: 8 };

test("a response", async () => {
  const answer = await client.responses.create(question);
  assert.equal(answer.model, model);
  assert.ok(answer.output_text);
  assert.equal(answer.usage.output_tokens, 8);
});

test("a stream says what the whole response says", async () => {
  const whole = await client.responses.create(question);
  const events = await all(await client.responses.create({ ...question, stream: true }));
  const deltas = events.filter((event) => event.type === "response.output_text.delta");
  assert.equal(deltas.map((event) => event.delta).join(""), whole.output_text);
  assert.deepEqual(events.map((event) => event.sequence_number), [...events.keys()]);
  assert.equal(events.at(-1).type, "response.completed");
  assert.equal(events.at(-1).response.usage.output_tokens, 8);
});

test("a response is kept and gone on from", async () => {
  const first = await client.responses.create(question);
  assert.equal((await client.responses.retrieve(first.id)).output_text, first.output_text);
  const next = { ...question, input: "And then?" };
  const alone = await client.responses.create(next);
  const second = await client.responses.create({ ...next, previous_response_id: first.id });
  assert.equal(second.previous_response_id, first.id);
  assert.ok(second.usage.input_tokens > alone.usage.input_tokens, "what was said before is part of it");
});

test("what nobody made is not found", async () => {
  await assert.rejects(client.responses.retrieve("resp_of_nobody"), OpenAI.NotFoundError);
  await assert.rejects(client.responses.cancel("resp_of_nobody"), OpenAI.NotFoundError);
});
