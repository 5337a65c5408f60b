// The page: a prompt, the text that an engine writes after it, and what each token could have been.
// Parts of it stand in modules of their own, which hear of what happens as events of the page:
//
//   "run"      page.run is another        (what the engine's side says of it)
//   "text"     page.shown is another text, or the tree of texts has changed
//   "token"    page.place is another place of the text; -1: none
//   "ended"    the text that was written has ended, or was stopped
//   "ready"    page.engine writes

import { asked } from "./asked.js";
import { Beginning } from "./beginning.js";
import { CallsView } from "./calls_view.js";
import { showCard } from "./card.js";
import { Comparison } from "./comparison.js";
import { counted } from "./counted.js";
import { copyText, find, turnOff } from "./elements.js";
import { InsideView } from "./inside_view.js";
import { keepInWindow, readInWindow } from "./keeping.js";
import { showLossCurve } from "./loss_curve.js";
import { Settings } from "./settings.js";
import { TokenList } from "./token_list.js";
import { Tree, wholeText } from "./tree.js";
import { joinTree, keepTree, openTree } from "./tree_store.js";
import { TreeView } from "./tree_view.js";

const CHOSEN = `textwright run: ${location.pathname}`; // kept until the window is closed, as is
const SHOWN = `textwright text: ${location.pathname}`;
const MOST_GIVEN = 1_200; // characters of a prompt that stand before the text; of a longer one, half as many
const PIECES_OF = { word: "words", char: "characters", symbols: "symbols", bpe: "pieces of words" };

/**
 * Show the page. runs(): promises what is said of each run · openEngine(): promises an object with the
 * calls of engine.js · useKey(key): from now on · keyed(): whether there is one · address: of a server,
 * for calls that do the same · waiting, privacy: sentences.
 */
export function openPage(side) {
  const page = new Page(side);
  for (const Part of [TreeView, CallsView, InsideView, Comparison]) new Part(page);
  return page.open();
}

export class Page extends EventTarget {
  constructor(side) {
    super();
    this.place = -1; // of the token that is looked at
    this.tree = new Tree();
    this.shownId = null;
    this.writing = new AbortController();
    this.looking = new AbortController(); // at the place
    this.side = side;
    this.settings = new Settings(find("form"), find("order"), find("ending"));
    this.beginning = new Beginning(() => this.tellUnknown());
    this.list = new TokenList(find("text"), find("choices"), {
      onLook: (at) => this.look(at),
      onChoice: (at, other) => this.branch(at, other),
      onClose: () => this.looking.abort(),
    });
  }

