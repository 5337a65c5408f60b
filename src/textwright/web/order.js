// The steps of sampling in their order with the values in force, in the words of
// writing/sampling_options.py: a list of [name, value]. A value "off" changes nothing.

export function explainSteps(options) {
  const bias = options.logit_bias.map(([id, value]) => `${id} ${value < 0 ? "" : "+"}${short(value)}`).join(", ");
  const { presence_penalty, frequency_penalty } = options;
  const penalties = presence_penalty || frequency_penalty;
  return [
    ["bias", bias || "off"],
    ["forbidden tokens", options.forbid.join(", ") || "off"],
    ["repetition penalty (prompt and text)", options.repetition_penalty === 1 ? "off" : short(options.repetition_penalty)],
    ["presence and frequency penalty (text)", penalties ? `${short(presence_penalty)} and ${short(frequency_penalty)}` : "off"],
    ["no-repeat n-grams (prompt and text)", given(options.no_repeat_ngram, (n) => `no ${n} tokens in a row twice`)],
    ["no copies (prompt and text)", given(options.no_copy, (n) => `no ${n} tokens in a row as in the training text`)],
    ["minimum length", given(options.min_new_tokens, (n) => `no end before ${n} new tokens`)],
    ["temperature", TEMPERATURES[options.temperature] ?? `${short(options.temperature)}: logits divided by it`],
    ["top-k", given(options.top_k, (k) => `${k} likeliest and ties`)],
    ["top-p", options.top_p < 1 ? `likeliest up to ${short(options.top_p)}` : "off"],
    ["min-p", given(options.min_p, (p) => `at least ${short(p)} of the likeliest`)],
    ["typical", options.typical_p < 1 ? `nearest the entropy, up to ${short(options.typical_p)}` : "off"],
    ["draw", options.temperature === 0 ? "no chance involved" : "by seed, sample, position"],
  ];
}

/** When a text ends. */
export function explainEnd({ stop, max_new_tokens }) {
  const stops = stop.map((text) => `, '${text.replaceAll("\n", "\\n")}'`).join("");
  return `ends at the stop token${stops} or ${max_new_tokens} new tokens`;
}

const TEMPERATURES = {
  0: "0: the likeliest token, always (of equals, the lowest id)",
  1: "1: the model's own distribution",
  Infinity: "inf: even odds for what the filters below leave (they see the model's own)",
};

function given(value, say) {
  return value ? say(value) : "off";
}

/** A number with six digits at most. */
function short(value) {
  return String(Number(value.toPrecision(6)));
}
