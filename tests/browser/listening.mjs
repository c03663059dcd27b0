// What a browser says of what it hears, asked in its page, and whether that is right.

/** A timer that is later than this shows a browser that was kept from its work: then its sound has holes of its own making. */
export const PROBE_LATE_MS = 15;

/**
 * In the page: what its connection says of so many seconds, beginning one second after the first packet. Seconds in which a bare
 * timer is late too are counted by themselves.
 */
export async function listen({ seconds, lateMs }) {
  const connection = window.connections.at(-1);
  const inbound = async () => [...(await connection.getStats()).values()].find((one) => one.type === "inbound-rtp");
  const pause = (ms) => new Promise((done) => setTimeout(done, ms));
  while (!(await inbound())?.packetsReceived) await pause(20);
  await pause(1000);
  let worst = 0;
  let last = performance.now();
  const probe = setInterval(() => {
    const now = performance.now();
    worst = Math.max(worst, now - last - 10);
    last = now;
  }, 10);
  const first = await inbound();
  const windows = [];
  let before = first;
  worst = 0;
  for (let second = 0; second < seconds; second++) {
    await pause(1000);
    const now = await inbound();
    windows.push({ concealed: now.concealedSamples - before.concealedSamples, samples: now.totalSamplesReceived - before.totalSamplesReceived, late: worst });
    worst = 0;
    before = now;
  }
  clearInterval(probe);
  const good = windows.filter(({ late }) => late <= lateMs);
  const share = (some) => some.reduce((sum, one) => sum + one.concealed, 0) / Math.max(1, some.reduce((sum, one) => sum + one.samples, 0));
  const time = (before.timestamp - first.timestamp) / 1000;
  return {
    perSecond: (before.packetsReceived - first.packetsReceived) / time,
    lost: before.packetsLost,
    jitterMs: before.jitter * 1000,
    concealed: share(good),
    concealedInAll: share(windows),
    windows: good.length,
    all: windows.length,
    latest: Math.max(...windows.map(({ late }) => late)),
    level: 10 * Math.log10((before.totalAudioEnergy - first.totalAudioEnergy) / (before.totalSamplesDuration - first.totalSamplesDuration) + 1e-12),
  };
}

/** In words what was heard; fails if a packet was lost, or sound was made up where the browser had its time. */
export function judge(heard) {
  const words = `${heard.perSecond.toFixed(2)} packets/s, ${heard.lost} lost, ${(heard.concealed * 100).toFixed(3)} % concealed in ${heard.windows} of ${heard.all} s (the timer late in the others, by ${heard.latest.toFixed(0)} ms at most; with them ${(heard.concealedInAll * 100).toFixed(3)} %), ${heard.level.toFixed(1)} dBFS`;
  const isRight = Math.abs(heard.perSecond - 50) <= 0.5 && heard.lost === 0 && heard.windows >= heard.all / 3 && heard.concealed <= 0.005 && heard.level > -50;
  if (!isRight) throw new Error(words);
  return words;
}
