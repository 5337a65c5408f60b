// A text, token by token, each with a shade, that is walked with the arrow keys.

import { make } from "./elements.js";

const MOST_BITS = 10; // of surprise: the strongest shade
export const GAP = "\u00a0"; // between a number and its sign: no line ends there
const PAUSE = 80; // milliseconds until a growing text is shown again: its layout takes longer than a token

export class ShadedText {
  /**
   * element: a listbox · name: begins the ids of its tokens · onLook(place): called when a token is
   * selected. A token is {text, before, finish_reason}, shaded by how little it was expected, or {text,
   * level}: a shade from −1 to 1, below 0 in another color.
   */
  constructor(element, name, onLook) {
    this.text = element;
    this.name = name;
    this.onLook = onLook;
    this.tokens = [];
    element.addEventListener("click", ({ target }) => {
      const place = this.placeOf(target);
      if (place >= 0) this.pick(place);
    });
    element.addEventListener("focus", () => {
      if (element.matches(":active")) return; // it is pressed, which says what to select
      if (this.selected < 0 && this.tokens.length) this.select(0);
      if (element.matches(":focus-visible")) this.reveal();
    });
    element.addEventListener("keydown", (event) => this.press(event));
  }

  /** Show these tokens; those that are added to the list later are shown by `grow` and `update`. */
  show(tokens) {
    this.tokens = tokens;
    this.selected = -1;
    this.text.replaceChildren();
    this.text.removeAttribute("aria-activedescendant");
    this.update();
  }

  /** Show the tokens that were added since, unless some were shown a moment ago. */
  grow() {
    if (performance.now() - this.shown > PAUSE) this.update();
  }

  /** Show the tokens that were added since. */
  update() {
    this.shown = performance.now();
    const before = this.text.children.length;
    this.text.append(...this.tokens.slice(before).map((token, place) => this.element(token, before + place)));
  }

  element(token, place) {
    const ends = token.finish_reason && !token.text;
    const properties = { className: "token", id: `${this.name}-${place}`, role: "option", ariaSelected: false };
    const [space] = token.text.match(/^ *(?=\S)/) ?? [""]; // without a shade, which would stand alone at a line's end
    const ink = make("span", { className: "ink" }, ends ? " ■" : token.text.slice(space.length));
    const element = make("span", properties, ...(space ? [space] : []), ...(ends || token.text ? [ink] : []));
    const level = token.level ?? Math.min(1, -Math.log2(token.before ?? 1) / MOST_BITS);
    if (level) element.style.setProperty("--level", Math.abs(level));
    element.classList.toggle("less", level < 0);
    element.classList.toggle("break", token.text.includes("\n") && !token.text.trim()); // it has no width of its own
    if (ends) {
      element.classList.add("end");
      element.ariaLabel = "end of the text";
    } else if (!token.text.trim()) element.ariaLabel = called(token);
    return element;
  }

  /** The number of the token that an element of the page belongs to; -1: none. */
  placeOf(element) {
    return [...this.text.children].indexOf(element.closest(".token"));
  }

  press(event) {
    const last = this.tokens.length - 1;
    const place = { ArrowRight: this.selected + 1, ArrowLeft: this.selected - 1, Home: 0, End: last }[event.key];
    if (place === undefined || last < 0) return;
    event.preventDefault();
    this.select(Math.max(0, Math.min(last, place)));
    this.reveal();
  }

  /** Select the token that was tapped. */
  pick(place) {
    this.select(place);
  }

  /** Bring the selected token into view. */
  reveal() {
    this.text.children[this.selected]?.scrollIntoView({ block: "nearest" });
  }

  select(place) {
    this.update();
    this.text.children[this.selected]?.setAttribute("aria-selected", "false");
    this.selected = place;
    const element = this.text.children[place];
    element.setAttribute("aria-selected", "true");
    this.text.setAttribute("aria-activedescendant", element.id);
    this.onLook(place);
  }
}

/** What a token is called: its text, without the space around it if it has another letter. Some add their text
 *  with a later one: bytes of a character, or what could begin a stop. */
export function called({ text, finish_reason }) {
  if (!text && !finish_reason) return "no text of its own";
  return text.trim() || visible(text);
}

/** A token's text with its white space shown, and bytes of a character as they are written. */
export function visible(text) {
  return text ? text.replace(/^bytes:/, "").replaceAll(" ", "␣").replaceAll("\n", "⏎").replaceAll("\t", "⇥") : "■ end of the text";
}

export function percent(p) {
  return p < 0.0001 ? `<${GAP}0.01${GAP}%` : `${(100 * p).toFixed(p < 0.0995 ? 2 : 1)}${GAP}%`;
}
