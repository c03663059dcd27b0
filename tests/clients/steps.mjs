// What a story says while it runs: one line for each step, which run.py counts.

export class Steps {
  failed = 0;

  // A step that fails is told and the story goes on, so that one run shows everything that is wrong.
  async step(claim, body) {
    try {
      const seen = await body();
      console.log(`✓ ${claim}${seen ? `: ${seen}` : ""}`);
    } catch (error) {
      this.failed += 1;
      const words = `${error?.name ?? "Error"}: ${error?.message ?? error}`.replace(/\s+/g, " ").slice(0, 500);
      console.log(`✗ ${claim}: ${words}`);
      console.error(error);
    }
  }
}

export function equal(found, expected, what) {
  const [left, right] = [JSON.stringify(found), JSON.stringify(expected)];
  if (left !== right) throw new Error(`${what} is ${left}; expected ${right}`);
}

export const pause = (ms) => new Promise((done) => setTimeout(done, ms));
