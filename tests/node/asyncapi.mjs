// Validates the AsyncAPI document of a signaling server with the official JSON schemas: `node asyncapi.mjs ADDRESS:PORT`.
//
// Also validates each example with the schema of its message. Exits with an error if the document is not valid.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import Ajv from 'ajv';
import addFormats from 'ajv-formats';

const specification = createRequire(import.meta.url)('@asyncapi/specs/schemas/3.0.0-without-$id.json');
const response = await fetch(`http://${process.argv[2]}/docs/asyncapi.json`);
assert.equal(response.status, 200);
const document = await response.json();

const ajv = addFormats(new Ajv({ strict: false, allErrors: true, logger: false }));
const validate = ajv.compile(specification);
assert.ok(validate(document), JSON.stringify(validate.errors, null, 2));

// Each of these changes makes the document invalid, so the schemas check it.
for (const change of [
  (copy) => delete copy.info.title,
  (copy) => (copy.channels.jamjam.unknown = 1),
  (copy) => (copy.operations['jamjam.receive'].action = 'publish'),
  (copy) => (copy.channels.webrtc.bindings.ws.method = 'BREW'),
]) {
  const copy = structuredClone(document);
  change(copy);
  assert.equal(validate(copy), false, change.toString());
}

let examples = 0;
ajv.addSchema({ $id: 'asyncapi.json', ...document, components: document.components });
for (const [id, channel] of Object.entries(document.channels)) {
  for (const [key, message] of Object.entries(channel.messages)) {
    // `~1` and `~0` stand for `/` and `~`, which no key contains.
    const check = ajv.getSchema(`asyncapi.json#/channels/${id}/messages/${key}/payload`);
    assert.ok(check, `${id} ${key} has no schema`);
    for (const { payload } of message.examples) {
      assert.ok(check(payload), `${id} ${key}: ${JSON.stringify(check.errors)}`);
      examples += 1;
    }
  }
}
console.log(`${Object.keys(document.channels).length} channels and ${examples} examples are valid`);
