// The tree of texts as a list to walk, and what can be done with the text that is shown.

import { counted } from "./counted.js";
import { find, make } from "./elements.js";
import { saveFile } from "./saving.js";
import { nameOf } from "./tree.js";
import { identityOf } from "./tree_store.js";

/** page: page.js, whose tree it is. */
export class TreeView {
  constructor(page) {
    this.page = page;
    this.list = find("tree");
    this.list.addEventListener("keydown", (event) => this.press(event));
    page.addEventListener("text", () => this.update());
    page.addEventListener("ended", () => this.update());
    const change = (work) => () => page.changeTree(work);
    find("text-name").addEventListener("change", ({ target }) =>
      page.changeTree((tree) => tree.rename(page.shown.id, target.value.trim())),
    );
    find("keep").addEventListener("click", change((tree) => tree.keep(page.shown.id, !page.shown.kept)));
    find("delete").addEventListener("click", change((tree) => tree.remove(page.shown.id)));
    find("delete-others").addEventListener("click", change((tree) => tree.removeOthers()));
    find("undo").addEventListener("click", change((tree) => tree.undo()));
    find("save-json").addEventListener("click", () => this.saveAll());
    find("save-text").addEventListener("click", () => saveFile(`${page.run.name}-texts.txt`, page.tree.toText()));
    find("open").addEventListener("click", () => find("file").click());
    find("file").addEventListener("change", ({ target }) => this.read(target));
  }

  update() {
    const { tree, shown } = this.page;
    const { activeElement: held } = document;
    const inside = find("texts").contains(held);
    find("texts").hidden = false; // a file can be opened as soon as there is a run
    for (const id of ["text-tools", "save-json", "save-text"]) find(id).hidden = !tree.texts.length && !tree.canUndo;
    this.showList();
    for (const id of ["keep", "delete", "text-name"]) find(id).disabled = !shown;
    find("undo").disabled = !tree.canUndo;
    find("delete-others").disabled = !tree.texts.some((text) => text.kept);
    find("keep").setAttribute("aria-pressed", Boolean(shown?.kept));
    if (this.named !== shown?.id || held !== find("text-name")) find("text-name").value = shown?.name ?? "";
    this.named = shown?.id; // what is typed for it stays
    find("text-name").placeholder = shown ? nameOf(shown) : "";
    if (inside && (held.disabled || held.hidden || !held.isConnected)) this.refocus(held.dataset.id);
  }

  /** Focus the text, if it is left; else what comes nearest. */
  refocus(id) {
    const buttons = [this.buttonOf(id), this.list.querySelector("[aria-current]"), find("undo"), find("write")];
    buttons.find((button) => button && !button.disabled).focus();
  }

  /** Show the list; its buttons are new only if its shape is, because one may just be being pressed. */
  showList() {
    const all = this.page.tree.walk();
    const shape = JSON.stringify(all.map(({ text, depth }) => [text.id, depth]));
    if (shape !== this.shape) this.list.replaceChildren(...this.items(null));
    this.shape = shape;
    const buttons = this.list.querySelectorAll("button");
    all.forEach(({ text }, at) => this.label(buttons[at], text));
  }

  label(button, text) {
    const from = text.parent === null ? `seed ${text.seed}` : `from token ${text.place + 1}`;
    button.replaceChildren(`${text.kept ? "★ " : ""}${nameOf(text)}`, make("small", { textContent: ` ${from}` }));
    button.ariaCurrent = text.id === this.page.shown?.id ? "true" : null;
  }

  items(parent) {
    return this.page.tree.branches(parent).map(({ id }) => {
      const branches = this.items(id);
      return make("li", {}, this.button(id), ...(branches.length ? [make("ul", {}, ...branches)] : []));
    });
  }

  button(id) {
    const button = make("button");
    button.dataset.id = id;
    button.addEventListener("click", () => {
      this.page.halt();
      this.page.show(id);
    });
    return button;
  }

  buttonOf(id) {
    return this.list.querySelector(`[data-id="${id}"]`);
  }

  press(event) {
    const { tree } = this.page;
    const all = tree.walk().map(({ text }) => text);
    const at = all.findIndex((text) => text.id === Number(event.target.dataset.id));
    if (at < 0) return;
    const next = {
      ArrowDown: all[at + 1],
      ArrowUp: all[at - 1],
      ArrowLeft: tree.get(all[at].parent),
      ArrowRight: tree.branches(all[at].id)[0],
      Home: all[0],
      End: all.at(-1),
    }[event.key];
    if (event.key === "Delete") {
      event.preventDefault();
      this.page.changeTree((changed) => changed.remove(all[at].id));
    } else if (next) {
      event.preventDefault();
      this.buttonOf(next.id).focus();
    }
  }

  saveAll() {
    const { tree, run } = this.page;
    const document = { ...tree.toJSON(), identity: identityOf(run) };
    saveFile(`${run.name}-texts.json`, JSON.stringify(document, null, 1));
  }

  async read(field) {
    const [file] = field.files;
    field.value = "";
    if (!file) return;
    await this.page.attempt(async () => {
      let document;
      try {
        document = JSON.parse(await file.text());
      } catch {
        document = null;
      }
      const { run } = this.page;
      this.page.changeTree((tree) => tree.take(document, run.name, identityOf(run)));
      this.page.say(`Opened ${counted(document.texts.length, "text")}.`);
    });
  }
}
