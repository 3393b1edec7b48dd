"""The audio stages against their targets, and beside rtc.AudioResampler, soxr and rtc.AudioStream.

Everything is measured in one run: sound with tones, CPU in interleaved rounds of the subjects, as
the ratio within each round. Exit code 1 if a target is missed.

    python benchmarks/stages.py
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import attrs
import matplotlib as mpl
import numpy as np
import soxr
from common import Results, make_parser
from livekit import rtc
from numpy.typing import NDArray

from beluga_livekit.audio import ChannelMixer, Resampler

mpl.use("Agg")
from matplotlib import pyplot as plt

Samples = NDArray[np.int16]
Push = Callable[[Samples], Samples]

ROUNDS = 15
PUSHES = 100  # in a round
LEVEL = 0.9  # of the tones (1 is full scale)


def ours(in_rate: int, out_rate: int) -> Push:
    return Resampler(in_rate, out_rate).push


def sdk(in_rate: int, out_rate: int) -> Push:
    resampler = rtc.AudioResampler(in_rate, out_rate)

    def push(samples: Samples) -> Samples:
        frames = resampler.push(bytearray(samples.tobytes()))
        parts = [np.frombuffer(frame.data, np.int16) for frame in frames]
        return np.concatenate([*parts, np.empty(0, np.int16)])

    return push


def streaming_soxr(in_rate: int, out_rate: int) -> Push:
    stream = soxr.ResampleStream(in_rate, out_rate, 1, dtype="int16")
    return lambda samples: np.asarray(stream.resample_chunk(samples))


SUBJECTS = {"beluga_livekit": ours, "rtc.AudioResampler": sdk, "soxr (streaming)": streaming_soxr}
COLORS = {
    "beluga_livekit": "tab:blue",
    "rtc.AudioResampler": "tab:orange",
    "soxr (streaming)": "tab:green",
    "rtc.AudioStream": "tab:red",
}


def tone(frequency: float, rate: int, seconds: float) -> Samples:
    at = np.arange(round(rate * seconds)) / rate
    return np.rint(LEVEL * 32767 * np.sin(2 * np.pi * frequency * at)).astype(np.int16)


def stream(push: Push, sound: Samples, rate: int) -> list[Samples]:
    size = rate // 50
    return [push(sound[at : at + size]) for at in range(0, len(sound), size)]


def gain(push: Push, frequency: float, in_rate: int) -> float:
    """Return the level of the output for a tone, at any frequency, against the input (dB)."""
    sound = tone(frequency, in_rate, 0.5)
    out = np.concatenate(stream(push, sound, in_rate))
    middle = out[len(out) // 3 : -len(out) // 6].astype(np.float64)
    return float(20 * np.log10(np.sqrt(np.mean(middle**2) * 2) / (LEVEL * 32767) + 1e-9))


def distortion(push: Push, frequency: float, in_rate: int, out_rate: int) -> float:
    """Return THD+N: the output without the tone, against the tone (dB)."""
    out = np.concatenate(stream(push, tone(frequency, in_rate, 1.0), in_rate))
    middle = out[out_rate // 4 : -out_rate // 4].astype(np.float64)
    at = np.arange(len(middle)) / out_rate
    basis = np.stack([f(2 * np.pi * frequency * at) for f in (np.sin, np.cos)], axis=1)
    fitted = basis @ np.linalg.lstsq(basis, middle, rcond=None)[0]
    return float(20 * np.log10(np.std(middle - fitted) / np.std(fitted)))


def measured_delay(in_rate: int, out_rate: int) -> float:
    """Return the delay of the middle of a pulse (ms)."""
    at = np.arange(in_rate // 2) / in_rate
    pulse = np.rint(30_000 * np.exp(-(((at - 0.2) / 0.002) ** 2))).astype(np.int16)
    out = np.concatenate(stream(ours(in_rate, out_rate), pulse, in_rate)).astype(np.float64)
    return 1000 * (float(np.sum(out * np.arange(len(out))) / np.sum(out)) / out_rate - 0.2)


async def audio_stream_gains(frequencies: Iterable[float]) -> list[float]:
    """Return the gains (dB) of the SDK's resampling from 48 kHz to a 16 kHz `rtc.AudioStream`."""
    source = rtc.AudioSource(48_000, 1, 1000)
    track = rtc.LocalAudioTrack.create_audio_track("sweep", source)
    gains = []
    for frequency in frequencies:
        audio = rtc.AudioStream(track, sample_rate=16_000, num_channels=1, frame_size_ms=20)
        sound = tone(frequency, 48_000, 0.3)
        await source.capture_frame(rtc.AudioFrame(sound.tobytes(), 48_000, 1, len(sound)))
        frames = [np.frombuffer((await anext(audio)).frame.data, np.int16) for _ in range(20)]
        await audio.aclose()
        powers = [float(np.mean(frame.astype(np.float64) ** 2)) for frame in frames]
        # The tone fills 15 of the 20 frames. Those in the middle have no edge in them.
        power = statistics.median(sorted(powers)[-12:-2])
        gains.append(float(20 * np.log10(np.sqrt(power * 2) / (LEVEL * 32767) + 1e-9)))
        await source.wait_for_playout()
    await source.aclose()
    return gains


