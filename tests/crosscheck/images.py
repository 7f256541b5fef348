#!/usr/bin/env python3
"""Weft's pictures beside Pillow's: EXACT has 0 levels of difference on every picture, FAST's difference is printed.

  images.py COOK_IMAGES WORK_FOLDER REPORT [FOLDER_OF_PICTURES...]

Makes 2,256 JPEGs, PNGs and WebPs of every kind and compares evaluation's pixels (shorter side resized, centre cut out) with
what the papers' code does: Image.open, convert("RGB"), Resize(bicubic), CenterCrop. Pixel operations are compared with
Pillow's ImageOps and ImageEnhance and OpenCV's warpAffine. Folders of more pictures (openclipart, tuxpaint's stamps) come on
top, as they are and as JPEGs. Exit code 1: EXACT differs somewhere, or an operation does. `make check-images` makes the environment.
"""
import io
import json
import math
import pathlib
import random
import struct
import subprocess
import sys
import zlib

import cv2
import numpy as np
import PIL
from PIL import Image, ImageEnhance, ImageFile, ImageOps

SIZE = 64
ImageFile.MAXBLOCK = 1 << 23  # room for the encoder's whole output
OPERATIONS_ON = 60  # pictures
MOST_JPEGS = 500  # of a folder


def content(rng, width, height, channels):
    y, x = np.mgrid[0:height, 0:width]
    planes = [
        128 + 90 * np.sin(x * rng.uniform(0.02, 0.6) + y * rng.uniform(0.02, 0.6)) + rng.normal(0, rng.uniform(0, 30), (height, width))
        for _ in range(channels)
    ]
    return np.clip(np.stack(planes, -1), 0, 255).astype(np.uint8)


def side(rng):
    return int(rng.choice([rng.integers(1, 9), rng.integers(1, 65), rng.integers(30, 400), rng.integers(200, 900)]))


def make_jpeg(rng, size=None):
    """Each sampling, quality, size, restart interval; progressive; gray; CMYK."""
    kind = rng.integers(10)
    mode, channels = {0: ("L", 1), 1: ("CMYK", 4)}.get(int(kind), ("RGB", 3))
    width, height = size or (side(rng), side(rng))
    data = content(rng, width, height, channels)
    picture = Image.fromarray(data[..., 0] if channels == 1 else data, mode)
    options = {"quality": int(rng.integers(1, 101)), "subsampling": int(rng.integers(3)), "optimize": bool(rng.integers(2)),
               "progressive": bool(rng.integers(5) == 0)}
    if rng.integers(3) == 0:
        options["restart_marker_blocks"] = int(rng.integers(1, 20))
    return encode(picture, "JPEG", options)


def encode(picture, kind, options):
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue(), kind.lower()


# Where each of Adam7's passes begins, and its steps: x, y.
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def interlaced_png(data):
    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    height, width, channels = data.shape
    raw = b"".join(b"\0" + row.tobytes() for x, y, dx, dy in ADAM7 for row in data[y::dy, x::dx] if row.size)
    header = struct.pack(">IIBBBBB", width, height, 8, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 1)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(raw, 1)) + chunk(b"IEND", b"")


def make_png(rng):
    """Colour, gray, palette of 1 to 8 bits, black and white, with and without alpha; 16 bits; interlaced."""
    kinds = (("RGB", 3), ("RGBA", 4), ("L", 1), ("LA", 2), ("P", 3), ("1", 1), ("16", 3), ("interlaced", int(rng.integers(1, 5))))
    mode, channels = kinds[rng.integers(len(kinds))]
    data = content(rng, side(rng), side(rng), channels)
    if mode == "interlaced":
        return interlaced_png(data), "png"
    if mode == "16":
        wide = data.astype(np.uint16) * 256 + rng.integers(0, 256, data.shape, dtype=np.uint16)
        return cv2.imencode(".png", wide)[1].tobytes(), "png"
    base = Image.fromarray(data[..., 0] if channels == 1 else data, {"P": "RGB", "1": "L"}.get(mode, mode))
    options = {"compress_level": 1}
    if mode == "P":
        base = base.quantize(int(rng.integers(2, 256)))
        if rng.integers(2):
            options["transparency"] = 0
    elif mode == "1":
        base = base.convert("1")
    return encode(base, "PNG", options)


