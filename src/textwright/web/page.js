// The page: a prompt, the text that the engine writes after it, and what each token could have been.
// A text that goes on from another choice stands beside the one that it branched from.

import { showCard } from "./card.js";
import { DEFAULTS } from "./sampling.js";
import { TokenList } from "./token_list.js";

const BOLDNESS = { careful: { temperature: 0.5, top_p: 0.9 }, own: {}, bold: { temperature: 1.2, top_p: 0.98 } };
const PIECES_OF = { word: "words", char: "characters", symbols: "symbols", bpe: "pieces of words" };
const PAUSE = 80; // milliseconds until a growing text is shown again: its layout takes longer than a token
const find = (id) => document.getElementById(id);

/** Show the page of a run. openEngine: promises an object with the calls of engine.js, answered with promises. */
export function openPage(run, openEngine) {
  new Page(run).open(openEngine);
}

class Page {
  constructor(run) {
    this.run = run;
    this.form = find("form");
    this.texts = []; // {parent, prompt, options, seed, tokens}
    this.turn = 0; // raised to end the writing in progress
    this.list = new TokenList(find("text"), find("choices"), (place, id) => this.branch(place, id));
  }

  async open(openEngine) {
    const { run } = this;
    document.title = run.name;
    find("name").textContent = run.name;
    const size = run.tokenizer.tokens.length.toLocaleString("en");
    find("about").textContent = `${run.model.title} language model of ${size} ${PIECES_OF[run.tokenizer.kind]}`;
    find("prompt").value = run.prompt;
    find("license").textContent = run.license || "not stated";
    showCard(find("card"), run.card);
    this.setOptions("own");
    this.form.addEventListener("submit", (event) => this.submit(event));
    this.form.addEventListener("change", ({ target }) => target.name === "boldness" && this.setOptions(target.value));
    find("prompt").addEventListener("input", () => this.attempt(() => this.tellUnknown()));
    find("prompt").addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) find("write").click();
    });
    find("another").addEventListener("click", () => {
      this.form.seed.value = BigInt.asUintN(64, BigInt(this.form.seed.value || 0) + 1n);
      find("write").click();
    });
    find("halt").addEventListener("click", () => this.stop("Stopped."));
    this.say("Unpacking the model…");
    await this.attempt(async () => {
      this.engine = await openEngine();
      await this.tellUnknown();
      find("write").disabled = find("another").disabled = false;
      this.say("Ready.");
    });
  }

  /** Fill in the run's own settings, changed as the word says. */
  setOptions(boldness) {
    const options = { ...DEFAULTS, ...this.run.options, ...BOLDNESS[boldness] };
    for (const [name, value] of Object.entries(options)) {
      const field = this.form.elements[name];
      if (field) field.value = name === "stop" ? value.map(inOneLine).join("\n") : value;
    }
  }

  options() {
    const { elements } = this.form;
    const numbers = Object.keys(DEFAULTS).filter((name) => name in elements && name !== "stop");
    return {
      ...this.run.options,
      ...Object.fromEntries(numbers.map((name) => [name, Number(elements[name].value)])),
      stop: elements.stop.value.split("\n").filter((line) => line).map((line) => line.replaceAll("\\n", "\n")),
    };
  }

  /** Name the words of the prompt that the vocabulary lacks. */
  async tellUnknown() {
    if (!this.engine) return;
    const { unknown } = await this.engine.tokenize(find("prompt").value);
    find("unknown").textContent = unknown.length ? `The model does not know: ${unknown.join(", ")}` : "";
  }

  submit(event) {
    event.preventDefault();
    const spaced = ["word", "symbols"].includes(this.run.tokenizer.kind); // tokens bring the space before them
    const prompt = spaced ? find("prompt").value.trimEnd() : find("prompt").value;
    this.write({ parent: null, prompt, options: this.options(), seed: BigInt(this.form.seed.value), tokens: [] });
  }

  /** Go on from the same beginning with another token. */
  branch(place, id) {
    const { prompt, options, seed, tokens } = this.shown;
    const parent = this.texts.indexOf(this.shown);
    this.write({ parent, prompt, options, seed, tokens: tokens.slice(0, place) }, id);
  }

  /** Add a text and write it to its end. */
  async write(text, chosen = null) {
    const turn = ++this.turn;
    await this.attempt(async () => {
      const { prompt, options, seed } = text;
      const written = text.tokens.map(({ id }) => id);
      await this.engine.start({ prompt, written, options, seed });
      this.texts.push(text);
      this.show(text);
      find("halt").disabled = false;
      this.say("Writing…");
      const begun = performance.now();
      let shown = 0;
      let token = null;
      do {
        token = await this.engine.choose(token ? null : chosen);
        if (turn !== this.turn) return;
        text.tokens.push(token);
        if (performance.now() - shown > PAUSE) {
          this.list.update();
          shown = performance.now();
        }
      } while (!token.finish_reason);
      const seconds = (performance.now() - begun) / 1000;
      const count = text.tokens.length - written.length;
      const speed = Math.round(count / seconds).toLocaleString("en");
      this.stop(`${count} tokens, ${speed} a second. ${ENDINGS[token.finish_reason]}`);
    });
  }

  stop(message) {
    this.turn++;
    find("halt").disabled = true;
    this.list.update();
    this.say(message);
  }

  show(text) {
    this.shown = text;
    find("written").hidden = false;
    find("given").textContent = text.prompt;
    this.list.show(text.tokens);
    this.showTexts();
  }

  /** A button for each text, by what it begins with. */
  showTexts() {
    const items = this.texts.map((text, number) => {
      const button = document.createElement("button");
      const from = text.parent === null ? `seed ${text.seed}` : `from ${text.parent + 1}`;
      button.textContent = `${number + 1} · ${from}`;
      if (text === this.shown) button.setAttribute("aria-current", "true");
      button.addEventListener("click", () => {
        this.stop("");
        this.show(text);
      });
      const item = document.createElement("li");
      item.append(button);
      return item;
    });
    const list = document.createElement("ul");
    list.append(...items);
    find("texts").replaceChildren(list);
    find("texts").hidden = items.length < 2;
  }

  say(message, failed = false) {
    find("status").textContent = message;
    find("status").classList.toggle("error", failed);
  }

  async attempt(work) {
    try {
      await work();
    } catch (error) {
      this.stop("");
      this.say(error.message, true);
    }
  }
}

const ENDINGS = {
  stop: "The text ended.",
  length: "The most new tokens are written.",
  no_token_left: "Every token that could come next is forbidden by the settings.",
};

/** A stop text on a line of its own: a line break in it is written \n. */
function inOneLine(text) {
  return text.replaceAll("\n", "\\n");
}
