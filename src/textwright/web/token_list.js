// The tokens of a text, shaded by how little they were expected, and for the selected one what else
// it could have been.

const MOST_BITS = 10; // of surprise: the strongest shade

export class TokenList {
  /**
   * text, choices: their elements · onLook(place): called when a token is selected; `showChoices` is to
   * follow · onChoice(place, alternative): called when another token is chosen.
   */
  constructor(text, choices, { onLook, onChoice }) {
    this.text = text;
    this.choices = choices;
    this.onLook = onLook;
    this.onChoice = onChoice;
    this.tokens = [];
    text.addEventListener("click", ({ target }) => {
      const place = [...text.children].indexOf(target);
      if (place >= 0) this.select(place);
    });
    text.addEventListener("focus", () => this.selected < 0 && this.tokens.length && this.select(0));
    text.addEventListener("keydown", (event) => this.press(event));
    choices.addEventListener("keydown", ({ key }) => key === "Escape" && text.focus());
  }

  /** Show these tokens; those that are added to the list later are shown by `update`. */
  show(tokens) {
    this.tokens = tokens;
    this.selected = -1;
    this.text.replaceChildren();
    this.text.removeAttribute("aria-activedescendant");
    this.choices.hidden = true;
    this.update();
  }

  /** Show the tokens that were added since. */
  update() {
    const shown = this.text.children.length;
    this.text.append(...this.tokens.slice(shown).map((token, place) => this.element(token, shown + place)));
  }

  element(token, place) {
    const element = document.createElement("span");
    element.className = "token";
    element.id = `token-${place}`;
    element.setAttribute("role", "option");
    element.setAttribute("aria-selected", "false");
    element.textContent = token.text;
    if (token.before) element.style.setProperty("--level", Math.min(1, -Math.log2(token.before) / MOST_BITS));
    if (token.finish_reason && !token.text) {
      element.textContent = " ■";
      element.classList.add("end");
      element.setAttribute("aria-label", "end of the text");
    }
    return element;
  }

  press(event) {
    const last = this.tokens.length - 1;
    const place = { ArrowRight: this.selected + 1, ArrowLeft: this.selected - 1, Home: 0, End: last }[event.key];
    if (place !== undefined) {
      event.preventDefault();
      this.select(Math.max(0, Math.min(last, place)));
    } else if (event.key === "Enter") {
      event.preventDefault();
      this.choices.querySelector("button")?.focus();
    }
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

  /** Show what the selected token could have been. */
  showChoices(place, alternatives) {
    const token = this.tokens[place];
    const shown = token.text.trim() || visible(token.text);
    this.choices.querySelector("h2").textContent =
      token.id === null ? "Nothing could come here" : `“${shown}” had a probability of ${percent(token.before)}`;
    const rows = alternatives.map((other) => this.row(place, other, token));
    this.choices.querySelector("tbody").replaceChildren(...rows);
    this.choices.hidden = false;
  }

  row(place, alternative, token) {
    const { id, text, before, after } = alternative;
    const row = document.createElement("tr");
    const button = document.createElement("button");
    button.textContent = visible(text);
    button.setAttribute("aria-pressed", id === token.id);
    button.style.setProperty("--share", before);
    button.addEventListener("click", () => this.onChoice(place, alternative));
    row.classList.toggle("removed", !after);
    row.append(...[button, percent(before), after ? percent(after) : "removed"].map((content) => {
      const cell = document.createElement("td");
      cell.append(content);
      return cell;
    }));
    return row;
  }
}

/** A token's text with its white space shown. */
function visible(text) {
  return text ? text.replaceAll(" ", "␣").replaceAll("\n", "⏎").replaceAll("\t", "⇥") : "■ end of the text";
}

function percent(p) {
  return p < 0.0001 ? "< 0.01 %" : `${(100 * p).toFixed(p < 0.0995 ? 2 : 1)} %`;
}
