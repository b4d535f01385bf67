// Uploads with the official Node.js SDK of OpenAI: a recording comes to the node whole.

import assert from "node:assert/strict";
import { test } from "node:test";

import OpenAI, { toFile } from "openai";

import { client, model } from "./target.mjs";

const rate = 8000;

/** Silence, as a WAV: one channel, 2 bytes each sample. */
function recording(seconds) {
  const size = 2 * rate * seconds;
  const file = Buffer.alloc(44 + size);
  file.write("RIFF", 0);
  file.writeUInt32LE(36 + size, 4);
  file.write("WAVEfmt ", 8);
  [16, 1, rate, 2 * rate].forEach((number, place) => file.writeUInt32LE(number, 16 + 4 * place));
  file.writeUInt16LE(1, 22);
  file.writeUInt16LE(2, 32);
  file.writeUInt16LE(16, 34);
  file.write("data", 36);
  file.writeUInt32LE(size, 40);
  return file;
}

test("a transcription", async () => {
  const file = await toFile(recording(2), "silence.wav");
  const answer = await client.audio.transcriptions.create({ model, file });
  assert.match(answer.text, /2 seconds of wav/);
  assert.equal(answer.usage.seconds, 2);
});

test("a translation", async () => {
  const file = await toFile(recording(2), "silence.wav");
  assert.match((await client.audio.translations.create({ model, file })).text, /2 seconds of wav/);
});

test("a text is no recording", async () => {
  const file = await toFile(Buffer.from("just a text"), "silence.wav");
  await assert.rejects(client.audio.transcriptions.create({ model, file }), OpenAI.BadRequestError);
});
