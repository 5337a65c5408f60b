// Blind rating: pairs of texts without names, one pair after another, and what the answers say.

import { counted } from "./counted.js";
import { find, make, makeTable } from "./elements.js";
import { keep, readKept } from "./keeping.js";
import { countRatings, drawFirst, ratingsDocument } from "./rating.js";
import { saveFile } from "./saving.js";
import { GAP } from "./shaded_text.js";
import { nameSides } from "./sides.js";
import { identityOf } from "./tree_store.js";

const SAME = 10; // pairs of equal texts in a row after which two sides count as the same

export class RatingView {
  /** attempt(work): does work that ends when its signal says so. */
  constructor(page, attempt) {
    this.page = page;
    this.attempt = attempt;
    this.ratings = [];
    find("first-better").addEventListener("click", () => this.answer(this.shown.first));
    find("second-better").addEventListener("click", () => this.answer(1 - this.shown.first));
    find("none-better").addEventListener("click", () => this.answer(null));
    find("save-ratings").addEventListener("click", () =>
      saveFile("ratings.json", JSON.stringify(ratingsDocument(this.ratings), null, 1)),
    );
    find("forget-ratings").addEventListener("click", () => this.forget());
    addEventListener("storage", ({ key }) => key === this.key && this.open());
  }

  /** Take up what was rated before with these runs. */
  open() {
    this.key = `textwright ratings: ${this.page.runs.map(identityOf).sort().join("; ")}`;
    find("ratings-unkept").textContent = readKept(this.key, (text) => {
      if (text !== null) this.ratings = [...JSON.parse(text).ratings];
    });
    if (find("pair").hidden) this.showResults();
  }

  /** Rate two sides, with the beginning and from the seed that the page has now. */
  async begin(sides, signal) {
    const request = await this.page.request();
    if (signal.aborted) return;
    this.asked = { ...request, sides };
    find("ratings").hidden = true; // what was answered should not sway what is answered next
    this.rated = 0;
    this.next(this.asked.seed);
  }

  /** Show the next pair from this seed on whose texts differ and were not rated yet. */
  next(seed) {
    this.offer(false);
    this.attempt(async (signal) => {
      const pair = await this.write(seed, signal);
      if (!signal.aborted) this.show(pair);
    });
  }

  async write(seed, signal) {
    const { sides, ...request } = this.asked;
    for (let same = 0; same < SAME; seed++) {
      if (this.ratings.some((rating) => keyOfPair(rating) === keyOfPair(this.ratingOf(seed)))) continue;
      const texts = await Promise.all(sides.map((side) => this.whole({ ...request, ...side, seed }, signal)));
      if (signal.aborted || texts[0] !== texts[1]) return { seed, texts };
      same++;
    }
    throw new Error(`Both wrote the same text ${SAME} times in a row: choose sides that differ more.`);
  }

  async whole(request, signal) {
    let text = "";
    for await (const token of this.page.engine.write(request, signal)) text += token.text;
    return text;
  }

  show({ seed, texts }) {
    const first = drawFirst();
    this.shown = { seed, texts, first };
    find("pair-title").textContent = `Pair ${this.rated + 1}: which is better?`;
    const stories = document.querySelectorAll("#pair .story");
    for (const [place, story] of stories.entries()) {
      const given = make("span", { className: "given", textContent: this.asked.prompt ?? "" });
      story.replaceChildren(given, texts[place ? 1 - first : first]);
    }
    this.offer(true);
    find("pair-title").focus(); // a screen reader reads on from here
  }

  /** better: the side whose text was chosen, 0 or 1; null: neither. */
  answer(better) {
    const { seed, texts, first } = this.shown;
    this.ratings = [...this.ratings, { ...this.ratingOf(seed), texts, first, better }];
    this.rated++;
    this.keep();
    this.next(seed + 1n);
  }

  ratingOf(seed) {
    const { sides, prompt, fields } = this.asked;
    return { sides, prompt, fields, seed: String(seed) };
  }

  /** Show the pair, and whether it can be answered. */
  offer(ready) {
    find("pair").hidden = false;
    for (const button of find("pair").querySelectorAll("button")) button.disabled = !ready;
  }

  end() {
    find("pair").hidden = true;
    this.showResults();
  }

  keep() {
    find("ratings-unkept").textContent = keep(this.key, JSON.stringify({ ratings: this.ratings }));
  }

  forget() {
    if (!confirm(`Delete ${counted(this.ratings.length, "rating")}? Save first what may be needed.`)) return;
    this.ratings = [];
    this.keep();
    find("rate").focus(); // the results, with the button that was pressed, are shown no more
    this.showResults();
  }

  showResults() {
    find("ratings").hidden = !this.ratings.length;
    const rows = countRatings(this.ratings).map(({ sides, better, ties, share, interval }) => {
      const names = nameSides(sides);
      const [middle, low, high] = [share, ...interval].map((value) => Math.round(100 * value));
      const said = share === null ? "no answer" : `${middle}${GAP}%, interval ${low} to ${high}${GAP}%`;
      return [...names, ...better.map(String), String(ties), said, verdict(names, interval)];
    });
    const heads = ["one", "other", "one better", "other better", "cannot say", `share of the one (95${GAP}%)`, "so far"];
    find("results").replaceChildren(makeTable("What you rated", heads, rows));
  }
}

function verdict(names, [low, high]) {
  if (low > 0.5) return `“${names[0]}” is better`;
  if (high < 0.5) return `“${names[1]}” is better`;
  return "no difference is shown";
}

function keyOfPair({ sides, prompt, fields, seed }) {
  return JSON.stringify([sides, prompt, fields, seed]);
}
