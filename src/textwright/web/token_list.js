// The tokens of a text, shaded by how little they were expected, and for the selected one what else
// it could have been.

import { called, percent, ShadedText, visible } from "./shaded_text.js";

export class TokenList extends ShadedText {
  /**
   * text, choices: their elements · onLook(place): called when a token is selected; `showChoices` is to
   * follow · onChoice(place, alternative): called when another token is chosen.
   */
  constructor(text, choices, { onLook, onChoice }) {
    super(text, "token", onLook);
    this.choices = choices;
    this.onChoice = onChoice;
    this.listed = -1; // the place whose choices are shown
    this.wanted = -1; // the place whose choices are to have the focus when they come
    choices.addEventListener("keydown", ({ key }) => key === "Escape" && text.focus());
  }

  /** Show these tokens; if one was just chosen from the list, go back to the text, before that token. */
  show(tokens) {
    const chosen = this.choices.contains(document.activeElement);
    super.show(tokens);
    this.hideChoices();
    this.wanted = -1;
    if (!chosen) return;
    if (tokens.length) this.select(tokens.length - 1);
    this.text.focus();
    this.reveal();
  }

  press(event) {
    super.press(event);
    this.wanted = -1;
    if (event.key !== "Enter") return;
    event.preventDefault();
    if (this.listed === this.selected) this.enter();
    else this.wanted = this.selected;
  }

  select(place) {
    this.choices.setAttribute("aria-busy", place !== this.listed); // until those of this place come
    super.select(place);
  }

  /** Go to the choices. */
  enter() {
    this.choices.querySelector("button")?.focus();
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
    if (inside || (this.wanted === place && document.activeElement === this.text)) this.enter();
  }

  hideChoices() {
    this.choices.hidden = true;
    this.choices.setAttribute("aria-busy", false);
    this.listed = -1;
  }

  row(place, alternative, token) {
    const { id, text, before, after } = alternative;
    const row = document.createElement("tr");
    const button = document.createElement("button");
    button.textContent = visible(text);
    button.setAttribute("aria-pressed", id === token.id);
    button.style.setProperty("--share", before);
    button.addEventListener("click", () => this.selected === place && this.onChoice(place, alternative));
    row.classList.toggle("removed", !after);
    row.append(...[button, percent(before), after ? percent(after) : "removed"].map((content) => {
      const cell = document.createElement("td");
      cell.append(content);
      return cell;
    }));
    return row;
  }
}
