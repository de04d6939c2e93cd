"""PCM to codecs, as it arrives: resampling with soxr, encoding with PyAV.

PCM is signed 16-bit little-endian, interleaved. An encoder's output does not depend on how its input was cut into
pieces, so streamed and whole audio are the same bytes (but for the sizes in a WAV header, see `wav_with_sizes`).
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from typing import Any, Protocol

import av
import numpy as np
import numpy.typing as npt
import soxr

from yapit.contracts import Codec
from yapit.errors import InvalidAudio

Samples = npt.NDArray[np.int16]  # (frames, channels)

BYTES_PER_SAMPLE = 2
CONTENT_TYPES: dict[Codec, str] = {
    "pcm": "audio/pcm",
    "wav": "audio/wav",
    "flac": "audio/flac",
    "mp3": "audio/mpeg",
    "opus": "audio/ogg",
    "aac": "audio/aac",
}
WAV_HEADER_BYTES = 44
_UNKNOWN_SIZE = 0xFFFFFFFF  # what OpenAI's own streamed WAV carries (Kokoro-FastAPI PR 94 checked its bytes)

_OPUS_RATES = (8_000, 12_000, 16_000, 24_000, 48_000)
_MPEG_RATES = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
_CODEC_RATES: dict[Codec, tuple[int, ...]] = {"opus": _OPUS_RATES, "mp3": _MPEG_RATES, "aac": _MPEG_RATES}
_MP3_ENCODER_DELAY = 576  # samples of silence that LAME puts in front
_MP3_DELAY = _MP3_ENCODER_DELAY + 528 + 1  # and a decoder's share, by the LAME tag's convention


class Encoder(Protocol):
    """Takes PCM in any pieces and gives encoded bytes as soon as they exist; `close` gives the rest, once."""

    def encode(self, pcm: bytes) -> bytes: ...

    def close(self) -> bytes: ...


def output_rate(codec: Codec, sample_rate: int) -> int:
    """The rate in Hz at which `codec` carries `sample_rate`: the same, or the next higher one it knows."""
    rates = _CODEC_RATES.get(codec)
    if rates is None or sample_rate in rates:
        return sample_rate
    return next((rate for rate in rates if rate >= sample_rate), rates[-1])


def open_encoder(
    codec: Codec,
    *,
    sample_rate: int,
    channels: int,
    output_sample_rate: int | None = None,
    output_channels: int | None = None,
) -> tuple[Encoder, int, int]:
    """An encoder for PCM of `sample_rate` Hz and `channels`, with the rate and channels of what it makes."""
    rate = output_rate(codec, output_sample_rate or sample_rate)
    out_channels = output_channels or channels
    sink: Encoder
    if codec == "pcm":
        sink = _Pcm()
    elif codec == "wav":
        sink = _Wav(rate, out_channels)
    else:
        sink = _Compressed(codec, rate, out_channels)
    if rate != sample_rate or out_channels != channels:
        sink = _Converted(sink, sample_rate, channels, rate, out_channels)
    return sink, rate, out_channels


def whole_frames(pcm: object, channels: int) -> bytes:
    """`pcm` itself if it is whole 16-bit frames. Raises `InvalidAudio` saying what was found."""
    if not isinstance(pcm, bytes | bytearray | memoryview):
        raise InvalidAudio(f"the adapter returned {type(pcm).__name__}; it must return bytes of 16-bit PCM")
    data = bytes(pcm)
    if len(data) % (BYTES_PER_SAMPLE * channels):
        raise InvalidAudio(
            f"the adapter returned {len(data)} bytes: not a whole number of 16-bit frames of {channels} channel(s)"
        )
    return data


def wav_with_sizes(wav: bytes) -> bytes:
    """A whole WAV file whose header says its true size, from one that was encoded as a stream."""
    sizes = (struct.pack("<I", len(wav) - 8), struct.pack("<I", len(wav) - WAV_HEADER_BYTES))
    return wav[:4] + sizes[0] + wav[8:40] + sizes[1] + wav[WAV_HEADER_BYTES:]


class _Pcm:
    def encode(self, pcm: bytes) -> bytes:
        return pcm

    def close(self) -> bytes:
        return b""


class _Wav:
    def __init__(self, sample_rate: int, channels: int) -> None:
        frame_bytes = channels * BYTES_PER_SAMPLE
        self._header = struct.pack(
            "<4sI4s4sIHHIIHH4sI",
            b"RIFF", _UNKNOWN_SIZE, b"WAVE", b"fmt ", 16, 1, channels,
            sample_rate, sample_rate * frame_bytes, frame_bytes, 8 * BYTES_PER_SAMPLE, b"data", _UNKNOWN_SIZE,
        )  # fmt: skip

    def encode(self, pcm: bytes) -> bytes:
        header, self._header = self._header, b""
        return header + pcm

    def close(self) -> bytes:
        return self.encode(b"")


class _Converted:
    """Mixes channels and resamples in front of another encoder."""

    def __init__(self, sink: Encoder, rate: int, channels: int, out_rate: int, out_channels: int) -> None:
        self._sink, self._channels, self._out_channels = sink, channels, out_channels
        self._resampler = None
        if rate != out_rate:
            self._resampler = soxr.ResampleStream(rate, out_rate, out_channels, dtype="float32", quality="HQ")

    def encode(self, pcm: bytes) -> bytes:
        return self._sink.encode(self._convert(pcm, last=False))

    def close(self) -> bytes:
        tail = self._sink.encode(self._convert(b"", last=True)) if self._resampler else b""
        return tail + self._sink.close()

    def _convert(self, pcm: bytes, *, last: bool) -> bytes:
        samples: Samples = np.frombuffer(pcm, dtype="<i2").reshape(-1, self._channels)
        if self._channels > self._out_channels:
            samples = np.round(samples.mean(axis=1, keepdims=True)).astype(np.int16)
        elif self._channels < self._out_channels:
            samples = np.repeat(samples, self._out_channels, axis=1)
        if self._resampler is not None:
            # in float: at int16 soxr adds dither that depends on how the input was cut
            resampled = self._resampler.resample_chunk(samples.astype(np.float32) / 32_768, last=last)
            samples = np.clip(np.rint(resampled * 32_768), -32_768, 32_767).astype(np.int16)
        return samples.astype("<i2", copy=False).tobytes()


class _PageSink(io.RawIOBase):
    """Where the muxer writes. It believes it could seek, so that it writes an MP3's delay into the first frame; the
    sizes it patches in at the end have already left and are dropped."""

    def __init__(self) -> None:
        self._fresh = bytearray()
        self._end = self._position = 0

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        if self._position == self._end:
            self._fresh += data
            self._end += len(data)
        self._position += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._end}[whence]
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def take(self) -> bytes:
        fresh = bytes(self._fresh)
        self._fresh.clear()
        return fresh


# codec → (container, encoder, bits per second per channel, encoder options, muxer options); an Ogg page lasts
# 100,000 µs, and without bitexact its stream carries a random serial number
_FORMATS: dict[Codec, tuple[str, str, int, dict[str, str], dict[str, str]]] = {
    "flac": ("flac", "flac", 0, {"compression_level": "5"}, {"metadata_header_padding": "0"}),
    "mp3": ("mp3", "libmp3lame", 96_000, {}, {"id3v2_version": "0"}),
    "opus": ("ogg", "libopus", 48_000, {"application": "audio"}, {"page_duration": "100000", "fflags": "+bitexact"}),
    "aac": ("adts", "aac", 80_000, {}, {}),
}


class _Compressed:
    """FLAC, MP3, Ogg Opus or ADTS AAC.

    MP3 and AAC encoders put silence in front and behind. MP3 says so in its first frame, and surplus frames at the end
    are dropped; ADTS cannot say so, so its priming frame is left out (the first 1,024 samples are then faded in).
    FFmpeg wants to see three ADTS frames, so AAC of less than 0.15 s may not open there.
    """

    def __init__(self, codec: Codec, sample_rate: int, channels: int) -> None:
        container, encoder, bit_rate, encoder_options, muxer_options = _FORMATS[codec]
        self._codec, self._rate, self._channels = codec, sample_rate, channels
        self._layout = "mono" if channels == 1 else "stereo"
        self._sink = _PageSink()
        self._container = av.open(self._sink, "w", format=container, options={"flush_packets": "1", **muxer_options})
        # Any: the overloads of add_stream know video encoders only by literal name
        stream: Any = self._container.add_stream(encoder, rate=sample_rate, options=encoder_options)
        self._stream = stream
        stream.layout = self._layout
        if bit_rate:
            stream.bit_rate = bit_rate * channels
        self._stream.codec_context.open()
        self._frame_bytes = self._stream.codec_context.frame_size * channels * BYTES_PER_SAMPLE
        self._pending = bytearray()
        self._samples_in = self._packets_out = 0
        self._skip_packets = 1 if codec == "aac" else 0
        self._has_info_frame = codec != "mp3"

    def encode(self, pcm: bytes) -> bytes:
        # whole codec frames only, so that how the PCM was cut leaves no trace
        self._pending += pcm
        whole = len(self._pending) - len(self._pending) % self._frame_bytes
        for start in range(0, whole, self._frame_bytes):
            self._encode_frame(self._pending[start : start + self._frame_bytes])
        del self._pending[:whole]
        return self._take()

    def close(self) -> bytes:
        if self._pending:
            self._encode_frame(self._pending)
        if self._samples_in:
            self._mux(self._stream.encode(None), last=True)
        self._container.close()
        return self._take()

    def _take(self) -> bytes:
        data = self._sink.take()
        if data and not self._has_info_frame:
            self._has_info_frame, data = True, _info_frame_with_delay(data)
        return data

    def _encode_frame(self, pcm: bytearray) -> None:
        frame = av.AudioFrame.from_ndarray(
            np.frombuffer(pcm, dtype="<i2").reshape(1, -1), format="s16", layout=self._layout
        )
        frame.sample_rate, frame.pts = self._rate, self._samples_in
        self._samples_in += frame.samples
        self._mux(self._stream.encode(frame))

    def _mux(self, packets: list[Any], *, last: bool = False) -> None:
        for packet in packets:
            if self._skip_packets:
                self._skip_packets -= 1
            elif not (last and self._is_surplus()):
                self._packets_out += 1
                self._container.mux(packet)

    def _is_surplus(self) -> bool:
        """Whether the packets so far already hold every sample that came in."""
        if self._codec != "mp3":
            return False
        frame_size: int = self._stream.codec_context.frame_size
        return self._packets_out * frame_size - _MP3_DELAY >= self._samples_in


def _info_frame_with_delay(mp3: bytes) -> bytes:
    """Say the encoder's delay in the first frame of an MP3, so that decoders trim it.

    The muxer leaves that frame blank until it can seek back, which a stream cannot. Counts that are not yet known are
    marked absent. Layout: the Xing/Info tag with its LAME extension.
    """
    tag = mp3.index(b"Xing")
    extension = mp3.index(b"Lavf", tag)
    size = extension + 36 - tag
    delay_and_padding = (_MP3_ENCODER_DELAY << 12).to_bytes(3, "big")
    lame = b"Lavf".ljust(9, b"\0") + bytes(12) + delay_and_padding
    return mp3[:tag] + (b"Info" + bytes(4) + lame).ljust(size, b"\0") + mp3[tag + size :]


def decode(encoded: bytes, container: str | None = None) -> tuple[Samples, int]:
    """Decode a whole clip: samples of shape (frames, channels) and their rate in Hz. For tests and benchmarks."""
    blocks: list[Samples] = []
    rate = 0
    with av.open(io.BytesIO(encoded), format=container) as source:
        resampler = av.AudioResampler(format="s16")
        for frame in _resampled(source, resampler):
            rate = frame.sample_rate
            blocks.append(frame.to_ndarray().reshape(-1, frame.layout.nb_channels).astype(np.int16, copy=False))
    return np.concatenate(blocks), rate


def _resampled(source: Any, resampler: Any) -> Iterator[Any]:
    for frame in source.decode(audio=0):
        yield from resampler.resample(frame)
    yield from resampler.resample(None)
