#!/usr/bin/env python3
"""Weft's pictures beside Pillow's: EXACT has 0 levels of difference on every picture, FAST's difference is printed.

  images.py COOK_IMAGES WORK_FOLDER REPORT [FOLDER_OF_PICTURES...]

Makes 2,000 JPEGs, PNGs and WebPs of every kind and compares evaluation's pixels (shorter side resized, centre cut out) with
what the papers' code does: Image.open, convert("RGB"), Resize(bicubic), CenterCrop. Pixel operations are compared with
Pillow's ImageOps and ImageEnhance and OpenCV's warpAffine. Folders of more pictures (openclipart, tuxpaint's stamps) come on
top. Exit code 1: EXACT differs somewhere, or an operation does. `make check-images` makes the environment.
"""
import io
import json
import math
import pathlib
import random
import subprocess
import sys

import cv2
import numpy as np
import PIL
from PIL import Image, ImageEnhance, ImageFile, ImageOps

SIZE = 64
ImageFile.MAXBLOCK = 1 << 23  # room for the encoder's whole output
OPERATIONS_ON = 60  # pictures


def content(rng, width, height, channels):
    y, x = np.mgrid[0:height, 0:width]
    planes = [
        128 + 90 * np.sin(x * rng.uniform(0.02, 0.6) + y * rng.uniform(0.02, 0.6)) + rng.normal(0, rng.uniform(0, 30), (height, width))
        for _ in range(channels)
    ]
    return np.clip(np.stack(planes, -1), 0, 255).astype(np.uint8)


def side(rng):
    return int(rng.choice([rng.integers(1, 9), rng.integers(1, 65), rng.integers(30, 400), rng.integers(200, 900)]))


def make_jpeg(rng):
    kind = rng.integers(10)
    mode, channels = (("L", 1) if kind == 0 else ("RGB", 3))
    data = content(rng, side(rng), side(rng), channels)
    picture = Image.fromarray(data[..., 0] if channels == 1 else data, mode)
    options = {"quality": int(rng.integers(1, 101)), "subsampling": int(rng.integers(3)), "optimize": bool(rng.integers(2)),
               "progressive": bool(rng.integers(5) == 0)}
    if rng.integers(3) == 0:
        options["restart_marker_blocks"] = int(rng.integers(1, 20))
    return picture, "JPEG", options


def make_png(rng):
    mode, channels = (("RGB", 3), ("RGBA", 4), ("L", 1), ("LA", 2), ("P", 3), ("1", 1))[rng.integers(6)]
    data = content(rng, side(rng), side(rng), channels)
    base = Image.fromarray(data[..., 0] if channels == 1 else data, {"P": "RGB", "1": "L"}.get(mode, mode))
    if mode == "P":
        base = base.quantize(int(rng.integers(2, 256)))
    elif mode == "1":
        base = base.convert("1")
    return base, "PNG", {"compress_level": 1}


def make_webp(rng):
    channels = 3 + int(rng.integers(2))
    picture = Image.fromarray(content(rng, side(rng), side(rng), channels), "RGBA" if channels == 4 else "RGB")
    return picture, "WEBP", {"quality": int(rng.integers(1, 101)), "lossless": bool(rng.integers(2)), "exact": True, "method": 0}


def make_pictures(folder, count):
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for i in range(count):
        rng = np.random.default_rng(i)
        picture, kind, options = (make_webp if i % 20 == 0 else make_png if i % 4 == 1 else make_jpeg)(rng)
        out = io.BytesIO()
        picture.save(out, kind, **options)
        path = folder / f"{i:05d}.{kind.lower()}"
        path.write_bytes(out.getvalue())
        paths.append(path)
    return paths


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
    result = {"pillow": PIL.__version__, "opencv": cv2.__version__, "made": compare(program, folder, paths)}
    result["operations"] = compare_operations(program, folder, [p for p in paths if p.suffix == ".jpeg"][:OPERATIONS_ON])
    for more in sys.argv[4:]:
        found = sorted(p for p in pathlib.Path(more).rglob("*") if p.suffix.lower() in (".png", ".jpg", ".jpeg") and p.is_file())
        result[more] = compare(program, folder, random.sample(found, min(2000, len(found))))
    bad = 0
    for name, part in result.items():
        if not isinstance(part, dict) or name == "operations":
            continue
        bad += len(part["exact_differs"])
        print(f"{name}: {part['pictures']} pictures, EXACT differs from Pillow {result['pillow']} on {len(part['exact_differs'])}")
        print("".join(f"  refused: {path}\n" for path in part["refused"]), end="")
        if "fast" in part:
            print("  FAST on {jpegs} JPEGs: mean {mean:.2f}, max {max}, PSNR {psnr:.1f} dB".format(**part["fast"]))
        print("\n".join(part["exact_differs"][:10]))
    for name, levels in result["operations"].items():
        bad += levels > 0
        print(f"{name}: at most {levels} levels of difference")
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text(json.dumps(result, indent=1) + "\n")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
