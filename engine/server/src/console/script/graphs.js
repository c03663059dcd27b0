// Histograms over time: each second is a column, each bound a row, and the more of a second's rounds fall there, the fuller
// the colour. What counts as late has the colour of what is bad.

/** Seconds that are shown: as many as the engine keeps. */
const SPAN = 300;

class Heat {
  /** `bounds` are upper ones, in milliseconds; from `late` on it is late; `labels` are the bounds that are written. */
  constructor({ title, about, bounds, late, labels, of }) {
    Object.assign(this, { bounds, late, of });
    this.rows = bounds.length + 1;
    this.summary = el("span");
    this.canvas = el("canvas", { role: "img" });
    const ys = el("div", { class: "ys", "aria-hidden": "true" });
    for (const label of labels) {
      const line = el("span", {}, label >= 1000 ? `${label / 1000} s` : `${label} ms`);
      line.style.bottom = `${((bounds.indexOf(label) + 1) / this.rows) * 100}%`;
      ys.append(line);
    }
    const xs = el("div", { class: "xs", "aria-hidden": "true" }, ...["5 min ago", "4", "3", "2", "1", "now"].map((at) => el("span", {}, at)));
    this.title = title;
    this.node = el("figure", {}, el("figcaption", {}, el("strong", {}, title), el("span", {}, about), this.summary), el("div", { class: "plot" }, ys, this.canvas, xs));
    new ResizeObserver(() => this.draw()).observe(this.canvas);
  }

  show(beats) {
    this.beats = beats;
    const words = this.words();
    say(this.summary, words);
    mark(this.canvas, "aria-label", `${this.title}. ${words}`);
    this.draw();
  }

  /** The median, what 99 of 100 stay below, and the bound of the worst, of all that is shown. */
  words() {
    const sums = new Array(this.rows).fill(0);
    for (const beat of this.beats) this.of(beat).forEach((number, row) => (sums[row] += number));
    const all = sums.reduce((sum, number) => sum + number, 0);
    if (!all) return "nothing sent yet";
    const below = (share) => {
      let seen = 0;
      return sums.findIndex((number) => (seen += number) >= all * share);
    };
    const bound = (row) => (row < this.bounds.length ? `≤ ${this.bounds[row]} ms` : `> ${this.bounds.at(-1)} ms`);
    return `half ${bound(below(0.5))}, 99 % ${bound(below(0.99))}, all ${bound(sums.findLastIndex((number) => number > 0))}`;
  }

  draw() {
    const { canvas, beats } = this;
    if (!beats || !canvas.clientWidth) return;
    const scale = window.devicePixelRatio || 1;
    const [width, height] = [Math.round(canvas.clientWidth * scale), Math.round(canvas.clientHeight * scale)];
    if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
    const style = getComputedStyle(canvas);
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, width, height);
    const latest = beats.at(-1)?.n ?? 0;
    const [column, row] = [width / SPAN, height / this.rows];
    for (const beat of beats) {
      const numbers = this.of(beat);
      const all = numbers.reduce((sum, number) => sum + number, 0);
      const x = width - (latest - beat.n + 1) * column;
      numbers.forEach((number, at) => {
        if (!number) return;
        // A single one must be seen: the worst is what is looked for.
        context.globalAlpha = 0.18 + 0.82 * Math.sqrt(number / all);
        const isLate = at >= this.bounds.length || this.bounds[at] > this.late;
        context.fillStyle = isLate ? style.borderTopColor : style.color;
        context.fillRect(x, height - (at + 1) * row, Math.ceil(column), Math.ceil(row) - scale);
      });
    }
    context.globalAlpha = 0.5;
    context.fillStyle = style.borderTopColor;
    const line = height - (this.bounds.indexOf(this.late) + 1) * row;
    for (let x = 0; x < width; x += 8 * scale) context.fillRect(x, line, 4 * scale, scale);
    context.globalAlpha = 1;
  }
}