  async open() {
    find("privacy").textContent = this.side.privacy;
    find("form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.write(this.request());
    });
    find("form").addEventListener("invalid", ({ target }) => target.closest("details")?.setAttribute("open", ""), true);
    find("prompt").addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) find("write").click();
    });
    find("another").addEventListener("click", () => {
      this.settings.seed += 1n;
      find("write").click();
    });
    find("halt").addEventListener("click", () => this.halt());
    find("go-on").addEventListener("click", () => this.goOn());
    find("copy-text").addEventListener("click", () => {
      copyText(wholeText(this.shown), find("written").querySelector(".story"), find("copied-text"));
    });
    find("runs").addEventListener("change", ({ target }) => this.choose(this.runs[target.selectedIndex]));
    find("key").addEventListener("submit", (event) => {
      event.preventDefault();
      const field = find("key").elements.key;
      this.side.useKey(field.value);
      field.value = "";
      this.beginning.focus();
      find("key").hidden = true;
      this.begin();
    });
    addEventListener("pagehide", () => this.keep());
    addEventListener("storage", () => this.run && this.follow(() => joinTree(this.run, this.tree)));
    await this.begin();
  }

  async begin() {
    this.say(this.side.waiting);
    await this.attempt(async () => {
      this.runs = await this.side.runs();
      find("runs").replaceChildren(...this.runs.map(({ name }) => new Option(name)));
      find("runs").parentElement.hidden = this.runs.length < 2;
      const named = (wanted) => this.runs.find(({ name }) => name === wanted);
      const again = named(this.run?.name); // after another key
      if (again) find("runs").value = (this.run = again).name;
      else this.choose(named(readInWindow(CHOSEN)) ?? this.runs[0]);
      this.say(this.side.waiting);
      this.engine = await this.side.openEngine();
      find("write").disabled = find("another").disabled = false;
      this.offerMore();
      this.say("Ready.");
      this.tell("ready");
      this.tellUnknown();
      if (this.place >= 0) this.look(this.place);
    });
  }

  /** Write with this run from now on. */
  choose(run) {
    this.halt();
    this.run = run;
    find("runs").value = run.name;
    keepInWindow(CHOSEN, run.name);
    document.title = run.name;
    find("name").textContent = run.name;
    const size = run.tokenizer.size.toLocaleString("en");
    find("about").textContent = `${run.title} language model of ${size} ${PIECES_OF[run.tokenizer.kind]}`;
    find("license").parentElement.hidden = !run.license;
    find("license").textContent = run.license;
    showCard(find("card"), run.card);
    showLossCurve(find("curve"), run.loss_curve);
    this.settings.show(run);
    this.beginning.show(run);
    const { tree, problem } = openTree(run);
    this.tree = tree;
    find("unkept").textContent = problem;
    this.tell("run");
    this.show((tree.get(Number(readInWindow(SHOWN))) ?? tree.texts.at(-1))?.id ?? null);
    this.tellUnknown();
  }

  /** What would be written now: a text without tokens. */
  async request() {
    const { options, seed } = this.settings;
    const { fields = null } = this.beginning.value;
    const run = this.run.name;
    const { text, unknown } = await this.engine.tokenize({ run, ...this.beginning.value });
    this.sayUnknown(unknown);
    return { run, prompt: text, fields, options, seed };
  }

  /** Name the words of the beginning that the vocabulary lacks, or say why none can be read. */
  async tellUnknown() {
    if (!this.engine) return;
    const asking = (this.asking = Symbol()); // an earlier answer may come later
    try {
      const { unknown } = await this.engine.tokenize({ run: this.run.name, ...this.beginning.value });
      if (asking === this.asking) this.sayUnknown(unknown);
    } catch (error) {
      if (asking === this.asking) find("unknown").textContent = error.message;
      this.askKey(error);
    }
  }

  sayUnknown(unknown) {
    find("unknown").textContent = unknown.length ? `The model does not know: ${unknown.join(", ")}` : "";
  }

  /** Write from the same beginning with another token, as the form says now: so many tokens from there on. */
  branch(place, { id, before }) {
    if (!find("form").reportValidity()) return;
    const { run, prompt, fields, tokens, id: parent } = this.shown;
    const { options, seed } = this.settings;
    const longer = { ...options, max_new_tokens: place + options.max_new_tokens };
    const begun = { run, prompt, fields, options: longer, seed, parent, place };
    this.write({ ...begun, tokens: tokens.slice(0, place) }, { id, before });
  }

  /** Go on with the text that is shown, where it was cut off: as if its limit had been higher from the beginning. */
  goOn() {
    const { options, tokens, ...shown } = this.shown;
    const more = this.settings.options.max_new_tokens;
    if (!(more > 0)) return find("form").reportValidity();
    const longer = { ...options, max_new_tokens: Math.max(options.max_new_tokens, tokens.length + more) };
    this.write({ ...shown, options: longer, tokens: tokens.slice(0, -1) }, tokens.at(-1));
  }

  /**
   * Write a text to its end, in the tree: its own if it is there already. beginning: the text, or the promise
   * of it · chosen: the token after those that it has.
   */
  async write(beginning, chosen = null) {
    this.stop("Writing…");
    const { signal } = (this.writing = new AbortController());
    this.count = 0; // of the tokens that were written
    find("halt").disabled = false;
    await this.attempt(async () => {
      const begun = await beginning;
      if (signal.aborted) return;
      const { tokens: given = [] } = begun;
      const known = chosen ? [...given, chosen] : given;
      const request = asked(begun, known);
      const same = begun.id ? null : this.tree.written(request);
      if (same) {
        this.show(same.id);
        return this.stop("This text was written before. Another one: Another, or another seed.");
      }
      const asking = performance.now();
      let started = null; // when the first new token came
      let tokens = null; // of the text, as soon as it has begun
      let read = 0;
      for await (const token of this.engine.write(request, signal)) {
        if (signal.aborted) break;
        tokens ??= this.put({ ...begun, begin: begun.begin ?? request.begin, tokens: [...given] }).tokens;
        if (read >= known.length) started ??= performance.now();
        if (read >= given.length) tokens.push({ ...token, before: token.before ?? known[read]?.before ?? null });
        this.count = tokens.length - given.length;
        read++;
        this.list.grow();
      }
      if (signal.aborted) return; // an engine may end a text early, without an error
      // The first one also took the reading of what stands before it.
      const [timed, since] = this.count > 1 ? [this.count - 1, started] : [1, asking];
      const speed = Math.round((1000 * timed) / (performance.now() - since)).toLocaleString("en");
      this.stop(`${counted(this.count, "token")}, ${speed} a second. ${ENDINGS[tokens.at(-1).finish_reason]}`);
    }, signal);
  }

  /** Put a text into the tree, where it has an id in place of itself, and show it. */
  put(text) {
    const { id, options, tokens } = text;
    const put = id ? this.tree.goOn(id, options, tokens) : this.tree.add(text);
    this.show(put.id);
    return put;
  }

  /** Add a text that was written beside the page, to the tree of its run, and show it. */
  take(text) {
    if (text.run !== this.run.name) {
      const { value } = find("prompt");
      this.choose(this.runs.find(({ name }) => name === text.run));
      find("prompt").value = value;
      this.tellUnknown();
    }
    this.show(this.tree.add(text).id);
    this.stop("It stands among the texts.");
  }

  get isWriting() {
    return !find("halt").disabled;
  }

  /** End what is being written, at the person's wish, and say how far it came. */
  halt() {
    const sentence = this.count ? `Stopped: ${counted(this.count, "token")}.` : "Stopped.";
    this.stop(this.isWriting ? sentence : "");
  }

  /** End what is being written. */
  stop(message) {
    this.writing.abort();
    if (this.isWriting) this.tell("ended");
    turnOff(find("halt"), find("write"));
    this.list.rest();
    this.offerMore();
    this.say(message);
    this.keep();
  }

  /** Offer to go on with the text that is shown if it was cut off. */
  offerMore() {
    const last = this.shown?.tokens.at(-1);
    const cut = last && last.id !== null && [undefined, null, "length"].includes(last.finish_reason);
    find("go-on").disabled = !cut || !this.engine || this.isWriting;
  }

  /** The text that is shown, or null. */
  get shown() {
    return this.tree.get(this.shownId);
  }

  show(id) {
    this.shownId = id;
    keepInWindow(SHOWN, String(id));
    this.place = -1;
    this.looking.abort();
    find("written").hidden = !this.shown;
    find("given").textContent = shortened(this.shown?.prompt ?? "");
    find("copied-text").textContent = "";
    this.offerMore();
    this.list.show(this.shown?.tokens ?? []);
    this.tell("text");
  }

  /** Change the tree. */
  changeTree(work) {
    if (this.isWriting) this.halt();
    this.follow(() => work(this.tree));
    this.keep();
  }

  /** Keep the tree for the next time. */
  keep() {
    if (this.run) this.follow(() => (find("unkept").textContent = keepTree(this.run, this.tree)));
  }

  /** Do what may change the tree, and show what is left if the text that is shown went. */
  follow(work) {
    const { texts } = this.tree;
    const parent = this.shown?.parent ?? null;
    work();
    if (this.tree.texts === texts) return;
    if (this.shown) this.tell("text");
    else this.show((this.tree.get(parent) ?? this.tree.texts.at(-1))?.id ?? null);
  }

  /** Say what the token at a place could have been. */
  look(place) {
    this.place = place;
    this.tell("token");
    this.looking.abort();
    if (!this.engine) return; // once it is ready, it is asked
    const { signal } = (this.looking = new AbortController());
    const { tokens } = this.shown;
    const request = { ...asked(this.shown, tokens.slice(0, place)), target: tokens[place].id };
    const work = async () => {
      const alternatives = await this.engine.alternatives(request, signal);
      if (!signal.aborted) this.list.showChoices(place, alternatives);
    };
    this.attempt(work, signal, () => this.list.hideChoices());
  }

  say(message, failed = false) {
    find("status").textContent = message;
    find("status").classList.toggle("error", failed);
  }

  tell(event) {
    this.dispatchEvent(new Event(event));
  }

  /** Do work; say what went wrong, and call `failed` with it, unless it was ended by the signal. */
  async attempt(work, signal, failed) {
    try {
      await work();
    } catch (error) {
      if (signal?.aborted) return;
      failed?.(error);
      if (signal === this.writing.signal) this.stop("");
      this.say(error.message, true);
      this.askKey(error);
    }
  }

  /** Ask for the key of the server, if that is what was lacking. */
  askKey(error) {
    if (!error.wantsKey) return;
    find("key").hidden = false;
    find("key").elements.key.focus();
  }
}

/** A prompt as it stands before the text. */
function shortened(prompt) {
  if (prompt.length <= MOST_GIVEN) return prompt;
  const shown = prompt.slice(-MOST_GIVEN / 2);
  return `[${(prompt.length - shown.length).toLocaleString("en")} characters before] …${shown}`;
}

const ENDINGS = {
  stop: "The text ended.",
  length: "Cut off at the most new tokens; Go on writes more.",
  no_token_left: "Every token that could come next is forbidden by the settings.",
};
