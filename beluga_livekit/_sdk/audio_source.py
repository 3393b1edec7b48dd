"""`AudioSource`: an SDK audio source whose captures do not wake the event loop.

`rtc.AudioSource.capture_frame` wakes the loop twice a frame, for its caller and for each room: 8 %
of a relay's CPU (measured: 10.3 against 9.4 % of a core, medians of three runs). Here the native
thread notes the answer, and the next capture looks at it.
"""

import time

import anyio
import numpy as np
from livekit import rtc

from .._errors import LiveKitError
from ..audio.format import Samples
from . import event_router
from .event_router import FfiClient, capture_answers, ffi_pb2

# Timeout for the answer to a capture (s). An answer takes 2 ms, or up to a clock tick (10 ms) when
# the native queue is full. A source that takes longer is dead.
CAPTURE_TIMEOUT = 5.0
# Interval of the checks for an answer (s). A wake-up instead would cost what is saved here.
POLL_INTERVAL = 0.0005


class AudioSource:
    """An `rtc.AudioSource` and the captures into its native queue.

    Args:
        sample_rate: Sample rate (Hz).
        num_channels: 1 or 2.
        queue_ms: Size of the native queue (ms). A multiple of 10: any other aborts the process.

    Attributes:
        rtc: The SDK's source, to be published.
        answered_at: `time.perf_counter()` of the last answer (s).
    """

    def __init__(self, sample_rate: int, num_channels: int, queue_ms: int) -> None:
        event_router.install()
        self.rtc = rtc.AudioSource(sample_rate, num_channels, queue_ms)
        self.answered_at = 0.0
        self._unanswered: dict[int, Samples] = {}
        self._error = ""

    async def capture(self, samples: Samples) -> None:
        """Queue samples behind those captured before; return before they have arrived.

        Args:
            samples: int16, shape (n,) or (n, 2).

        Raises:
            LiveKitError: An earlier capture failed.
        """
        await self.wait_until_answered()
        samples = np.ascontiguousarray(samples)
        if event_router.SUPPORTED:
            self._request(samples)
        else:
            await self._capture_with_public_api(samples)

    async def wait_until_answered(self) -> None:
        """Wait until all captures have arrived in the native queue, and it has room again.

        Raises:
            LiveKitError: A capture failed.
        """
        if self._unanswered:
            with anyio.move_on_after(CAPTURE_TIMEOUT):
                while self._unanswered:  # noqa: ASYNC110 - see POLL_INTERVAL
                    await anyio.sleep(POLL_INTERVAL)
            if self._unanswered:
                self._error = f"no answer within {CAPTURE_TIMEOUT:g} s"
        if self._error:
            raise LiveKitError(
                f"livekit: audio capture failed: {self._error}; open another session"
            )

    def clear(self) -> None:
        """Empty the native queue."""
        self.rtc.clear_queue()

    async def aclose(self) -> None:
        await self.rtc.aclose()
        for request_id in self._unanswered:
            capture_answers.pop(request_id, None)

    def _request(self, samples: Samples) -> None:
        request_id = event_router.next_request_id()
        request = ffi_pb2.FfiRequest()
        capture = request.capture_audio_frame
        capture.source_handle = self.rtc._ffi_handle.handle
        capture.request_async_id = request_id
        capture.buffer.data_ptr = samples.ctypes.data
        capture.buffer.sample_rate = self.rtc.sample_rate
        capture.buffer.num_channels = self.rtc.num_channels
        capture.buffer.samples_per_channel = len(samples)
        self._unanswered[request_id] = samples  # the native side reads from the array
        capture_answers[request_id] = lambda error: self._answer(request_id, error)
        FfiClient.instance.request(request)

    def _answer(self, request_id: int, error: str) -> None:
        self.answered_at = time.perf_counter()
        self._error = error
        self._unanswered.pop(request_id, None)

    async def _capture_with_public_api(self, samples: Samples) -> None:
        source = self.rtc
        frame = rtc.AudioFrame(
            samples.tobytes(), source.sample_rate, source.num_channels, len(samples)
        )
        self._error = f"no answer within {CAPTURE_TIMEOUT:g} s"
        # Shielded: a cancelled capture is played all the same, and the next one fails.
        with anyio.move_on_after(CAPTURE_TIMEOUT, shield=True):
            try:
                await source.capture_frame(frame)
            except Exception as error:  # noqa: BLE001 - the SDK raises a bare Exception
                self._error = str(error)
            else:
                self._error = ""
        self.answered_at = time.perf_counter()
