"""PCM audio frames and the stages that convert them: numpy only, no I/O."""

from .channel_mixer import ChannelMixer
from .converter import Converter, Framer
from .frame import AudioFrame
from .resampler import Resampler

__all__ = ["AudioFrame", "ChannelMixer", "Converter", "Framer", "Resampler"]
