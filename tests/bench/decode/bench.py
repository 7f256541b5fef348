"""The way from shards to batches, Weft's and the peers', on the same pictures, in turn; see run.sh.

  bench.py BIN_FOLDER IMAGES REPORT PYTHON [SIMD_PYTHON]

Repeats alternate over all contenders, each on one core; images a second are of CPU time, so that others on the machine
disturb less, and the table gives medians. The exit code does not depend on the ratios.
"""
import json
import os
import pathlib
import statistics
import subprocess
import sys

SIZES = ("256", "512", "768")
REPEATS = int(os.environ.get("REPEATS", "5"))
TARGETS = {"FAST": {"256": 4, "512": 2.5, "768": 2.5}, "EXACT": {"256": 1.5, "512": 1.5, "768": 1.5}}
COEFFICIENT_TARGETS = {"0.9-1": {"256": 0.60, "512": 0.68, "768": 0.68}, "0.2-1": {"256": 0.75, "512": 0.75, "768": 0.75}}
PEERS = ("webdataset_pillow", "webdataset_pillow_simd", "webdataset_torchvision", "mosaicml_streaming", "litdata", "energon")


def pinned(command, core):
    return ["taskset", "-c", str(core), *command]


class Peer:
    """A process that answers one line with one line."""

    def __init__(self, name, python, images, core):
        self.failed = None
        script = pathlib.Path(__file__).with_name("peers.py")
        self.process = subprocess.Popen(pinned([python, str(script), name, images], core), stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        first = self.process.stdout.readline()
        if not first:
            self.failed = "it does not start"
        self.versions = json.loads(first) if first else {}

    def measure(self, size):
        if self.failed:
            return None
        self.process.stdin.write(f"{size} 0.9\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline() or '{"failed": "it died"}')
        self.failed = answer.get("failed")
        return None if self.failed else answer["images"] / answer["cpu_s"]

    def close(self):
        self.process.stdin.close()
        self.process.wait(timeout=60)


def weft(folder, images, vocabulary, size, mode, cores, threads=1):
    command = [str(folder / "weft_decode_path_bench"), f"{images}/{size}/wds/0.tar", "--vocabulary", vocabulary, "--mode", mode,
               "--threads", str(threads), "--batches", "14"]
    line = subprocess.run(pinned(command, cores), check=True, capture_output=True, text=True).stdout.splitlines()[-1]
    answer = json.loads(line)
    return answer["images"] / answer["cpu_s"], answer["images"] / answer["wall_s"]


def stages(folder, images, size, core):
    out = pathlib.Path(images) / f"stages-{size}.json"
    files = sorted(str(p) for p in (pathlib.Path(images) / size / "jpg").iterdir())
    subprocess.run(pinned([str(folder / "weft_decode_bench"), "--repeats", str(REPEATS), "--json", str(out), *files], core),
                   check=True, stdout=subprocess.DEVNULL)
    return json.loads(out.read_text())


def middle(values):
    return statistics.median(values) if values else None


def whole_path(folder, images, vocabulary, pythons, core):
    peers = {n: Peer(n, pythons["simd" if "simd" in n else "pip"], images, core)
             for n in PEERS if pythons["simd" if "simd" in n else "pip"]}
    rates = {(n, s): [] for n in (*peers, "FAST", "EXACT") for s in SIZES}
    for _ in range(REPEATS):
        for size in SIZES:
            for mode in ("FAST", "EXACT"):
                rates[mode, size].append(weft(folder, images, vocabulary, size, mode, core)[0])
            for name, peer in peers.items():
                rate = peer.measure(size)
                if rate:
                    rates[name, size].append(rate)
    failed = {n: p.failed for n, p in peers.items() if p.failed}
    versions = {n: p.versions for n, p in peers.items()}
    for peer in peers.values():
        peer.close()
    failed.update({n: "not installed here" for n in PEERS if n not in peers})
    return {n: {s: middle(rates[n, s]) for s in SIZES} for n in (*peers, "FAST", "EXACT")}, failed, versions


def main():
    folder, images, report, python = pathlib.Path(sys.argv[1]), sys.argv[2], pathlib.Path(sys.argv[3]), sys.argv[4]
    pythons = {"pip": python, "simd": sys.argv[5] if len(sys.argv) > 5 else None}
    core = max(os.sched_getaffinity(0))
    vocabulary = subprocess.run([python, "-c", "import open_clip, pathlib; print(next(pathlib.Path(open_clip.__file__).parent.glob('bpe*')))"],
                                check=True, capture_output=True, text=True).stdout.strip()
    rates, failed, versions = whole_path(folder, images, vocabulary, pythons, core)
    result = {"images_per_cpu_second": rates, "without": failed, "versions": versions, "repeats": REPEATS, "ratios": {},
              "of_jpeg_read_coefficients": {}, "threads": {}}
    print(f"{'images a CPU second, RRC(0.9-1)':34}" + "".join(f"{s:>10}" for s in SIZES))
    for name, row in rates.items():
        print(f"{name:34}" + "".join(f"{row[s] or 0:10.0f}" for s in SIZES))
    for mode, targets in TARGETS.items():
        best = {s: max((rates[n][s] or 0) for n in rates if n not in TARGETS) for s in SIZES}
        ratio = {s: rates[mode][s] / best[s] for s in SIZES if best[s]}
        result["ratios"][mode] = ratio
        print(f"{mode + ' / fastest peer (target)':34}" + "".join(f"{ratio[s]:5.2f} ({targets[s]})" for s in ratio))
    for size in SIZES:
        result["of_jpeg_read_coefficients"][size] = stages(folder, images, size, core)
    for crop, targets in COEFFICIENT_TARGETS.items():
        print(f"{'FAST / jpeg_read_coefficients, ' + crop:34}" + "".join(
            f"{result['of_jpeg_read_coefficients'][s][f'FAST, RRC({crop})']['of_jpeg_read_coefficients']:5.2f} ({targets[s]})"
            for s in SIZES))
    cores = sorted(os.sched_getaffinity(0))
    for threads in (1, 2):
        use = ",".join(str(c) for c in cores[:threads])
        runs = [weft(folder, images, vocabulary, "512", "FAST", use, threads) for _ in range(REPEATS)]
        result["threads"][threads] = {"images_per_cpu_second": middle([r[0] for r in runs]),
                                      "images_per_second": middle([r[1] for r in runs])}
        print(f"{threads} thread(s), 512, FAST: {middle([r[1] for r in runs]):.0f} images/s of the clock, "
              f"{middle([r[0] for r in runs]):.0f} a CPU second")
    for name, reason in failed.items():
        print(f"without {name}: {reason}")
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text(json.dumps(result, indent=1) + "\n")
    print(f"written to {report}")


if __name__ == "__main__":
    main()
