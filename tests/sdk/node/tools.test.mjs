// Tools and JSON in chats with the official Node.js SDK of OpenAI.

import assert from "node:assert/strict";
import { test } from "node:test";

import { all, client, model } from "./target.mjs";

const parameters = {
  type: "object",
  properties: { city: { type: "string" }, days: { type: "integer" } },
  required: ["city", "days"],
};
const weather = { name: "get_weather", description: "The weather in a city.", parameters };
const messages = [{ role: "user", content: "Use get_weather for Oslo" }];
const question = { model, messages, tools: [{ type: "function", function: weather }], max_tokens: 200 };

test("a stream makes the call of the whole answer", async () => {
  const whole = (await client.chat.completions.create(question)).choices[0];
  assert.equal(whole.finish_reason, "tool_calls");
  const { name, arguments: text } = whole.message.tool_calls[0].function;
  assert.equal(name, "get_weather");
  assert.equal(typeof JSON.parse(text).city, "string");
  const chunks = await all(await client.chat.completions.create({ ...question, stream: true }));
  const calls = chunks.flatMap((chunk) => chunk.choices[0].delta.tool_calls ?? []);
  assert.deepEqual(calls.flatMap((call) => call.function.name ?? []), [name]);
  assert.equal(calls.map((call) => call.function.arguments ?? "").join(""), text);
  assert.equal(chunks.at(-1).choices[0].finish_reason, "tool_calls");
});

test("the SDK calls the tool and brings back its answer", async () => {
  const asked = [];
  const run = async (place) => {
    asked.push(place);
    return "sunny";
  };
  const tool = { type: "function", function: { ...weather, parse: JSON.parse, function: run } };
  // No max_tokens: a simulated model would use them up, and the SDK takes no answer that was cut short.
  for (const stream of [false, true]) {
    const runner = client.chat.completions.runTools({ model, messages, tools: [tool], stream });
    assert.ok(await runner.finalContent());
  }
  assert.equal(asked.length, 2);
  assert.equal(typeof asked[0].days, "number");
  assert.deepEqual(asked[0], asked[1]);
});

test("an answer is held to a schema", async () => {
  const json_schema = { name: "place", schema: parameters };
  const response_format = { type: "json_schema", json_schema };
  const answer = await client.chat.completions.parse({ model, messages, response_format });
  const place = JSON.parse(answer.choices[0].message.content);
  assert.equal(typeof place.city, "string");
  assert.ok(Number.isInteger(place.days));
});
