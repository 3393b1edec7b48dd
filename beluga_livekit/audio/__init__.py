"""PCM audio frames and the stages that convert them: numpy only, no I/O."""

from .channel_mixer import ChannelMixer
from .converter import Converter
from .frame import AudioFrame
from .framing import Framer
from .resampler import Resampler

__all__ = ["AudioFrame", "ChannelMixer", "Converter", "Framer", "Resampler"]