def make_webp(rng):
    channels = 3 + int(rng.integers(2))
    picture = Image.fromarray(content(rng, side(rng), side(rng), channels), "RGBA" if channels == 4 else "RGB")
    return encode(picture, "WEBP", {"quality": int(rng.integers(1, 101)), "lossless": bool(rng.integers(2)), "exact": True, "method": 0})


SMALL = 16  # JPEGs of each width and height up to this


def make_pictures(folder, count):
    folder.mkdir(parents=True, exist_ok=True)
    paths = []

    def write(i, data, kind):
        paths.append(folder / f"{i:05d}.{kind}")
        paths[-1].write_bytes(data)

    for i in range(SMALL * SMALL):
        write(count + i, *make_jpeg(np.random.default_rng(count + i), (1 + i % SMALL, 1 + i // SMALL)))
    for i in range(count):
        write(i, *(make_webp if i % 20 == 0 else make_png if i % 4 == 1 else make_jpeg)(np.random.default_rng(i)))
    return paths


def as_jpegs(folder, paths):
    """The same pictures as photographs are mostly kept: 4:2:0, quality 90."""
    folder.mkdir(parents=True, exist_ok=True)
    out = []
    for i, path in enumerate(paths):
        picture = Image.open(path).convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
        out.append(folder / f"{i:05d}.jpeg")
        picture.save(out[-1], "JPEG", quality=90)
    return out


def pillow_planes(path):
    picture = Image.open(path).convert("RGB")
    width, height = picture.size
    shorter = min(width, height)
    full = (SIZE * width // shorter, SIZE * height // shorter)
    resized = picture.resize(full, Image.BICUBIC)
    left, top = round((full[0] - SIZE) / 2), round((full[1] - SIZE) / 2)
    return np.asarray(resized.crop((left, top, left + SIZE, top + SIZE))).transpose(2, 0, 1)


def operations(planes):
    picture = Image.fromarray(np.ascontiguousarray(planes.transpose(1, 2, 0)))
    array = np.asarray(picture)

    def warp(matrix):
        return cv2.warpAffine(array, matrix, (SIZE, SIZE), borderValue=(128, 128, 128), flags=cv2.INTER_LINEAR)

    yield "autocontrast", ImageOps.autocontrast(picture)
    yield "equalize", ImageOps.equalize(picture)
    for factor in (1.36, 0.4):
        yield f"brightness {factor}", ImageEnhance.Brightness(picture).enhance(factor)
    for factor in (1.36, 0.28):
        yield f"sharpness {factor}", ImageEnhance.Sharpness(picture).enhance(factor)
    for shear in (0.21, -0.15):
        yield f"shear x {shear}", warp(np.float32([[1, shear, 0], [0, 1, 0]]))
    yield "shear y 0.21", warp(np.float32([[1, 0, 0], [0.21, 1, 0]]))
    yield "translate x 7", warp(np.float32([[1, 0, -7], [0, 1, 0]]))
    yield "translate y -3.5", warp(np.float32([[1, 0, 0], [0, 1, 3.5]]))
    for degrees in (21, -15):
        yield f"rotate {degrees}", warp(cv2.getRotationMatrix2D((SIZE / 2, SIZE / 2), degrees, 1))
    for factor in (0.3, 1.7):
        yield f"contrast {factor}", ImageEnhance.Contrast(picture).enhance(factor)
        yield f"saturation {factor}", ImageEnhance.Color(picture).enhance(factor)


def cook(program, folder, paths, *flags):
    (folder / "list").write_text("\n".join(map(str, paths)) + "\n")
    subprocess.run([program, str(folder / "list"), str(folder / "out"), "--size", str(SIZE), *flags], check=True)
    return (folder / "out").read_bytes()


def compare(program, folder, paths):
    data, at, plane = cook(program, folder, paths), 0, 3 * SIZE * SIZE
    differing, refused, squares, total, largest, fast = [], [], 0.0, 0.0, 0, 0
    for path in paths:
        decoded = data[at] == 1
        at += 1
        try:
            expected = pillow_planes(path)
        except Exception:
            expected = None
        if not decoded:
            refused.append(f"{path}{'' if expected is None else ': Pillow decodes it'}")
            continue
        ours = np.frombuffer(data, np.uint8, 2 * plane, at).reshape(2, 3, SIZE, SIZE).astype(int)
        at += 2 * plane
        if expected is None or (ours[0] != expected).any():
            levels = "Pillow does not decode it" if expected is None else f"{abs(ours[0] - expected).max()} levels"
            differing.append(f"{path}: {levels}")
        if expected is None or path.suffix != ".jpeg" or min(Image.open(path).size) < SIZE:
            continue
        difference = abs(ours[1] - expected)
        fast, total, squares = fast + 1, total + difference.sum(), squares + (difference**2).sum()
        largest = max(largest, int(difference.max()))
    result = {"pictures": len(paths), "exact_differs": differing, "refused": refused}
    if fast:
        psnr = 10 * math.log10(255**2 / (squares / (fast * plane)))
        result["fast"] = {"jpegs": fast, "mean": total / (fast * plane), "max": largest, "psnr": psnr}
    return result


def compare_operations(program, folder, paths):
    data, at, plane = cook(program, folder, paths, "--operations"), 0, 3 * SIZE * SIZE
    differing = {}
    for _ in paths:
        exact = np.frombuffer(data, np.uint8, plane, at + 1).reshape(3, SIZE, SIZE)
        at += 1 + 2 * plane
        for name, expected in operations(exact):
            ours = np.frombuffer(data, np.uint8, plane, at).reshape(3, SIZE, SIZE).astype(int)
            at += plane
            levels = int(abs(ours - np.asarray(expected).transpose(2, 0, 1)).max())
            differing[name] = max(differing.get(name, 0), levels)
    return differing


def main():
    program, folder, report = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
    random.seed(1)
    paths = make_pictures(folder / "made", 2000)
    by_size = [p for p in paths if p.suffix == ".jpeg" and min(Image.open(p).size) > SMALL]
    result = {"pillow": PIL.__version__, "opencv": cv2.__version__, "made": compare(program, folder, paths)}
    result["operations"] = compare_operations(program, folder, by_size[:OPERATIONS_ON])
    for more in map(pathlib.Path, sys.argv[4:]):
        found = sorted(p for p in more.rglob("*") if p.suffix.lower() in (".png", ".jpg", ".jpeg") and p.is_file())
        chosen = random.sample(found, min(2000, len(found)))
        name = more.relative_to(folder).parts[0] if more.is_relative_to(folder) else str(more)
        result[name] = compare(program, folder, chosen)
        result[name + " as JPEG"] = compare(program, folder, as_jpegs(folder / "jpegs", chosen[:MOST_JPEGS]))
    bad, pictures = 0, 0
    for name, part in result.items():
        if not isinstance(part, dict) or name == "operations":
            continue
        bad, pictures = bad + len(part["exact_differs"]), pictures + part["pictures"]
        print(f"{name}: {part['pictures']} pictures, EXACT differs from Pillow {result['pillow']} on {len(part['exact_differs'])}")
        print("".join(f"  refused: {path}\n" for path in part["refused"]), end="")
        if "fast" in part:
            print("  FAST on {jpegs} JPEGs: mean {mean:.2f}, max {max}, PSNR {psnr:.1f} dB".format(**part["fast"]))
        if part["exact_differs"]:
            print("\n".join(part["exact_differs"][:10]))
    print("FAST is furthest on the made ones, which are noise and waves near the limit of what a JPEG holds; on photograph-like "
          "ones `make bench-decode` prints it")
    levels = result["operations"]
    for name in (name for name in levels if levels[name]):
        print(f"{name}: at most {levels[name]} levels of difference")
    print(f"pixel operations: {len(levels)}, differing: {sum(map(bool, levels.values()))} (target 0)")
    enough = "" if pictures >= 2000 else ", but too few pictures"
    print(f"EXACT beside Pillow: {pictures} pictures, differing: {bad} (target 0 of at least 2000: {'missed' if bad else 'met'}{enough})")
    bad += sum(map(bool, levels.values()))
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text(json.dumps(result, indent=1) + "\n")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
