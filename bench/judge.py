"""Pairs of WAVs that the bench `quality` has written come in, ViSQOL's opinion in audio mode goes out: a table on
stdout and scores.json beside the pairs.

Both sides are 16 kHz sound at 48 kHz, so the band that telephony leaves out is not held against the codec. They are
aligned to the sample, so that ViSQOL need not search: on four pairs its score differed by at most 0.0004 from the one
with all its searching, and came in less than half the time.
"""

import json
import os
import sys
from pathlib import Path

from visqol import VisqolApi


def main() -> int:
    home = Path(sys.argv[1] if len(sys.argv) > 1 else "target/quality")
    pairs = json.loads((home / "pairs.json").read_text())
    # A ceiling: what ViSQOL says of a sound and itself.
    names = {pair["reference"]: pair["recording"] for pair in pairs}
    same = [{"recording": name, "bitrate": 0, "reference": file, "degraded": file} for file, name in names.items()]
    judge = VisqolApi()
    judge.create(mode="audio", search_window=2, disable_global_alignment=True, disable_realignment=True)

    def progress(done: int, total: int) -> None:
        if done % 10 == 0 or done == total:
            print(f"{done} of {total} pairs", file=sys.stderr)

    everything = pairs + same
    files = [(str(home / pair["reference"]), str(home / pair["degraded"])) for pair in everything]
    results = judge.measure_batch(files, max_workers=os.cpu_count(), progress_callback=progress)
    scores: dict[str, dict[int, float]] = {}
    for pair, result in zip(everything, results):
        if isinstance(result, Exception):
            print(f"{pair['recording']} is skipped: {result}", file=sys.stderr)
            continue
        pair["moslqo"] = result.moslqo
        scores.setdefault(pair["recording"], {})[pair["bitrate"]] = result.moslqo
    (home / "scores.json").write_text(json.dumps(everything, indent=2) + "\n")

    bitrates = sorted({pair["bitrate"] for pair in pairs}) + [0]
    heads = [f"{bitrate // 1000} kbit/s" if bitrate else "itself" for bitrate in bitrates]
    width = max(map(len, scores), default=0)
    print("\nViSQOL in audio mode, MOS-LQO (1 to 5)")
    print(" " * (width + 2) + "".join(f"{head:>11}" for head in heads))
    for name, row in scores.items():
        print(f"  {name:<{width}}" + "".join(f"{row.get(bitrate, float('nan')):>11.2f}" for bitrate in bitrates))
    whole = [row for row in scores.values() if all(bitrate in row for bitrate in bitrates)]
    if whole:
        means = [sum(row[bitrate] for row in whole) / len(whole) for bitrate in bitrates]
        print(f"  {'mean':<{width}}" + "".join(f"{mean:>11.2f}" for mean in means))
    return 0


if __name__ == "__main__":
    sys.exit(main())
