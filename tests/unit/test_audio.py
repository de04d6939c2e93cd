import io
import struct
import wave

import numpy as np
import pytest

from yapit import audio
from yapit.contracts import Codec
from yapit.errors import InvalidAudio

CODECS: list[Codec] = ["pcm", "wav", "flac", "mp3", "opus", "aac"]
FRAME_SAMPLES = {"wav": 1, "flac": 1, "mp3": 1_152, "opus": 960, "aac": 1_024}


def chirp(sample_rate: int, seconds: float, channels: int = 1) -> bytes:
    time_s = np.arange(int(sample_rate * seconds)) / sample_rate
    wave_ = np.sin(2 * np.pi * (200 + 300 * time_s) * time_s) * 8_000
    return np.repeat(wave_[:, None], channels, axis=1).astype("<i2").tobytes()


def encode(codec: Codec, pcm: bytes, step_bytes: int, *, rate: int, channels: int = 1, **wanted: int) -> bytes:
    encoder, _, _ = audio.open_encoder(codec, sample_rate=rate, channels=channels, **wanted)
    parts = [encoder.encode(pcm[start : start + step_bytes]) for start in range(0, len(pcm), step_bytes)]
    return b"".join([*parts, encoder.close()])


def decoded(codec: Codec, data: bytes) -> tuple[np.ndarray, int]:
    return audio.decode(data, "adts" if codec == "aac" else None)


@pytest.mark.parametrize("codec", CODECS[1:])
@pytest.mark.parametrize("rate", [16_000, 22_050, 24_000, 44_100, 48_000])
@pytest.mark.parametrize("seconds", [0.2, 1.0, 2.0057])
def test_every_codec_decodes_to_the_pcms_duration_within_one_frame(codec: Codec, rate: int, seconds: float) -> None:
    pcm = chirp(rate, seconds)
    samples, decoded_rate = decoded(codec, encode(codec, pcm, 4_000, rate=rate))
    expected = len(pcm) // 2 * decoded_rate / rate
    assert expected - 2 <= len(samples) <= expected + FRAME_SAMPLES[codec]


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("rate", [22_050, 24_000])
def test_how_pcm_is_cut_leaves_no_trace(codec: Codec, rate: int) -> None:
    pcm = chirp(rate, 1.3)
    assert encode(codec, pcm, 2_026, rate=rate) == encode(codec, pcm, len(pcm), rate=rate)


@pytest.mark.parametrize("codec", ["wav", "flac", "mp3", "opus", "aac"])
def test_sound_survives_from_start_to_end(codec: Codec) -> None:
    pcm = chirp(48_000, 2.0)
    original = np.frombuffer(pcm, "<i2").astype(float)
    samples, _ = decoded(codec, encode(codec, pcm, 9_600, rate=48_000))
    start, end = 2_048, len(original) - 4_800
    for piece in (slice(start, start + 9_600), slice(end, len(original))):
        assert np.corrcoef(samples[piece, 0].astype(float), original[piece])[0, 1] > 0.97


@pytest.mark.parametrize("codec", ["flac", "mp3", "opus", "aac"])
def test_encoded_audio_leaves_before_the_end(codec: Codec) -> None:
    encoder, _, _ = audio.open_encoder(codec, sample_rate=24_000, channels=1)
    assert len(encoder.encode(chirp(24_000, 1.0))) > 1_000


def test_resampling_keeps_pitch_and_length() -> None:
    time_s = np.arange(22_050 * 2) / 22_050
    pcm = (np.sin(2 * np.pi * 440 * time_s) * 8_000).astype("<i2").tobytes()
    out = np.frombuffer(encode("pcm", pcm, 3_000, rate=22_050, output_sample_rate=24_000), "<i2")
    assert abs(len(out) - 48_000) <= 1
    spectrum = np.abs(np.fft.rfft(out * np.hanning(len(out))))
    assert abs(np.argmax(spectrum) * 24_000 / len(out) - 440) < 1


def test_stereo_is_mixed_down_and_mono_doubled() -> None:
    left_right = np.array([[1_000, 3_000]] * 10, "<i2").tobytes()
    assert (
        np.frombuffer(encode("pcm", left_right, 40, rate=24_000, channels=2, output_channels=1), "<i2").tolist()
        == [2_000] * 10
    )
    mono = np.array([5, -5], "<i2").tobytes()
    assert np.frombuffer(encode("pcm", mono, 4, rate=24_000, output_channels=2), "<i2").tolist() == [5, 5, -5, -5]


def test_a_streamed_wav_says_unknown_size_and_a_whole_one_its_own() -> None:
    pcm = chirp(24_000, 0.5)
    streamed = encode("wav", pcm, 1_000, rate=24_000)
    assert struct.unpack("<I", streamed[4:8]) == (0xFFFFFFFF,)
    with wave.open(io.BytesIO(audio.wav_with_sizes(streamed))) as file:
        assert (file.getnframes(), file.getframerate(), file.getnchannels()) == (12_000, 24_000, 1)
        assert file.readframes(12_000) == pcm


@pytest.mark.parametrize(("found", "said"), [(b"\0\0\0", "3 bytes"), ("sound", "str"), (None, "NoneType")])
def test_what_is_no_pcm_is_refused(found: object, said: str) -> None:
    with pytest.raises(InvalidAudio, match=said):
        audio.whole_frames(found, 1)
