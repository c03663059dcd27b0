"""What a story says while it runs: one line for each step, which run.py counts."""

import contextlib
import sys
import traceback


class Steps:
    """A step that fails is told and the story goes on, so that one run shows everything that is wrong."""

    def __init__(self):
        self.failed = 0

    @contextlib.contextmanager
    def __call__(self, claim):
        evidence = []
        try:
            yield lambda *seen: evidence.extend(str(part) for part in seen)
        except Exception as error:  # whatever a library raises is a failure of this step
            self.failed += 1
            print(f"✗ {claim}: {type(error).__name__}: {' '.join(str(error).split())[:500]}", flush=True)
            traceback.print_exc(file=sys.stderr)
        else:
            print(f"✓ {claim}" + (f": {', '.join(evidence)}" if evidence else ""), flush=True)


def equal(found, expected, what):
    """Says what was found where something else was expected."""
    if found != expected:
        raise AssertionError(f"{what} is {found!r}; expected {expected!r}")
