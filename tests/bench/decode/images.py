"""Photograph-like JPEGs (4:2:0, quality 90) of short side 256, 512 and 768, with captions, in the formats of all loaders.

  images.py FOLDER COUNT     -> FOLDER/{256,512,768}/{jpg/*.jpg, wds/0.tar, mds/, lit/, energon/}

Brightness has a spectrum like photographs', colours are smoother, and some edges are laid over. Same files every time.
"""
import io
import os
import pathlib
import subprocess
import sys
import tarfile

import numpy as np
from PIL import Image

WORDS = ("a the of in on with red green blue small large old new city street house garden dog cat bird horse child woman man "
         "walking running sitting holding near under tree river mountain snow beach table window light morning evening photo").split()


def field(rng, height, width, power):
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :])
    frequency[0, 0] = 1
    spectrum = np.fft.rfft2(rng.standard_normal((height, width))) / frequency**power
    out = np.fft.irfft2(spectrum, (height, width))
    return (out - out.mean()) / out.std()


# Larger pictures of a scene are smoother: bytes a pixel as img2dataset's and ImageNet's pictures have them.
POWER = {256: 1.15, 512: 1.4, 768: 1.6}


def scene(seed, size, height=1200, width=1600):
    rng = np.random.default_rng(seed)
    luma = 120 + 45 * field(rng, height, width, POWER[size])
    shapes = field(rng, height, width, 2.0)
    luma += 40 * (shapes > 0.5) - 35 * (shapes < -0.8)
    luma += rng.normal(0, 1, luma.shape)
    chroma = [128 + 22 * field(rng, height, width, 1.6) for _ in range(2)]
    planes = [np.clip(p, 0, 255).astype(np.uint8) for p in (luma, *chroma)]
    return Image.merge("YCbCr", [Image.fromarray(p) for p in planes]).convert("RGB")


def samples(size, count, scenes):
    rng = np.random.default_rng(size)
    for i in range(count):
        ratio = rng.uniform(1.2, 1.5)
        width, height = (round(size * ratio), size) if i % 3 else (size, round(size * ratio))
        picture = scenes[i % len(scenes)]
        left, top = rng.integers(0, picture.width - width + 1), rng.integers(0, picture.height - height + 1)
        out = io.BytesIO()
        picture.crop((left, top, left + width, top + height)).save(out, "JPEG", quality=90, subsampling=2)
        yield f"{i:06d}", out.getvalue(), " ".join(rng.choice(WORDS, rng.integers(6, 14)))


def write_tar(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for key, jpeg, text in rows:
            for name, data in ((f"{key}.jpg", jpeg), (f"{key}.txt", text.encode())):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))


def write_mds(folder, rows):
    from streaming import MDSWriter
    with MDSWriter(out=str(folder), columns={"jpg": "bytes", "txt": "str"}) as out:
        for _, jpeg, text in rows:
            out.write({"jpg": jpeg, "txt": text})


def as_lit(row):
    return {"jpg": row[1], "txt": row[2]}


def write_lit(folder, rows):
    from litdata import optimize
    optimize(fn=as_lit, inputs=rows, output_dir=str(folder), chunk_bytes="64MB", num_workers=1)


def write_energon(folder, tar):
    folder.mkdir(parents=True)
    (folder / "0.tar").symlink_to(tar)
    subprocess.run([
        os.path.join(os.path.dirname(sys.executable), "energon"), "prepare", str(folder), "--non-interactive", "--split-ratio",
        "1,0,0", "--sample-type", "CaptioningSample", "--field-map", '{"image": "jpg", "caption": "txt"}', "--num-workers", "1"
    ], check=True, stdout=subprocess.DEVNULL)


def main():
    root, count = pathlib.Path(sys.argv[1]).resolve(), int(sys.argv[2])
    for size in POWER:
        scenes = [scene(seed, size) for seed in range(6)]
        rows = list(samples(size, count, scenes))
        folder = root / str(size)
        (folder / "jpg").mkdir(parents=True)
        for key, jpeg, _ in rows:
            (folder / "jpg" / f"{key}.jpg").write_bytes(jpeg)
        write_tar(folder / "wds" / "0.tar", rows)
        print(f"short side {size}: {count} pictures of {sum(len(r[1]) for r in rows) / count / 1000:.1f} kB", flush=True)
        for name, write in (("mds", lambda: write_mds(folder / "mds", rows)), ("lit", lambda: write_lit(folder / "lit", rows)),
                            ("energon", lambda: write_energon(folder / "energon", folder / "wds" / "0.tar"))):
            try:
                write()
            except Exception as error:  # the report names the loader and the reason
                (folder / f"{name}.failed").write_text(f"{type(error).__name__}: {error}")
                print(f"  {name}: {error}", flush=True)


if __name__ == "__main__":
    main()
