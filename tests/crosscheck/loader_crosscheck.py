#!/usr/bin/env python3
"""Equal samples, by hash, between Weft and the libraries whose formats it reads and writes.

  loader_crosscheck.py --weft build/release/bin/weft --report build/reports/loader-crosscheck.json
  loader_crosscheck.py --write-fixtures tests/dataloader/foreign     (small files, kept in the repository)

webdataset, MosaicML streaming and img2dataset (its writer) write the same samples in their formats; Weft reads them
(`weft data cat --hash`) and must say the same SHA-256 of every member. Then `weft data pack` writes shards and webdataset
reads them. `make crosscheck` makes the environment. Exit code 1: something differs.
"""
import argparse
import hashlib
import importlib.abc
import importlib.machinery
import importlib.util
import io
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
import types

import numpy as np
from PIL import Image


def sha(data):
    return hashlib.sha256(data).hexdigest()


class Absent(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Empty modules for what the writers import but never use (PyTorch, cloud clients): gigabytes that no writer needs."""

    roots = {
        "torch", "torchvision", "transformers", "boto3", "botocore", "google", "oci", "azure", "paramiko", "matplotlib",
        "huggingface_hub", "filelock", "databricks", "psutil", "requests", "alipcs_py"
    }

    def find_spec(self, name, path=None, target=None):
        root = name.split(".")[0]
        if root in self.roots and importlib.machinery.PathFinder.find_spec(root) is None:
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec):
        module = types.ModuleType(spec.name)

        def attribute(name):
            if name.startswith("__"):
                raise AttributeError(name)
            return type(name, (), {"__class_getitem__": lambda cls, item: cls})

        module.__getattr__ = attribute
        return module

    def exec_module(self, module):
        pass

    def __enter__(self):
        sys.meta_path.append(self)

    def __exit__(self, *_):
        sys.meta_path.remove(self)
        for name in [name for name in sys.modules if getattr(sys.modules[name], "__loader__", None) is self]:
            del sys.modules[name]


def picture(i, width, height, kind):
    rows, columns = np.mgrid[0:height, 0:width]
    planes = [(rows * (i + 2) + columns * 3) % 256, (columns * (i + 1)) % 256, (rows + columns + 40 * i) % 256]
    out = io.BytesIO()
    Image.fromarray(np.stack(planes, -1).astype(np.uint8)).save(out, kind, quality=90)
    return out.getvalue()


def samples(count):
    """Pictures of several sizes and formats, captions with all kinds of letters, some empty."""
    texts = ["a cat", "zwei Hunde über Flüsse", "三只鸟", "a 🚲 and\na line break", "", "quotes \" and \\ and 'these'"]
    for i in range(count):
        kind = ("JPEG", "PNG", "WEBP")[i % 3]
        yield {
            "key": f"{i:06d}",
            "image": picture(i, 24 + i % 9, 17 + i % 5, kind),
            "extension": {"JPEG": "jpg", "PNG": "png", "WEBP": "webp"}[kind],
            "text": texts[i % len(texts)],
            "json": {"index": i, "list": [1, 2.5, None], "text": texts[i % len(texts)]},
        }


# --- what other tools write ------------------------------------------------------------------------------------------
# Each returns (what Weft is given, {(key, extension): sha256}).


def webdataset_writer(folder, count, name, **options):
    import webdataset
    path = folder / name
    expected = {}
    with webdataset.TarWriter(str(path), **options) as writer:
        for sample in samples(count):
            members = {
                sample["extension"]: sample["image"],
                "txt": sample["text"].encode(),
                "json": json.dumps(sample["json"]).encode(),
                "0.seg.npy": bytes(range(256)) * 3,
                "cls": b"%d" % sample["json"]["index"],
            }
            writer.write({"__key__": "some.dir/" + sample["key"], **members})
            expected.update({("some.dir/" + sample["key"], ext): sha(data) for ext, data in members.items()})
    return [str(path)], expected


def pax_by_python(folder, count, kind):
    """What people make by hand: Python's tarfile, with names too long for USTAR."""
    path = folder / f"hand-{kind}.tar"
    expected = {}
    formats = {"pax": tarfile.PAX_FORMAT, "gnu": tarfile.GNU_FORMAT}
    with tarfile.open(path, "w", format=formats[kind]) as tar:
        for sample in samples(count):
            key = "a-long-folder-name/" * 8 + "ü" + sample["key"]
            for ext, data in ((sample["extension"].upper(), sample["image"]), ("txt", sample["text"].encode())):
                info = tarfile.TarInfo(key + "." + ext)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
                expected[(key, ext.lower())] = sha(data)
    return [str(path)], expected


def mds(folder, count, compression):
    with Absent():
        from streaming.base.format.mds.encodings import mds_encode
        from streaming.base.format.mds.writer import MDSWriter
    out = folder / f"mds-{compression or 'raw'}".replace(":", "-")
    columns = {
        "picture": "jpeg", "drawing": "png", "Caption": "str", "meta": "json", "number": "int", "small": "uint8",
        "vector": "ndarray:float32", "fixed": "ndarray:int16:2,3", "frames": "list[jpeg]", "blob": "bytes"
    }
    expected = {}
    rows = []
    for i, sample in enumerate(samples(count)):
        frames = [picture(i + k, 16, 16, "JPEG") for k in range(i % 4)]
        rows.append({
            "picture": Image.open(io.BytesIO(picture(i, 24, 16, "JPEG"))),
            "drawing": Image.open(io.BytesIO(picture(i, 20, 16, "PNG"))),
            "Caption": sample["text"], "meta": sample["json"], "number": i - 3, "small": i % 256,
            "vector": np.arange(1 + i % 7, dtype=np.float32), "fixed": np.arange(6, dtype=np.int16).reshape(2, 3) + i,
            "frames": [Image.open(io.BytesIO(frame)) for frame in frames], "blob": bytes([i % 256]) * (i % 50)
        })
    with MDSWriter(out=str(out), columns=columns, compression=compression, hashes=["sha1"], size_limit=count * 1500) as writer:
        for row in rows:
            writer.write(row)
    index = json.loads((out / "index.json").read_text())
    at = 0
    for number, shard in enumerate(index["shards"]):
        for i in range(shard["samples"]):
            key = f"shard.{number:05d}/{i}"
            for column, encoding in columns.items():
                if column == "frames":
                    for k, frame in enumerate(rows[at]["frames"]):
                        expected[(key, "frames" if k == 0 else f"{k}.frames")] = sha(mds_encode("jpeg", frame))
                else:
                    expected[(key, column.lower())] = sha(mds_encode(encoding, rows[at][column]))
            at += 1
    assert at == count and len(index["shards"]) > 1
    return [str(out / "index.json")], expected


def img2dataset_layout(folder, count):
    """Its own writer; keys in the order in which downloads ended, failures only in the parquet."""
    import pyarrow
    spec = importlib.util.find_spec("img2dataset")
    source = pathlib.Path(spec.submodule_search_locations[0]) / "writer.py"
    spec = importlib.util.spec_from_file_location("img2dataset_writer", source)
    writer_module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(writer_module)
    out = folder / "img2dataset"
    out.mkdir()
    names = ["url", "caption", "key", "status", "error_message", "sha256"]
    schema = pyarrow.schema([(name, pyarrow.string()) for name in names] +
                            [(name, pyarrow.int32()) for name in ("width", "height", "original_width", "original_height")])
    expected = {}
    for shard in range(2):
        writer = writer_module.WebDatasetSampleWriter(shard, str(out), True, 5, schema, "jpg")
        order = sorted(range(count), key=lambda i: (i * 7919 + shard) % count)
        for i in order:
            key = f"{shard:05d}{i:04d}"
            data = picture(i + shard, 32, 20, "JPEG")
            failed = i % 5 == 4
            meta = {"url": f"https://example.com/{i}", "caption": None if i % 7 == 0 else f"caption {i}", "key": key,
                    "status": "failed_to_download" if failed else "success",
                    "error_message": "HTTP Error 404" if failed else None, "sha256": None if failed else sha(data),
                    "width": 32, "height": 20, "original_width": 64, "original_height": 40}
            writer.write(None if failed else data, key, meta["caption"], meta)
            if not failed:
                expected[(key, "jpg")] = sha(data)
                expected[(key, "txt")] = sha((meta["caption"] or "").encode())
                expected[(key, "json")] = sha(json.dumps(meta, indent=4).encode())
        writer.close()
        (out / f"{shard:05d}_stats.json").write_text(json.dumps({"count": count, "successes": count - count // 5}))
    return [str(out / "{00000..00001}.tar")], expected


def llava_json(folder, count):
    """LLaVA's list of conversations and ALBEF's captions, pictures as files."""
    (folder / "pictures").mkdir()
    records, captions, expected = [], [], {}
    for i, sample in enumerate(samples(count)):
        name = f"pictures/{i}.{sample['extension']}"
        (folder / name).write_bytes(sample["image"])
        record = {"id": f"r{i}", "conversations": [{"from": "human", "value": "<image>\nWhat? " + sample["text"]},
                                                   {"from": "gpt", "value": sample["text"] + "{[\"}"}]}
        if i % 4:
            record["image"] = name
            expected[(f"r{i}", sample["extension"])] = sha(sample["image"])
        records.append(record)
        captions.append({"image": name, "caption": sample["text"] if i % 2 else [sample["text"], "second"]})
        expected[(f"captions/{i}", sample["extension"])] = sha(sample["image"])
        expected[(f"captions/{i}", "txt")] = sha(sample["text"].encode())
        if i % 2 == 0:
            expected[(f"captions/{i}", "1.txt")] = sha(b"second")
    text = "[" + ",\n ".join(json.dumps(r) for r in records) + "]\n"
    (folder / "llava.json").write_text(text)
    (folder / "captions.json").write_text(json.dumps(captions, indent=2, ensure_ascii=False))
    for i, record in enumerate(records):
        expected[(f"r{i}", "json")] = sha(json.dumps(record).encode())
    found = (folder / "captions.json").read_text()
    at = 0
    for i in range(count):
        begin = found.index("{", at)
        _, length = json.JSONDecoder().raw_decode(found[begin:])
        expected[(f"captions/{i}", "json")] = sha(found[begin:begin + length].encode())
        at = begin + length
    return [str(folder / "llava.json"), str(folder / "captions.json")], expected


# --- the comparison --------------------------------------------------------------------------------------------------


def weft_reads(weft, patterns):
    out = subprocess.run([weft, "data", "cat", *patterns, "--hash", "--limit", "0"], check=True, capture_output=True)
    found = {}
    for line in out.stdout.decode().splitlines():
        key, ext, digest = line.rsplit("\t", 2)
        assert (key, ext) not in found, f"{key}.{ext} comes twice"
        found[(key, ext)] = digest
    return found


def webdataset_reads(pattern):
    import webdataset
    found = {}
    for sample in webdataset.WebDataset(pattern, shardshuffle=False):
        for ext, data in sample.items():
            if not ext.startswith("__"):
                found[(sample["__key__"], ext)] = sha(data)
    return found


def compare(name, expected, found, report):
    wrong = [key for key in expected if found.get(key) != expected[key]] + [key for key in found if key not in expected]
    report[name] = {"members": len(expected), "equal": len(expected) - len([k for k in wrong if k in expected]),
                    "not_expected": len([k for k in wrong if k not in expected])}
    print(f"{name:44} {report[name]['equal']:6} of {len(expected):6} members equal" +
          (f"; first that differs: {wrong[0]}" if wrong else ""), flush=True)
    return not wrong


def sources(folder, count):
    yield "Weft reads webdataset, tar", webdataset_writer(folder, count, "wds.tar")
    yield "Weft reads webdataset, tar.gz", webdataset_writer(folder, count, "wds.tar.gz", compress=True)
    yield "Weft reads tarfile, PAX", pax_by_python(folder, count, "pax")
    yield "Weft reads tarfile, GNU", pax_by_python(folder, count, "gnu")
    yield "Weft reads MosaicML MDS", mds(folder, count, None)
    yield "Weft reads MosaicML MDS, zstd", mds(folder, count, "zstd:7")
    yield "Weft reads MosaicML MDS, gz", mds(folder, count, "gz:5")
    yield "Weft reads img2dataset's layout", img2dataset_layout(folder, count)
    yield "Weft reads LLaVA and ALBEF JSON", llava_json(folder, count)


def packed(weft, folder, patterns, expected):
    """`weft data pack` of what Weft has just read: webdataset must read the same members, up to the names of columns."""
    out = folder / "packed"
    subprocess.run([weft, "data", "pack", *patterns, "--out", str(out), "--samples", "100"], check=True, capture_output=True)
    return expected, webdataset_reads([str(p) for p in sorted(out.glob("*.tar"))])


def run(weft, report_path, count):
    report = {}
    good = True
    with tempfile.TemporaryDirectory(prefix="weft-crosscheck-") as name:
        folder = pathlib.Path(name)
        for what, (patterns, expected) in sources(folder, count):
            good &= compare(what, expected, weft_reads(weft, patterns), report)
            if what in ("Weft reads webdataset, tar", "Weft reads img2dataset's layout"):
                wanted, found = packed(weft, folder, patterns, expected)
                good &= compare(what.replace("Weft reads", "webdataset reads Weft's shards of"), wanted, found, report)
                shutil.rmtree(folder / "packed")
    path = pathlib.Path(report_path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1) + "\n")
    return good


def write_fixtures(folder, count):
    """Small files and hashes.tsv, which says for each what Weft must read: FILE key extension sha256."""
    folder = pathlib.Path(folder)
    os.makedirs(folder, exist_ok=True)
    lines = []
    for _, (patterns, expected) in sources(folder, count):
        for (key, ext), digest in sorted(expected.items()):
            lines.append("\t".join([";".join(os.path.relpath(p, folder) for p in patterns), key, ext, digest]))
    (folder / "hashes.tsv").write_text("\n".join(lines) + "\n")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--weft")
    parser.add_argument("--report", default="build/reports/loader-crosscheck.json")
    parser.add_argument("--samples", type=int, default=400)
    parser.add_argument("--write-fixtures")
    args = parser.parse_args()
    if args.write_fixtures:
        write_fixtures(args.write_fixtures, 6)
        return 0
    return 0 if run(args.weft, args.report, args.samples) else 1


if __name__ == "__main__":
    sys.exit(main())
