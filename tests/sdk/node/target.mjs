// What is asked: its URL, a key for it and a model, from the environment that test_node.py sets.

import OpenAI from "openai";

export const model = process.env.SLUICE_TEST_MODEL;
export const slowModel = process.env.SLUICE_TEST_SLOW_MODEL;

/** A client that asks once: a second try would hide a fault. */
export function clientWith(options = {}) {
  const { SLUICE_TEST_URL: baseURL, SLUICE_TEST_KEY: apiKey } = process.env;
  return new OpenAI({ baseURL, apiKey, maxRetries: 0, timeout: 30_000, ...options });
}

export const client = clientWith();

/** Every item of a stream. */
export async function all(stream) {
  const items = [];
  for await (const item of stream) items.push(item);
  return items;
}
