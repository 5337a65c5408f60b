// The tokens of a text, shaded by how little they were expected, and for the selected one what else
// it could have been.

import { find, make } from "./elements.js";
import { called, percent, ShadedText, visible } from "./shaded_text.js";

const RESTING = 150; // milliseconds that a pointer rests on a token before its choices are asked for

export class TokenList extends ShadedText {
  /**
   * text, choices: their elements · onLook(place): called when a token is selected; `showChoices` is to
   * follow · onChoice(place, alternative): called when another token is chosen · onClose(): called when no
   * choices are to follow.
   */
  constructor(text, choices, { onLook, onChoice, onClose }) {
    super(text, "token", onLook);
    this.choices = choices;
    this.onChoice = onChoice;
    this.pinned = false; // whether a token was tapped, which a pointer that moves on leaves as it is
    this.listed = -1; // the place whose choices are shown
    this.wanted = -1; // the place whose choices are to have the focus when they come
    this.chosen = -1; // the place of a token that was chosen from the list, until it comes
    choices.addEventListener("keydown", ({ key }) => key === "Escape" && text.focus());
    find("close-choices").addEventListener("click", () => {
      onClose();
      text.focus({ preventScroll: true });
      this.hideChoices();
    });
    // Where the choices stand beside the text (page.css): elsewhere they would come under the pointer.
    const beside = matchMedia("(min-width: 70rem)");
    text.addEventListener("pointerover", ({ target, pointerType }) => {
      clearTimeout(this.resting);
      if (pointerType === "mouse" && beside.matches) this.resting = setTimeout(() => this.point(target), RESTING);
    });
    text.addEventListener("pointerleave", () => clearTimeout(this.resting));
  }

  /** Look at the token under the pointer, unless one was tapped or is walked to by keyboard. */
  point(element) {
    const place = this.placeOf(element);
    const keyed = this.text.matches(":focus-visible") || this.choices.querySelector(":focus-visible");
    if (place >= 0 && place !== this.listed && !this.pinned && !keyed) this.select(place);
  }

  pick(place) {
    this.pinned = true;
    super.pick(place);
  }

  /** Show these tokens. If the next one was just chosen from the list, that stays until its own choices come. */
  show(tokens) {
    if (this.choices.contains(document.activeElement)) this.text.focus({ preventScroll: true });
    const { chosen } = this;
    this.hideChoices();
    super.show(tokens);
    this.wanted = -1;
    if (chosen !== tokens.length) return;
    this.chosen = chosen;
    this.pinned = true;
    this.choices.hidden = false;
    this.choices.setAttribute("aria-busy", true);
  }

  /** Show the tokens that were added since; the one that was chosen is selected. */
  update() {
    super.update();
    if (this.chosen < 0 || this.chosen >= this.tokens.length) return;
    this.select(this.chosen);
    this.reveal();
  }

  /** Show what there is: nothing is added any more. */
  rest() {
    this.update();
    this.chosen = -1;
    if (this.selected < 0) this.hideChoices();
  }

  press(event) {
    super.press(event);
    this.wanted = -1;
    if (event.key !== "Enter") return;
    event.preventDefault();
    if (this.listed === this.selected) return this.enter();
    if (this.choices.ariaBusy !== "true") this.select(this.selected); // they were closed, or refused
    this.wanted = this.selected;
  }

  select(place) {
    this.chosen = -1;
    this.choices.setAttribute("aria-busy", place !== this.listed); // until those of this place come
    if (this.choices.hidden) {
      this.choices.querySelector("h2").textContent = `“${called(this.tokens[place])}” …`;
      this.choices.querySelector("tbody").replaceChildren();
      this.choices.hidden = false;
    }
    super.select(place);
  }

  /** Go to the choices. */
  enter() {
    this.choices.querySelector("tbody button")?.focus();
  }

  /** Show what the selected token could have been. */
  showChoices(place, alternatives) {
    const token = this.tokens[place];
    this.choices.querySelector("h2").textContent =
      token.id === null ? "Nothing could come here" : `“${called(token)}” had a probability of ${percent(token.before)}`;
    const rows = alternatives.map((other) => this.row(place, other, token));
    const inside = this.choices.contains(document.activeElement);
    this.choices.querySelector("tbody").replaceChildren(...rows);
    this.choices.hidden = false;
    this.choices.setAttribute("aria-busy", false);
    this.listed = place;
    this.choices.scrollTop = 0;
    if (this.pinned || this.text.matches(":focus-visible")) this.reveal(); // they may have come over it
    if (inside || (this.wanted === place && document.activeElement === this.text)) this.enter();
  }

  hideChoices() {
    this.pinned = false;
    this.choices.hidden = true;
    this.choices.setAttribute("aria-busy", false);
    this.listed = this.chosen = -1;
  }

  row(place, alternative, token) {
    const { id, text, before, after } = alternative;
    const button = make("button", { ariaPressed: id === token.id }, visible(text));
    button.style.setProperty("--share", before);
    button.addEventListener("click", () => {
      if (this.selected !== place) return;
      this.onChoice(place, alternative); // which ends what was written before
      this.chosen = place;
    });
    const cells = [button, percent(before), after ? percent(after) : "removed"].map((content) => make("td", {}, content));
    return make("tr", { className: after ? "" : "removed" }, ...cells);
  }
}
