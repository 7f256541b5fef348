"""One data loader over the pictures that images.py made, as its own documentation uses it: no worker processes, one thread.

  peers.py PEER FOLDER VOCABULARY

Reads lines "SIZE SCALE_MIN" and answers each with a line of JSON: images, seconds of CPU and of the clock for one pass in
batches of 64 after a warm-up batch. Whole path: page cache, decode, RandomResizedCrop(224, bicubic), flip, normalise,
CLIP's tokens.
"""
import itertools
import json
import os
import pathlib
import sys
import time

os.environ["OMP_NUM_THREADS"] = "1"
import torch  # noqa: E402

torch.set_num_threads(1)
import open_clip  # noqa: E402
from torchvision import io as tvio  # noqa: E402
from torchvision import transforms as v1  # noqa: E402
from torchvision.transforms import InterpolationMode, v2  # noqa: E402

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
BATCH = 64
tokenize = open_clip.SimpleTokenizer()


def pil_transform(scale):
    return v1.Compose([
        v1.RandomResizedCrop(224, (scale, 1), interpolation=InterpolationMode.BICUBIC),
        v1.RandomHorizontalFlip(), v1.ToTensor(), v1.Normalize(MEAN, STD)
    ])


def tensor_transform(scale):
    crop = v2.Compose([
        v2.RandomResizedCrop(224, (scale, 1), interpolation=InterpolationMode.BICUBIC, antialias=True),
        v2.RandomHorizontalFlip(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)
    ])
    return lambda data: crop(tvio.decode_jpeg(torch.frombuffer(bytearray(data), dtype=torch.uint8), tvio.ImageReadMode.RGB))


def open_pil(data):
    import io
    from PIL import Image
    return Image.open(io.BytesIO(data)).convert("RGB")


def collate(rows):
    return torch.stack([r[0] for r in rows]), torch.cat([r[1] for r in rows])


def text(value):
    return tokenize(value if isinstance(value, str) else value.decode())


def webdataset_pil(folder, scale):
    import webdataset as wds
    transform = pil_transform(scale)
    set_ = wds.WebDataset(str(folder / "wds" / "0.tar"), shardshuffle=False).decode("pilrgb").to_tuple("jpg", "txt")
    set_ = set_.map_tuple(transform, text).batched(BATCH, collation_fn=collate)
    return iter(wds.WebLoader(set_, batch_size=None, num_workers=0))


def webdataset_torchvision(folder, scale):
    import webdataset as wds
    transform = tensor_transform(scale)
    set_ = wds.WebDataset(str(folder / "wds" / "0.tar"), shardshuffle=False).to_tuple("jpg", "txt")
    set_ = set_.map_tuple(transform, text).batched(BATCH, collation_fn=collate)
    return iter(wds.WebLoader(set_, batch_size=None, num_workers=0))


class Mapped(torch.utils.data.IterableDataset):

    def __init__(self, set_, image):
        self.set, self.image = set_, image

    def __iter__(self):
        return ((self.image(row["jpg"]), text(row["txt"])) for row in self.set)


def streaming(folder, scale):
    from streaming import StreamingDataset
    transform = pil_transform(scale)
    set_ = Mapped(StreamingDataset(local=str(folder / "mds"), batch_size=BATCH), lambda data: transform(open_pil(data)))
    return iter(torch.utils.data.DataLoader(set_, BATCH, num_workers=0, collate_fn=collate))


def litdata(folder, scale):
    from litdata import StreamingDataset
    set_ = Mapped(StreamingDataset(str(folder / "lit")), tensor_transform(scale))
    return iter(torch.utils.data.DataLoader(set_, BATCH, num_workers=0, collate_fn=collate))


def energon(folder, scale):
    from megatron.energon import DefaultTaskEncoder, WorkerConfig, get_loader, get_train_dataset
    transform = pil_transform(scale)

    class Encoder(DefaultTaskEncoder):

        def encode_sample(self, sample):
            return transform(sample.image), text(sample.caption)

        def batch(self, samples):
            return collate(samples)

    from megatron.energon import SampleDecoder

    class Pil(Encoder):
        decoder = SampleDecoder(image_decode="pilrgb")

    config = WorkerConfig(rank=0, world_size=1, num_workers=0)
    set_ = get_train_dataset(str(folder / "energon"), worker_config=config, batch_size=BATCH, shuffle_buffer_size=None,
                             max_samples_per_sequence=None, task_encoder=Pil(), repeat=False)
    return iter(get_loader(set_))


PEERS = {
    "webdataset_pillow": webdataset_pil,
    "webdataset_pillow_simd": webdataset_pil,
    "webdataset_torchvision": webdataset_torchvision,
    "mosaicml_streaming": streaming,
    "litdata": litdata,
    "energon": energon,
}


def measure(peer, folder, scale):
    batches = PEERS[peer](folder, scale)
    next(batches)
    images, cpu, wall = 0, time.process_time(), time.perf_counter()
    for pixels, ids in itertools.islice(batches, 2):
        images += len(pixels)
        assert pixels.shape[1:] == (3, 224, 224) and ids.shape[1] == 77
    return {"images": images, "cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - wall}


def main():
    peer, root = sys.argv[1], pathlib.Path(sys.argv[2])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    import PIL
    print(json.dumps({"pillow": PIL.__version__, "torch": torch.__version__}), file=answers, flush=True)
    for line in sys.stdin:
        size, scale = line.split()
        try:
            answer = measure(peer, root / size, float(scale))
        except Exception as error:  # the report names it
            answer = {"failed": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
