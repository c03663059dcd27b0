"""What a receiver wrote comes in, where in the prompt it was found and how well comes out."""

import dataclasses
import subprocess

import numpy

RATE = 8_000


@dataclasses.dataclass
class Found:
    seconds: float
    likeness: float  # of the least like second, 0 to 1
    level: float  # dBFS, mean over all

    def wrong(self):
        if self.seconds < 3.5:
            return f"{self.seconds:.1f} s were heard, 4 s were sent"
        if self.level < -40:
            return "nothing but silence was heard"
        if self.likeness < 0.85:
            return "what was heard is not the prompt"
        return None

    def __str__(self):
        return f"{self.seconds:.2f} s, like the prompt to {self.likeness:.3f}, {self.level:.1f} dBFS"


def read(path, band):
    """Mono samples at 8 kHz, of the band that is compared."""
    low, high = band
    command = ["ffmpeg", "-nostdin", "-loglevel", "error", "-i", path, "-ac", "1"]
    command += ["-af", f"highpass=f={low},highpass=f={low},lowpass=f={high},lowpass=f={high}", "-ar", str(RATE), "-f", "f32le", "-"]
    raw = subprocess.run(command, check=True, capture_output=True).stdout
    return numpy.frombuffer(raw, numpy.float32)


def judge(heard, prompt, band):
    sound, loop = read(heard, band), read(prompt, band)
    loud = numpy.abs(sound) > 1e-4
    if not loud.any():
        return Found(0.0, 0.0, -120.0)
    # From its first sound to its last.
    sound = sound[loud.argmax() : len(sound) - loud[::-1].argmax()]
    level = 10 * numpy.log10(float(numpy.mean(sound**2)) + 1e-12)
    # A second each: the places must follow each other, or a piece is missing.
    pieces = [sound[at : at + RATE] for at in range(RATE // 4, len(sound) - RATE, RATE)]
    places = [place(piece, loop) for piece in pieces]
    likeness = min((like for _, like in places), default=0.0)
    for (first, _), (second, _) in zip(places, places[1:]):
        step = (second - first) % len(loop)
        if abs(step - RATE) > RATE // 1000 and abs(step - RATE) < len(loop) - RATE // 1000:
            likeness = 0.0
    return Found(len(sound) / RATE, likeness, level)


def place(piece, loop):
    """Where in the loop the piece is, and how like it is to what stands there."""
    size = len(loop) + len(piece)
    twice = numpy.concatenate([loop, loop[: len(piece)]])
    spectrum = numpy.fft.rfft(twice, size * 2) * numpy.conj(numpy.fft.rfft(piece, size * 2))
    products = numpy.fft.irfft(spectrum)[: len(loop)]
    squares = numpy.concatenate([[0.0], numpy.cumsum(twice.astype(numpy.float64) ** 2)])
    energy = squares[len(piece) : len(piece) + len(loop)] - squares[: len(loop)]
    like = products / numpy.sqrt(numpy.maximum(energy, 1e-9) * float(numpy.sum(piece.astype(numpy.float64) ** 2)))
    best = int(like.argmax())
    return best, float(like[best])
