"""`WireWriter`: converts frames to the wire format and writes them to the paced source."""

from ..audio.converter import Converter
from ..audio.format import BLOCK, WIRE_FRAME, WIRE_RATE, Samples
from ..audio.frame import AudioFrame
from ..audio.framing import Framer
from .gate import PlaybackGate
from .paced_source import PacedAudioSource
from .trimmer import LatencyTrimmer


class WireWriter:
    """Converts, frames and pads audio of any format, in order, and writes it in whole blocks."""

    def __init__(self, num_channels: int, gate: PlaybackGate, source: PacedAudioSource) -> None:
        self._gate = gate
        self._source = source
        self._converter = Converter(WIRE_RATE, num_channels)
        self._framer = Framer(WIRE_FRAME)
        self._in_hand = 0  # samples that a write under way has yet to write
        self.trimmer = LatencyTrimmer()
        self.samples_written = 0  # per channel, padding included

    @property
    def end(self) -> int:
        """Position of the next sample: behind all that was written or is still held."""
        held = self._framer.held + round(self._converter.delay * WIRE_RATE)
        return self._source.end + self._in_hand + held

    @property
    def holds_audio(self) -> bool:
        """Whether audio is held until more of it, or `pad`, makes a whole block."""
        return self._converter.holds_sound or self._framer.held > 0

    async def write(self, frame: AudioFrame) -> None:
        """Write a frame; less than a block of it is held."""
        samples, second = frame.samples, frame.sample_rate
        for at in range(0, len(samples), second):
            converted = self._converter.push(samples[at : at + second], frame.sample_rate)
            await self._write(self._framer.push(converted))
        if self._framer.held >= BLOCK and not self.trimmer.blocks_left:
            rest = self._framer.take()
            self._framer.push(rest[BLOCK:])
            await self._write([rest[:BLOCK]])

    async def pad(self) -> int:
        """Write what is held, padded to whole blocks; return the samples of silence added."""
        silence = round(self._converter.delay * WIRE_RATE)  # before the audio that comes next
        blocks = self._framer.push(self._converter.finish())
        silence += -self._framer.held % BLOCK
        if self._framer.held:
            blocks.append(self._framer.take(BLOCK))
        await self._write(blocks)
        return silence

    def discard(self) -> None:
        self._converter.finish()
        self._framer.drop()
        self._in_hand = 0
        self.trimmer.cancel()

    async def _write(self, parts: list[Samples]) -> None:
        self._in_hand = sum(map(len, parts))
        for part in parts:
            await self._gate.wait()
            samples = self.trimmer.trim(part)
            await self._source.play(samples, at_once=self.trimmer.is_relay)
            self._in_hand -= len(part)
            self.samples_written += len(samples)
