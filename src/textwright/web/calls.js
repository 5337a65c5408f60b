// The call that writes the same text elsewhere, to copy: curl, OpenAI's client, Python, command line.

import { changed, serverOptions } from "./changed.js";

const OPENAI = ["max_tokens", "temperature", "top_p", "presence_penalty", "frequency_penalty", "stop", "logit_bias"];

/**
 * request: {prompt, fields, begin, options, seed} · run: what the page says of it · address: of a server ·
 * keyed: whether it wants a key, which calls take from where the server does.
 * Returns a list of {name, text}.
 */
export function makeCalls({ prompt, fields, begin = [], options, seed }, run, address, keyed) {
  const begun = { ...(fields ? { fields } : { prompt }), ...(begin.length ? { begin } : {}) };
  const asked = { model: run.name, ...begun, ...serverOptions(options, run.options), seed };
  const own = { ...changed(options, run.options), ...run.off };
  return [
    { name: "curl", text: curl(asked, address, keyed) },
    { name: "openai", text: openai(asked, address, keyed) },
    { name: "Python", text: begin.length ? noBranch("Python") : python(prompt, fields, own, seed, run.name) },
    {
      name: "command line",
      text: begin.length ? noBranch("The command line") : commandLine(prompt, fields, own, seed, run.name),
    },
  ];
}

function noBranch(who) {
  return `# ${who} cannot begin a text with given tokens, as a branch does: ask a server by curl or openai.`;
}

function curl(asked, address, keyed) {
  const key = keyed ? ' \\\n  -H "Authorization: Bearer $TEXTWRIGHT_API_KEY"' : "";
  return `curl ${address}/v1/completions -H "Content-Type: application/json"${key} \\\n  -d ${quoted(json(asked))}`;
}

function openai({ model, prompt = null, ...rest }, address, keyed) {
  const known = Object.entries(rest).filter(([name]) => name === "seed" || OPENAI.includes(name));
  const beyond = Object.entries(rest).filter(([name]) => name !== "seed" && !OPENAI.includes(name));
  const given = [...Object.entries({ model, prompt }), ...known].map(([name, value]) => `    ${name}=${literal(value)},\n`);
  if (beyond.length) given.push(`    extra_body=${literal(Object.fromEntries(beyond))},\n`);
  const [imports, key] = keyed ? ["import os\n\nimport openai", 'os.environ["TEXTWRIGHT_API_KEY"]'] : ["import openai", '"none"'];
  return (
    `${imports}\n\nclient = openai.OpenAI(base_url="${address}/v1", api_key=${key})\n` +
    `answer = client.completions.create(\n${given.join("")})\nprint(answer.choices[0].text)`
  );
}

function python(prompt, fields, own, seed, name) {
  const given = Object.entries({ seed, ...own }).map(([key, value]) => `, ${key}=${literal(value)}`).join("");
  const open = `import textwright\n\nwriter = textwright.load(${literal(`runs/${name}`)})\n`;
  if (fields) return `${open}[values] = writer.fill(${literal(fields)}${given})\nprint(values)`;
  return `${open}[sample] = writer.generate(${literal(prompt)}${given})\nprint(sample.text)`;
}

function commandLine(prompt, fields, own, seed, name) {
  if (fields && !Object.keys(fields).length) return "# The command line writes fields where one is given: give one.";
  if (own.stop?.length === 0) return "# The command line cannot leave out the stop texts of the run: give one.";
  const begun = fields
    ? Object.entries(fields).map(([field, value]) => ["--field", `${field}=${value}`])
    : [["--prompt", prompt]];
  const flags = Object.entries({ seed, ...own }).flatMap(([key, value]) =>
    [value].flat().map((one) => [`--${key.replaceAll("_", "-")}`, one === Infinity ? "inf" : String(one)]),
  );
  const words = [...begun, ...flags].map(([flag, value]) => ` \\\n  ${flag} ${quoted(value)}`);
  return `textwright generate ${quoted(`runs/${name}`)}${words.join("")}`;
}

/** A word of the shell. */
function quoted(text) {
  return /^[\w./:=+-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

/** JSON with seeds of any size as numbers. */
export function json(value) {
  const { seed, ...rest } = value;
  const text = JSON.stringify(rest);
  return seed === undefined ? text : `${text.slice(0, -1)}, "seed": ${seed}}`;
}

/** A value as Python writes it. */
function literal(value) {
  if (value === null) return "None";
  if (value === Infinity) return 'float("inf")';
  if (Array.isArray(value)) return `[${value.map(literal).join(", ")}]`;
  if (typeof value === "object") {
    return `{${Object.entries(value).map(([key, one]) => `${literal(key)}: ${literal(one)}`).join(", ")}}`;
  }
  return typeof value === "string" ? JSON.stringify(value) : String(value);
}
