"""Media whose frames carry their number and whose seconds begin with a beep, and what a clip holds.

Frame n shows n in twelve blocks, dark or bright; second k begins with 0.1 s of 500 + 50 k Hz.
"""

from fractions import Fraction

import av
import numpy as np

WIDTH, HEIGHT, RATE = 96, 64, 48_000
BEEP = 0.1


def picture(number):
    """uint8 [HEIGHT, WIDTH, 3]: bit b of the number is block (b // 6, b % 6)."""
    bits = (number >> np.arange(12) & 1).reshape(2, 6)
    grey = np.kron(bits, np.ones((HEIGHT // 2, WIDTH // 6))) * 210 + 20
    return np.repeat(grey[..., None], 3, axis=2).astype(np.uint8)


def sound(seconds, rate=RATE, first=0):
    """float32 [samples]; the first beep is that of second ``first``."""
    time = np.arange(round(seconds * rate)) / rate
    second = np.floor(time + 1e-9)
    tone = np.sin(2 * np.pi * (500 + 50 * (second + first)) * (time - second))
    return (0.5 * tone * (time - second < BEEP)).astype(np.float32)


def numbers(frames):
    """Numbers of frames uint8 [T, H, W, 3]."""
    count, height, width = frames.shape[:3]
    rows = (np.arange(2) * 2 + 1) * height // 4
    columns = (np.arange(6) * 2 + 1) * width // 12
    bits = frames[:, rows][:, :, columns].mean(axis=-1).reshape(count, 12) > 128
    return (bits << np.arange(12)).sum(axis=1)


def beeps(waveform, rate=RATE):
    """(seconds, number) of each beep."""
    if waveform is None:
        return []
    loud = np.convolve(np.abs(waveform), np.ones(96) / 96, "same") > 0.1
    edges = np.flatnonzero(np.diff(np.r_[0, loud, 0]))
    starts, ends = edges[::2], edges[1::2]
    found = []
    for start in starts[np.r_[True, starts[1:] - ends[:-1] > 0.05 * rate]] if len(starts) else ():
        tone = waveform[start : start + round(0.08 * rate)]
        if len(tone) < 0.05 * rate:
            continue  # the end of a beep
        power = np.abs(np.fft.rfft(tone * np.hanning(len(tone)), 1 << 16))
        pitch = power.argmax() * rate / (1 << 16)
        found.append((start / rate, round((pitch - 500) / 50)))
    return found


def write(
    path,
    seconds=4.0,
    fps=25,
    video="libx264",
    audio="aac",
    *,
    gop=12,
    sound_seconds=None,
    rate=RATE,
    layout="mono",
    first=(0, 0),
    stamp=lambda kind, time: time,
    late=0.0,
    subtitle=None,
    container=None,
    options=None,
):
    """Writes a file.

    Args:
        path: Its ending says which container.
        seconds: Length of the picture.
        fps: Frames per second.
        video: Encoder, None for no picture.
        audio: Encoder, None for no sound.
        gop: Frames from key frame to key frame.
        sound_seconds: Length of the sound; that of the picture by default.
        rate: Samples per second.
        layout: Layout of the channels, which are all alike.
        first: Numbers of the first frame and of the first beep.
        stamp: Time stamp of a packet ("video" or "audio") by its decoding time, in seconds.
        late: Seconds by which everything is late.
        subtitle: Seconds at which a subtitle stands.
        container: Options of the muxer.
        options: Options of the encoder.
    """
    with av.open(str(path), "w", options=container or {}) as file:
        streams = []
        if video:
            streams.append(file.add_stream(video, fps, options={"g": str(gop)}))
            streams[0].width, streams[0].height, streams[0].pix_fmt = WIDTH, HEIGHT, "yuv420p"
            if "264" in video:
                fast = {"preset": "ultrafast", "bf": "2", "crf": "12"}
                streams[0].options |= fast | (options or {})
            if video == "libvpx":
                streams[0].options |= {"deadline": "realtime", "cpu-used": "8"}
        if audio:
            streams.append(file.add_stream(audio, rate, layout=layout))
        if subtitle is not None:
            streams.append(file.add_stream_from_template(_subtitle(path)))
        packets = []
        if video:
            for number in range(round(seconds * fps)):
                frame = av.VideoFrame.from_ndarray(picture(first[0] + number), format="rgb24")
                frame.pts, frame.time_base = number, Fraction(1, fps)
                packets += streams[0].encode(frame)
            packets += streams[0].encode(None)
        if audio:
            packets += _sound_packets(
                streams[bool(video)], sound(sound_seconds or seconds, rate, first[1]), rate, layout
            )
        for packet in sorted(packets, key=lambda p: float(p.dts * p.time_base)):
            kind = packet.stream.type
            time = float(packet.dts * packet.time_base)
            ticks = round((stamp(kind, time) + late - time) / packet.time_base)
            packet.pts, packet.dts = packet.pts + ticks, packet.dts + ticks
            file.mux(packet)
        if subtitle is not None:
            packet = av.Packet(b"far away")
            packet.stream, packet.time_base = streams[-1], Fraction(1, 1000)
            packet.pts = packet.dts = round(subtitle * 1000)
            packet.duration = 2000
            file.mux(packet)
    return path


def _subtitle(path):
    text = path.with_suffix(".srt")
    text.write_text("1\n00:00:01,000 --> 00:00:02,000\nfar away\n")
    return av.open(str(text)).streams[0]


def _sound_packets(stream, samples, rate, layout):
    channels = av.AudioLayout(layout).nb_channels
    resampler = av.AudioResampler(
        stream.codec_context.format, layout, rate, stream.codec_context.frame_size or 1024
    )
    frame = av.AudioFrame.from_ndarray(
        np.repeat(samples[None], channels, axis=0), format="fltp", layout=layout
    )
    frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
    for part in [*resampler.resample(frame), *resampler.resample(None)]:
        yield from stream.encode(part)
    yield from stream.encode(None)
