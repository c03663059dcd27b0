// Elements, made and kept up to date. Text is set as text: nothing here takes markup.

const SVG = "http://www.w3.org/2000/svg";

function byId(id) {
  return document.getElementById(id);
}

/** An element with attributes, listeners (`onclick: …`) and children; a child that is null is left out. */
function el(tag, attributes = {}, ...children) {
  return dress(document.createElement(tag), attributes, children);
}

function svg(tag, attributes = {}, ...children) {
  return dress(document.createElementNS(SVG, tag), attributes, children);
}

function dress(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value != null && value !== false) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child != null));
  return node;
}

/** Sets text only where it is different, so that a selection in it stays. */
function say(node, text) {
  const string = String(text);
  if (node.textContent !== string) node.textContent = string;
}

/** Likewise an attribute; null takes it away. */
function mark(node, name, value) {
  if (value == null) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}

function chip() {
  return el("span", { class: "chip" });
}

function tell(node, [words, tone]) {
  say(node, words);
  mark(node, "data-tone", tone);
}

/**
 * Children of `parent` by name: `make(name)` gives `{ node, update(item) }`. Nodes stay what they are as long as their names
 * are there, and are moved only if their order changes, so that focus is not lost.
 */
class Rows {
  constructor(parent, make) {
    this.parent = parent;
    this.make = make;
    this.rows = new Map();
  }

  show(items) {
    const wanted = new Set(items.map(([name]) => name));
    for (const [name, row] of this.rows) {
      if (!wanted.has(name)) {
        row.node.remove();
        this.rows.delete(name);
      }
    }
    let place = this.parent.firstChild;
    for (const [name, item] of items) {
      let row = this.rows.get(name);
      if (!row) this.rows.set(name, (row = this.make(name)));
      if (row.node === place) {
        place = place.nextSibling;
      } else {
        const focused = row.node.contains(document.activeElement) ? document.activeElement : null;
        this.parent.insertBefore(row.node, place);
        focused?.focus();
      }
      row.update(item);
    }
  }
}

/** A list of names and values whose values change. */
class Facts {
  constructor(attributes) {
    this.node = el("dl", attributes);
    this.rows = new Rows(this.node, (name) => {
      const value = el("dd");
      const node = el("div", {}, el("dt", {}, name), value);
      return {
        node,
        update([words, tone, hint]) {
          if (!hint) say(value, words);
          else if (value.dataset.shown !== `${words}|${hint}`) {
            value.dataset.shown = `${words}|${hint}`;
            value.replaceChildren(String(words), el("small", {}, hint));
          }
          mark(node, "data-tone", tone);
        },
      };
    });
  }

  /** `[name, words, tone?, hint?]`; what has no words is left out. */
  show(all) {
    const shown = all.filter(([, words]) => words != null);
    this.rows.show(shown.map(([name, ...rest]) => [name, rest]));
  }
}

let announced = 0;

/** Tells a screen reader what a click has done. */
function announce(words) {
  // The same words twice are told twice.
  byId("announcer").textContent = words + (announced++ % 2 ? "\u00a0" : "");
}
