// Shows the AsyncAPI document. Its text becomes text nodes, never markup.

import { $, channels, element, prose } from "./shared.js";

// Maximum depth of fields in a table.
const MAX_DEPTH = 6;

const code = (text) => element("code", {}, text);

let api;

const pointer = (reference) => reference.slice(2).split("/").reduce((value, name) => value[name], api);

function resolve(value) {
  if (!value.$ref) return value;
  return { ...pointer(value.$ref), ...(value.description && { description: value.description }) };
}

function typeOf(schema) {
  const resolved = resolve(schema);
  if (resolved.enum) return resolved.enum.map((value) => JSON.stringify(value)).join(" or ");
  const alternatives = resolved.oneOf ?? resolved.anyOf;
  if (alternatives) return [...new Set(alternatives.map(typeOf))].join(" or ");
  const types = [resolved.type ?? "any JSON"].flat();
  return types.map((type) => (type === "array" && resolved.items ? `array of ${typeOf(resolved.items)}` : type)).join(" or ");
}

// One row per field of a schema, with the fields of nested objects.
function rowsOf(schema, prefix = "", depth = 0) {
  const resolved = resolve(schema);
  if (depth > MAX_DEPTH) return [];
  if (resolved.items) return rowsOf(resolved.items, `${prefix}[]`, depth + 1);
  const alternatives = (resolved.oneOf ?? resolved.anyOf ?? []).flatMap((part) => rowsOf(part, prefix, depth + 1));
  const fields = Object.entries(resolved.properties ?? {});
  // `type` comes first, as in the messages.
  fields.sort(([one], [other]) => (other === "type") - (one === "type"));
  const rows = fields.flatMap(([name, schema]) => {
    const path = prefix ? `${prefix}.${name}` : name;
    const field = resolve(schema);
    const presence = resolved.required?.includes(name) ? "always" : "optional";
    return [[code(path), typeOf(field), presence, prose(field.description ?? "")], ...rowsOf(field, path, depth + 1)];
  });
  return [...rows, ...alternatives];
}

// A table that scrolls within its box. Without rows, there is none.
function table(label, headings, rows) {
  if (rows.length === 0) return [];
  const head = element("tr", {}, headings.map((heading) => element("th", { scope: "col" }, heading)));
  const body = rows.map((row) => element("tr", {}, row.map((cell) => element("td", {}, cell))));
  const inner = element("table", {}, element("thead", {}, head), element("tbody", {}, body));
  return [element("div", { className: "wide", tabIndex: 0, role: "region", ariaLabel: label }, inner)];
}

function messageDetails(message, direction) {
  const hint = element("span", { className: "hint" }, direction);
  const summary = element("summary", {}, code(message.name), " ", hint, " ", prose(message.description));
  const fields = table(`Fields of ${message.name}`, ["Field", "Type", "Present", "Meaning"], rowsOf(message.payload));
  const examples = message.examples.map(({ payload }) => element("pre", {}, JSON.stringify(payload)));
  return element("details", {}, summary, fields, examples);
}

function channelSection(channel) {
  const query = channel.bindings.ws.query;
  const parameters = [
    ...Object.entries(channel.parameters).map(([name, { description }]) => [code(name), "path", "yes", prose(description)]),
    ...Object.entries(query.properties).map(([name, { description }]) =>
      [code(name), "query", query.required.includes(name) ? "yes" : "no", prose(description)]),
  ];
  // The server receives the messages of clients.
  const messages = [["receive", "client → server"], ["send", "server → client"]].flatMap(([action, direction]) =>
    (api.operations[`${channel.id}.${action}`]?.messages ?? []).map(({ $ref }) => messageDetails(pointer($ref), direction)));
  const closes = channel["x-close-codes"].map((close) => [code(String(close.code)), close.reason, prose(close.description)]);
  return element("section", { id: `channel-${channel.id}` },
    element("h2", {}, `${channel.title} `, element("span", { className: "hint" }, channel.tags[0].name)),
    element("p", {}, prose(channel.description)),
    element("p", {}, code(channel.url)),
    table("Parameters", ["Parameter", "In", "Required", "Meaning"], parameters),
    messages,
    table("Close codes", ["Close code", "Reason", "Cause"], closes));
}

async function start() {
  const found = await channels();
  api = found.api;
  $("version").textContent = api.info.version;
  $("contents").append(...found.list.map(({ id, title }) => element("a", { href: `#channel-${id}` }, title)));
  $("channels").append(...found.list.map(channelSection));
  if (location.hash) $(location.hash.slice(1))?.scrollIntoView();
}

start().catch((error) => {
  $("failure").textContent = `The document could not be loaded: ${error.message}. Reload the page.`;
  $("failure").hidden = false;
});
