// The options that differ from a run's own.

import { DEFAULTS, inJSON } from "./sampling.js";

const OF_THE_RUN = ["forbid", "logit_bias", "no_copy"]; // what no page changes: no body gives it
const RENAMED = { min_new_tokens: "min_tokens", max_new_tokens: "max_tokens" };

/** Those that differ, by the names that the run has for them. */
export function changed(options, own) {
  const usual = { ...DEFAULTS, ...own, temperature: Number(own.temperature ?? 1) };
  const differ = ([name, value]) => JSON.stringify(value) !== JSON.stringify(usual[name]);
  return Object.fromEntries(Object.entries(options).filter(differ));
}

/** Those that differ, as the server takes them, and the length, which is the server's own otherwise. */
export function serverOptions(options, own) {
  const { max_new_tokens } = { ...DEFAULTS, ...options };
  const given = Object.entries(inJSON({ ...changed(options, own), max_new_tokens }));
  const taken = given.filter(([name]) => !OF_THE_RUN.includes(name));
  return Object.fromEntries(taken.map(([name, value]) => [RENAMED[name] ?? name, value]));
}
