#!/usr/bin/env python3
"""Makes docs/ladder.png: three balls that this script draws, and what `tersor palettize` makes of them.

    cargo build --release && python3 scripts/ladder.py target/release/tersor

It needs nothing but Python. The sheet is palettized once more, so that the file is small.
"""
import math, pathlib, struct, subprocess, sys, tempfile, zlib

WIDTH, HEIGHT, SAMPLES = 228, 152, 3
BALLS = [((-1.15, 0.0, 4.2), 1.0, (0.92, 0.22, 0.16)), ((0.75, -0.35, 3.4), 0.65, (0.16, 0.45, 0.95)), ((1.7, 0.3, 5.6), 1.3, (0.95, 0.78, 0.2))]
LIGHT = tuple(x / math.sqrt(0.5 ** 2 + 1 + 0.7 ** 2) for x in (-0.5, 1.0, -0.7))
dot = lambda a, b: sum(x * y for x, y in zip(a, b))


def hit(start, way):
    """The nearest ball ahead, and how far it is."""
    best = (math.inf, None)
    for ball in BALLS:
        away = [s - c for s, c in zip(start, ball[0])]
        b, c = dot(way, away), dot(away, away) - ball[1] ** 2
        if b * b > c:
            far = -b - math.sqrt(b * b - c)
            if 1e-4 < far < best[0]:
                best = (far, ball)
    return best


def color(start, way, depth=0):
    far, ball = hit(start, way)
    floor = (-1.0 - start[1]) / way[1] if way[1] < 0 else math.inf
    if ball is None and floor == math.inf:
        up = max(way[1], 0.0)
        return [0.98 - 0.75 * up ** 0.6, 0.72 - 0.35 * up ** 0.6, 0.55 + 0.25 * up ** 0.5]
    if floor < far:
        at, normal = [s + floor * w for s, w in zip(start, way)], (0.0, 1.0, 0.0)
        base = (0.78, 0.76, 0.72) if (math.floor(at[0]) + math.floor(at[2])) % 2 else (0.28, 0.32, 0.36)
        mirror = 0.1
    else:
        at = [s + far * w for s, w in zip(start, way)]
        normal = [(x - c) / ball[1] for x, c in zip(at, ball[0])]
        base, mirror = ball[2], 0.22
    shade = 0.25 + (0.75 * max(dot(normal, LIGHT), 0.0) if hit(at, LIGHT)[1] is None else 0.0)
    found = [x * shade for x in base]
    if depth < 2:
        turned = [w - 2 * dot(way, normal) * n for w, n in zip(way, normal)]
        found = [(1 - mirror) * x + mirror * y for x, y in zip(found, color(at, turned, depth + 1))]
    return found


def pixel(x, y):
    total = [0.0] * 3
    for i in range(SAMPLES ** 2):
        u, v = x + (i % SAMPLES + 0.5) / SAMPLES, y + (i // SAMPLES + 0.5) / SAMPLES
        way = (u / WIDTH * 2 - 1, (1 - v / HEIGHT * 2) * HEIGHT / WIDTH, 1.5)
        size = math.sqrt(dot(way, way))
        found = color((0.0, 0.2, 0.0), [w / size for w in way])
        total = [t + f for t, f in zip(total, found)]
    return bytes(min(255, round(255 * (t / SAMPLES ** 2) ** (1 / 1.6))) for t in total)


def png(rows):
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    head = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows))) + chunk(b"IEND", b"")


out = pathlib.Path(__file__).resolve().parent.parent / "docs/ladder.png"
with tempfile.TemporaryDirectory() as folder:
    balls, sheet = folder + "/balls.png", folder + "/sheet.png"
    pathlib.Path(balls).write_bytes(png([b"".join(pixel(x, y) for x in range(WIDTH)) for y in range(HEIGHT)]))
    tersor = lambda *words: subprocess.run([sys.argv[1], "palettize", *words, "--device", "cpu", "-q"], check=True)
    tersor(balls, "--colors", "2,4,..,256", "--sheet", sheet)
    tersor(sheet, "-o", str(out), "--force")
print(out, out.stat().st_size, "bytes")