@attrs.frozen
class Ratio:
    """CPU for 20 ms of one conversion.

    Attributes:
        ratio: Against `rtc.AudioResampler`, of the median round.
        low: Second lowest ratio of a round.
        high: Second highest ratio of a round.
        microseconds: Of each subject, of the median round.
    """

    ratio: float
    low: float
    high: float
    microseconds: dict[str, float]


def cpu(in_rate: int, out_rate: int) -> Ratio:
    frame = tone(440, in_rate, 0.02)
    pushes = {name: make(in_rate, out_rate) for name, make in SUBJECTS.items()}
    times: dict[str, list[float]] = {name: [] for name in pushes}
    for _ in range(ROUNDS):
        for name, push in pushes.items():
            start = time.perf_counter()
            for _ in range(PUSHES):
                push(frame)
            times[name].append((time.perf_counter() - start) / PUSHES * 1e6)
    pairs = zip(times["beluga_livekit"], times["rtc.AudioResampler"], strict=True)
    ratios = sorted(mine / theirs for mine, theirs in pairs)
    middle = {name: statistics.median(each) for name, each in times.items()}
    return Ratio(ratios[ROUNDS // 2], ratios[1], ratios[-2], middle)


def mixing(mixer: ChannelMixer, samples: Samples) -> list[float]:
    """Return the CPU for 20 ms at 48 kHz in each round (µs)."""
    rounds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for _ in range(PUSHES * 5):
            mixer.push(samples)
        rounds.append((time.perf_counter() - start) / (PUSHES * 5) * 1e6)
    return rounds


@attrs.define
class Report:
    """Prints and records the figures, and counts the targets that were missed."""

    results: Results
    missed: int = 0

    def row(self, figure: str, target: str, measured: str, met: bool) -> None:
        """Print and record a target and its measurement."""
        self.missed += not met
        print(f"{figure:44} {target:24} {measured:32} {'met' if met else 'MISSED'}", flush=True)
        self.results.add(
            table="targets", figure=figure, target=target, measured=measured, met=bool(met)
        )


CPU_TARGETS = {
    (48_000, 16_000): 0.75,
    (16_000, 48_000): 0.75,
    (48_000, 8_000): 0.75,
    (8_000, 48_000): 0.75,
    (48_000, 24_000): 1.0,
    (24_000, 48_000): 1.0,
    (48_000, 44_100): 1.2,
    (44_100, 48_000): 1.2,
}


def check_delay(report: Report) -> None:
    for pair in CPU_TARGETS:
        at_most = 4.0 if 8_000 in pair else 2.5
        late = measured_delay(*pair)
        report.row(f"delay {pair[0]} -> {pair[1]}", f"{at_most} ms", f"{late:.3f} ms",
                   late < at_most + 0.01)  # fmt: skip
    for pair in CPU_TARGETS:
        rng = np.random.default_rng(0)
        frame = rng.integers(-9999, 9999, pair[0] // 50).astype(np.int16)
        push = ours(*pair)
        lengths = sorted({len(push(frame)) for _ in range(100)})
        report.row(f"out per 20 ms, {pair[0]} -> {pair[1]}", f"{pair[1] // 50}, every push",
                   f"{lengths}", lengths == [pair[1] // 50])  # fmt: skip


def check_sound(report: Report) -> None:
    push = ours(48_000, 16_000)
    to_6 = [gain(push, f, 48_000) for f in range(200, 6001, 200)]
    to_7 = [gain(push, f, 48_000) for f in range(6000, 7001, 50)]
    beyond = [
        gain(push, f, 48_000) for f in [8020, *range(8050, 9000, 50), *range(9000, 23500, 250)]
    ]
    report.row("48 -> 16 kHz, to 6 kHz", "+-0.01 dB", f"{min(to_6):+.4f} to {max(to_6):+.4f} dB",
               max(np.abs(to_6)) <= 0.01)  # fmt: skip
    report.row("48 -> 16 kHz, to 7 kHz", "-0.1 dB", f"{min(to_7):+.3f} dB", min(to_7) >= -0.1)
    report.row("48 -> 16 kHz, from 8.02 kHz", "-75 dB", f"{max(beyond):.1f} dB", max(beyond) <= -75)
    noise = distortion(push, 1000, 48_000, 16_000)
    report.row("48 -> 16 kHz, THD+N at 1 kHz", "-95 dB", f"{noise:.1f} dB", noise <= -95)


def check_exactness(report: Report) -> None:
    rng = np.random.default_rng(0)
    same, constant, totals, state = True, True, True, 0
    for in_rate, out_rate in CPU_TARGETS:
        sound = rng.integers(-32768, 32768, in_rate // 2).astype(np.int16)
        one, cut = Resampler(in_rate, out_rate), Resampler(in_rate, out_rate)
        whole = np.concatenate([one.push(sound), one.flush()])
        places = np.sort(rng.integers(0, len(sound), 50))
        parts = [cut.push(part) for part in np.split(sound, places)]
        same &= np.array_equal(whole, np.concatenate([*parts, cut.flush()]))
        totals &= len(whole) == round(len(sound) * out_rate / in_rate)
        for value in (-32768, -1, 0, 1, 12_345, 32_767):
            one.push(np.full(in_rate // 10, value, np.int16))
            constant &= bool((one.push(np.full(in_rate // 10, value, np.int16)) == value).all())
        arrays = [value for value in vars(one).values() if isinstance(value, np.ndarray)]
        views = [array for each in one._views.values() for array in each[1:]]  # noqa: SLF001
        state = max(state, sum(array.nbytes for array in [*arrays, *views]))
    report.row("input split anywhere", "bit-identical", "identical" if same else "differs", same)
    report.row("constants, silence, full scale", "+-0 LSB", "exact" if constant else "no", constant)
    report.row("total after flush", "round(in * L / M)", "exact" if totals else "no", totals)
    report.row("state of an instance", "1 MB", f"{state / 1e6:.2f} MB", state <= 1_000_000)


def check_cpu(report: Report) -> dict[tuple[int, int], Ratio]:
    found = {}
    mono = tone(440, 48_000, 0.02)
    stereo = np.stack([mono, mono], axis=1)
    downs: list[float] = []
    ups: list[float] = []
    for pair, at_most in CPU_TARGETS.items():
        found[pair] = each = cpu(*pair)
        report.row(
            f"CPU {pair[0]} -> {pair[1]}, of rtc.AudioResampler's", f"{at_most:.2f}x",
            f"{each.ratio:.2f}x ({each.low:.2f}-{each.high:.2f})", each.ratio <= at_most,
        )  # fmt: skip
        downs += mixing(ChannelMixer(2, 1), stereo)
        ups += mixing(ChannelMixer(1, 2), mono)
    down, up = statistics.median(downs), statistics.median(ups)
    report.row("stereo -> mono, 20 ms at 48 kHz", "5 us", f"{down:.1f} us", down <= 5.0)
    report.row("mono -> stereo, 20 ms at 48 kHz", "2.5 us", f"{up:.1f} us", up <= 2.5)
    return found


def compare_cpu(report: Report, found: dict[tuple[int, int], Ratio]) -> None:
    """Print and record the CPU of each subject."""
    print(f"\n{'us for 20 ms of mono':20}", *(f"{name:>20}" for name in SUBJECTS))
    for (in_rate, out_rate), each in found.items():
        figures = (f"{each.microseconds[name]:20.1f}" for name in SUBJECTS)
        print(f"{f'{in_rate} -> {out_rate}':20}", *figures)
        report.results.add(
            table="cpu",
            in_rate=in_rate,
            out_rate=out_rate,
            ratio=each.ratio,
            ratio_range=(each.low, each.high),
            microseconds=each.microseconds,
        )


def compare_sound(report: Report) -> None:
    """Print and record the gain at the edge of the band and beyond it, and the output sizes."""
    gains = {
        name: [gain(make(48_000, 16_000), frequency, 48_000) for frequency in (7000, 8100)]
        for name, make in SUBJECTS.items()
    }
    gains["rtc.AudioStream"] = asyncio.run(audio_stream_gains((7000, 8100)))
    print(f"\n{'48 -> 16 kHz, dB':20} {'7 kHz':>10} {'8.1 kHz':>10}")
    for name, (inside, beyond) in gains.items():
        print(f"{name:20} {inside:10.2f} {beyond:10.1f}")
        sizes = output_sizes(SUBJECTS[name]) if name in SUBJECTS else None
        report.results.add(
            table="48 -> 16 kHz",
            subject=name,
            gain_7_khz_db=inside,
            gain_8_1_khz_db=beyond,
            samples_out=sorted(set(sizes)) if sizes else None,
        )


def output_sizes(make: Callable[[int, int], Push]) -> list[int]:
    """Return how many samples come out of each push of 20 ms, from 48 to 16 kHz."""
    parts = stream(make(48_000, 16_000), tone(440, 48_000, 0.4), 48_000)
    return [len(part) for part in parts]


def draw_sound(folder: Path) -> None:
    frequencies = [*range(250, 7000, 250), *range(7000, 9000, 50), *range(9000, 23_500, 250)]
    coarse = [*range(500, 7000, 500), *range(7100, 9000, 200), *range(9000, 23_000, 1000)]
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    for name, make in SUBJECTS.items():
        values = [gain(make(48_000, 16_000), f, 48_000) for f in frequencies]
        width = 3.0 if name == "rtc.AudioResampler" else 1.5  # soxr's curve lies on it
        left.plot(
            np.array(frequencies) / 1000, values, linewidth=width, label=name, color=COLORS[name]
        )
    values = asyncio.run(audio_stream_gains(coarse))
    left.plot(
        np.array(coarse) / 1000, values, label="rtc.AudioStream", color=COLORS["rtc.AudioStream"]
    )
    left.axvline(8, color="gray", linewidth=0.7, linestyle=":")
    left.set(
        title="48 → 16 kHz: beyond 8 kHz all is alias", xlabel="kHz", ylabel="dB", ylim=(-110, 5)
    )
    left.legend(fontsize=8)
    for name, make in SUBJECTS.items():
        right.plot(output_sizes(make), label=name, color=COLORS[name], marker=".")
    right.set(title="Samples out of each push of 20 ms (320)", xlabel="push")
    right.legend(fontsize=8, loc="lower right")
    figure.savefig(folder / "stages.svg", metadata={"Date": None})


def draw_cpu(folder: Path, found: dict[tuple[int, int], Ratio]) -> None:
    figure, axes = plt.subplots(figsize=(9, 4), layout="constrained")
    places = np.arange(len(found))
    for number, name in enumerate(SUBJECTS):
        heights = [each.microseconds[name] for each in found.values()]
        axes.bar(places + 0.27 * (number - 1), heights, 0.27, label=name, color=COLORS[name])
    axes.set_xticks(places, [f"{a / 1000:g} → {b / 1000:g}" for a, b in found])
    axes.set(title="CPU for 20 ms of mono", ylabel="µs", xlabel="kHz")
    axes.legend()
    figure.savefig(folder / "stages-cpu.svg", metadata={"Date": None})


def main() -> None:
    given = make_parser("The audio stages against their targets.").parse_args()
    report = Report(Results("stages", {"rounds": ROUNDS}))
    report.results.print_versions()
    check_delay(report)
    check_sound(report)
    check_exactness(report)
    found = check_cpu(report)
    compare_cpu(report, found)
    compare_sound(report)
    report.results.write(given.results)
    draw_sound(given.results)
    draw_cpu(given.results, found)
    print(f"\n{report.missed} targets missed; results in {given.results}")
    sys.exit(min(report.missed, 1))


if __name__ == "__main__":
    main()
